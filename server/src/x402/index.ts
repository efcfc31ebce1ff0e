export { type BatchCall, encodeBatch, judgeBatchReceipt } from './batch-call.ts';
export { type Chain, createChain } from './chain.ts';
export {
  claimPayment,
  findStoredResponse,
  isForSameRequest,
  mayFetch,
  type Presenter,
  reopenPayment,
  retryAttempt,
  storeResponse,
} from './claims.ts';
export {
  type Authorization,
  findTermsFault,
  isSignedByPayer,
  type PaymentFault,
  type Terms,
  transferTypedData,
} from './exact.ts';
export { type Network, networks } from './networks.ts';
export { hasLiveLease, type Payment, type StoredResponse } from './payment.ts';
export { type Claim, findClaim } from './payments.sql.ts';
export { ChainUnavailableError } from './rpc-batch.ts';
export { ensureRelayer } from './relayers.ts';
export { signatureBackend } from './secp256k1.ts';
export { settledTopic } from './settle-batch.ts';
export { createSettler, type Settlement, type Settler } from './settler.ts';
export {
  decodePayment,
  decodePaymentRequired,
  encodePayment,
  encodePaymentRequired,
  encodeSettlement,
  PaymentRequired,
  paymentRequired,
  type ReceivedPayment,
  v2Headers,
} from './wire-v2.ts';
