export { applyTransfers, post, reserve, transfer, voidTransfer } from './apply-transfers.ts';
export { balanceOf, findDiscrepancies } from './ledger.sql.ts';
export { createTransferLane, type Decided, type TransferLane } from './transfer-lane.ts';
export {
  type Account,
  type AccountName,
  type Balance,
  type Movement,
  type Operation,
  type TransferName,
  type TransferResult,
} from './transfer.ts';
