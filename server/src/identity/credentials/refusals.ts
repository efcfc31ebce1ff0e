import {
  type AuditEvent,
  type Origin,
  type Scope,
  type Sql,
  writeBatch,
  type WriteContext,
} from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { isAgentId, isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { countRefusals, findAccused, sweepFailures, takeRefusals } from './failed-attempts.sql.ts';

/** That a credential was refused, as the audit log is told. */
export interface Refusal {
  origin: Origin;
  action: 'agent.refresh_refused' | 'agent.token_refused';
  /** What was sent in the place of a client's name; it may be anything, a misplaced secret as well. */
  clientName: string;
  /** By which way the caller wanted to show who it is. */
  method: string;
  /** What was wrong, in our words, where that tells the owner more. */
  reason?: string;
}

const unknown = 'unknown';

/**
 * The audit events of these refusals. They belong to the environment of the agent that was asked for, so that its owner sees the
 * guessing. In a quarter of an hour each of the first has an event; after that only one at each power of two, which says for how many
 * it stands, so that nobody fills the log of somebody else.
 */
export async function writeDownRefusals(
  sql: Sql,
  refusals: readonly Refusal[],
  now: Date,
): Promise<AuditEvent[]> {
  if (refusals.length === 0) return [];
  const accused = await findAccused(sql, [...new Set(refusals.map(({ clientName }) => clientName))]);
  const byName = new Map(accused.map((one) => [one.name, one]));
  const placed = refusals.map((refusal) => {
    const agent = byName.get(refusal.clientName);
    return { refusal, agentId: agent?.agentId ?? unknown, scope: agent?.environmentId ?? 'instance' };
  });
  const byAgent = Map.groupBy(placed, ({ agentId }) => agentId);
  const rows = [...byAgent].map(([agentId, [first, ...others]]) => ({
    agentId,
    scope: (first?.scope ?? 'instance') satisfies Scope,
    count: 1 + others.length,
  }));
  const counts = new Map((await countRefusals(sql, rows, now)).map(({ agentId, count }) => [agentId, count]));
  return [...byAgent].flatMap(([agentId, group]) => {
    const before = (counts.get(agentId) ?? group.length) - group.length;
    return group.flatMap(({ refusal, scope }, index) => {
      const number = before + index + 1;
      if (!hasEvent(number)) return [];
      return [eventOf(refusal, { agentId, scope, count: number - lastWithEvent(number - 1) })];
    });
  });
}

function eventOf(
  { origin, action, clientName, method, reason }: Refusal,
  { agentId, scope, count }: { agentId: string; scope: Scope; count: number },
): AuditEvent {
  const isName = isAgentId(clientName) || isId('client', clientName);
  const resource = agentId === unknown && isName ? clientName : agentId;
  return {
    ...origin,
    scope,
    action,
    resource,
    data: { method, ...(reason === undefined ? {} : { reason }), refusals: count },
  };
}

/** Whether the so-many-th refusal of a quarter of an hour has an event of its own. */
export function hasEvent(number: number): boolean {
  return number <= limits.refusalsWithEvent || Number.isInteger(Math.log2(number));
}

/** The last one up to this number that has. */
export function lastWithEvent(number: number): number {
  if (number <= limits.refusalsWithEvent) return number;
  return Math.max(limits.refusalsWithEvent, 2 ** Math.floor(Math.log2(number)));
}

/** Forgets failures of a quarter of an hour ago, and writes one event for the refusals of each agent that have none yet. */
export async function sweepRefusals(context: WriteContext): Promise<void> {
  const before = addSeconds(context.clock.now(), -limits.guessMemorySeconds);
  await sweepFailures(context.db, before);
  while ((await sweepBatch(context, before)) === limits.sweepBatch);
}

/** Gives how many agents' there were. */
async function sweepBatch(context: WriteContext, before: Date): Promise<number> {
  return writeBatch(context, async (sql) => {
    const rows = await takeRefusals(sql, before, limits.sweepBatch);
    const audits = rows.flatMap(({ agentId, environmentId, count }): AuditEvent[] => {
      const rest = count - lastWithEvent(count);
      if (rest === 0) return [];
      const { actor, requestId, clientAddress } = context;
      const data = { refusals: rest };
      const origin = { actor, requestId, clientAddress };
      return [{ ...origin, scope: environmentId, action: 'agent.token_refused', resource: agentId, data }];
    });
    return { result: rows.length, audits };
  });
}
