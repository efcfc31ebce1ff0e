export { applyTransfers, post, reserve, transfer, voidTransfer } from './apply-transfers.ts';
export { balanceOf, findDiscrepancies } from './ledger.sql.ts';
export { createTransferLane } from './transfer-lane.ts';
export { type AccountName, type Movement, type Operation, type TransferResult } from './transfer.ts';
