export { type BatchCall, encodeBatch, judgeBatchReceipt } from './chain/batch-call.ts';
export { type Chain, createChain } from './chain/chain.ts';
export { isForSameRequest, mayFetch } from './claims/claims.ts';
export { type CreditAlgorithm, type CreditKey } from './credits/credit-payment.ts';
export { creditCurrency, creditFacts, creditsRail, type CreditTerms } from './credits/credits-rail.ts';
export {
  findOwed,
  finishDelivery,
  refundAuthorization,
  refundOf,
  releaseDelivery,
  takeDelivery,
} from './claims/deliveries.ts';
export {
  type Authorization,
  type ExactPayment,
  type PaymentFault,
  type Terms,
  transferTypedData,
} from './exact/exact.ts';
export { facilitatorRoutes } from './facilitator/facilitator-routes.ts';
export { canBePaid } from './chain/payee.ts';
export { findNetwork, type Network, networks } from './networks.ts';
export {
  exactFacts,
  hasLiveLease,
  type Payment,
  type PaymentFacts,
  type PaymentTarget,
  type SettlementMode,
  type StoredResponse,
} from './payments/payment.ts';
export type { NewClaim, Presenter } from './claims/lane-jobs.ts';
export { createCreditVerifier, type CreditVerifier } from './credits/credit-verifier.ts';
export { createPaymentLane, type PaymentLane } from './claims/payment-lane.ts';
export { paymentRoutes, spellPayer } from './payments/payment-routes.ts';
export { presentToPayer } from './payments/payment-view.ts';
export { type Claim, findClaim, findListedPayment, findStoredBytes } from './payments/payments.sql.ts';
export { ChainUnavailableError } from './chain/json-rpc.ts';
export type { ClaimRefusal, KnownBalance, OwedLimits } from './claims/plan-claims.ts';
export { attemptSeconds, exactRail, type Rail } from './rail.ts';
export { findLowRelayers } from './settlement/operate-relayers.ts';
export { relayerRoutes } from './settlement/relayer-routes.ts';
export { ensureRelayer } from './settlement/relayers.ts';
export { resumeCredits } from './credits/resume-credits.ts';
export { checksumAddress } from './exact/checksum-address.ts';
export { signatureBackend } from './exact/secp256k1.ts';
export { settledTopic, undoneTopic } from './payments/payment-events.ts';
export type { AnswerSettlement, Settlement } from './settlement/settlement.ts';
export { hasRunOut } from './settlement/unused-nonce.ts';
export { concludeUndone, findLapsed, renewRefund } from './settlement/refunds.ts';
export { createSettler, type Settler } from './settlement/settler.ts';
export { attemptLeaseSeconds, findStoredResponse } from './claims/stored-response.ts';
export type { ReceivedCredit, ReceivedPayment, SettlementOutcome, X402Version } from './wire/wire.ts';
export {
  decodePaymentV1,
  encodePaymentV1,
  encodeSettlementV1,
  findNetworkNameV1,
  PaymentRequiredV1,
  paymentRequiredV1,
  v1Headers,
} from './wire/wire-v1.ts';
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
} from './wire/wire-v2.ts';
