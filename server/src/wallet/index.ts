export { captureSettled, closeExpired } from './close-outgoing-payments.ts';
export { walletRoutes } from './routes.ts';
export { createWallet, findWallet, type Wallet } from './wallet.ts';
