export {
  type AgentCredential,
  type CredentialDemands,
  CredentialError,
  type CredentialFault,
  verifyAgentCredential,
} from './agent-credential.ts';
export { type AgentLogin, type AgentLoginAnswer, createAgentLogin, type SharedLogin } from './agent-login.ts';
export {
  type ClientOptions,
  createClient,
  type CredenceClient,
  CredenceError,
  type Problem,
  unwrap,
} from './client.ts';
export {
  type CreditsScheme,
  creditsScheme,
  type CreditsSchemeOptions,
  type PrivateJwk,
} from './credits-scheme.ts';
export {
  createPayingFetch,
  type PayingFetchOptions,
  type PaymentTerms,
  type SignedPayment,
} from './paying-fetch.ts';
export { type PaymentSettlement, readSettlement } from './settlement.ts';
