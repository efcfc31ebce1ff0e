export { closeExpired, followSettlements } from './close-outgoing-payments.ts';
export { type CreditKeys, creditKeysChangedChannel, createCreditKeys } from './credit-keys.ts';
export { registerCreditKey } from './register-credit-key.ts';
export { issueCredits } from './issue-credits.ts';
export { refundUndelivered, signRefund, tendRefunds } from './refund.ts';
export { walletRoutes } from './routes.ts';
export { createWallet, findWallet, type Wallet } from './wallet.ts';
