export {
  type ClientOptions,
  createClient,
  type CredenceClient,
  CredenceError,
  type Problem,
  unwrap,
} from './client.ts';
export { createPayingFetch, type PayingFetchOptions, type SignedPayment } from './paying-fetch.ts';
