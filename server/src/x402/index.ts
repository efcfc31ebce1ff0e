export { type BatchCall, encodeBatch, judgeBatchReceipt } from './batch-call.ts';
export { type Chain, createChain } from './chain.ts';
export { isForSameRequest, mayFetch } from './claims.ts';
export { type CreditAlgorithm, type CreditKey } from './credit-payment.ts';
export { creditCurrency, creditFacts, creditsRail, type CreditTerms } from './credits-rail.ts';
export {
  type DeliveryEnd,
  findOwed,
  finishDelivery,
  refundAuthorization,
  refundOf,
  releaseDelivery,
  takeDelivery,
} from './deliveries.ts';
export {
  type Authorization,
  type ExactPayment,
  type PaymentFault,
  type Terms,
  transferTypedData,
} from './exact.ts';
export { facilitatorRoutes } from './facilitator-routes.ts';
export { findNetwork, type Network, networks } from './networks.ts';
export {
  exactFacts,
  hasLiveLease,
  type Payment,
  type PaymentFacts,
  type PaymentTarget,
  type SettlementMode,
  type StoredResponse,
} from './payment.ts';
export { createPaymentLane, type NewClaim, type PaymentLane, type Presenter } from './payment-lane.ts';
export { paymentRoutes, spellPayer } from './payment-routes.ts';
export { presentToPayer } from './payment-view.ts';
export { type Claim, findClaim, findListedPayment } from './payments.sql.ts';
export { ChainUnavailableError } from './json-rpc.ts';
export type { ClaimRefusal, KnownBalance, OwedLimits } from './plan-claims.ts';
export { attemptSeconds, exactRail, type Rail } from './rail.ts';
export { findLowRelayers } from './operate-relayers.ts';
export { relayerRoutes } from './relayer-routes.ts';
export { ensureRelayer } from './relayers.ts';
export { resumeCredits } from './resume-credits.ts';
export { signatureBackend } from './secp256k1.ts';
export { settledTopic } from './settle-batch.ts';
export type { Settlement } from './settlement.ts';
export { createSettler, type Settler } from './settler.ts';
export { findStoredResponse } from './stored-response.ts';
export type { ReceivedCredit, ReceivedPayment, SettlementOutcome, X402Version } from './wire.ts';
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
  decodeAnyPayment,
  decodePayment,
  decodePaymentRequired,
  encodePayment,
  encodePaymentRequired,
  encodeSettlement,
  PaymentRequired,
  paymentRequired,
  v2Headers,
} from './wire-v2.ts';
