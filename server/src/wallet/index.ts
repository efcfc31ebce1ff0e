export { captureSettled, closeExpired } from './close-outgoing-payments.ts';
export { refundUndelivered, signRefund } from './refund.ts';
export { walletRoutes } from './routes.ts';
export { createWallet, findWallet, type Wallet } from './wallet.ts';
