export { applyTransfers, openBook, post, reserve, transfer, voidTransfer } from './apply-transfers.ts';
export { balanceOf, findDiscrepancies } from './ledger.sql.ts';
export type { Book } from './plan-transfers.ts';
export { createTransferLane } from './transfer-lane.ts';
export { type AccountName, type Movement, type Operation, type TransferResult } from './transfer.ts';
