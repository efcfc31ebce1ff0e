export { closeHold, findLimits, insertDelegation, insertLimit, reopenHold } from './authority.sql.ts';
export { decideAndHold, type RecordedDecision } from './decide-and-hold.ts';
export { type Limit } from './delegation.ts';
