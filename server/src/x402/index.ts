export { type BatchCall, encodeBatch, judgeBatchReceipt } from './batch-call.ts';
export { type Chain, createChain } from './chain.ts';
export {
  claimPayment,
  type ClaimRefusal,
  findStoredResponse,
  isForSameRequest,
  type KnownBalance,
  mayFetch,
  type Presenter,
  reopenPayment,
  retryAttempt,
  storeResponse,
} from './claims.ts';
export {
  type Authorization,
  type ExactPayment,
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
export type { ReceivedPayment, SettlementOutcome, X402Version } from './wire.ts';
export {
  decodePaymentV1,
  encodePaymentV1,
  encodeSettlementV1,
  findNetworkNameV1,
  PaymentRequiredV1,
  paymentRequiredV1,
  v1Headers,
} from './wire-v1.ts';
export {
  decodePayment,
  decodePaymentRequired,
  encodePayment,
  encodePaymentRequired,
  encodeSettlement,
  PaymentRequired,
  paymentRequired,
  v2Headers,
} from './wire-v2.ts';
