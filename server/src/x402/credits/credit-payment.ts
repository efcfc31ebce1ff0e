import type { KeyObject } from 'node:crypto';
import { AppError } from '../../kernel/errors.ts';
import { type EnvironmentId, isId } from '../../kernel/ids.ts';
import type { Payment } from '../payments/payment.ts';

/** The network of prepaid credits of this instance: its ledger is the chain. */
export const creditsNetwork = 'credence:credits';

/** The `typ` of a credit payment (RFC 8725 section 3.11): no other token of ours is taken for one. */
export const creditType = 'credence-credit+jwt';

/** An algorithm belongs to the key that was registered; the header only repeats it (RFC 8725 section 3.1). */
export type CreditAlgorithm = 'ES256' | 'EdDSA';

/** A key that pays with an environment's credits. */
export interface CreditKey {
  environmentId: EnvironmentId;
  kid: string;
  algorithm: CreditAlgorithm;
  publicKey: KeyObject;
  /** What the environment's credits are in; see `creditCurrency`. */
  currency: string;
}

/** A credit payment as it came: a compact JWS (RFC 7515 section 7.1), well-formed and not yet believed. */
export interface CreditPayment {
  jws: string;
  header: { alg: unknown; typ: unknown; kid: string; critical: boolean };
  /** Whose credits pay, and whom. */
  payer: string;
  payee: string;
  /** The currency of the credits. */
  asset: string;
  amount: bigint;
  nonce: string;
  /** The gateway that may take it. */
  audience: unknown;
  /** Unix seconds: `nbf`, or else `iat`. */
  validAfter: number;
  expiresAt: number;
}

/** One payment has one name: a nonce of visible characters, long enough not to be guessed or repeated. */
const noncePattern = /^[\w-]{16,64}$/;
const partPattern = /^[\w-]+$/;

/** Reads a credit payment. Throws `invalid_payment` saying what is wrong with its form. */
export function readCreditPayment(jws: string): CreditPayment {
  const [head = '', body = '', signature = '', ...more] = jws.split('.');
  if (more.length > 0 || ![head, body, signature].every((part) => partPattern.test(part)))
    throw malformed('is no compact JWS');
  const header = readPart(head, 'header');
  const claims = readPart(body, 'claims');
  const { kid } = header;
  const { payer, payee, asset, amount, jti, iat, nbf = iat, exp } = claims;
  if (typeof kid !== 'string') throw malformed('names no key (kid)');
  if (typeof payer !== 'string' || !isId('environment', payer)) throw malformed('names no payer');
  if (typeof payee !== 'string' || !isId('environment', payee)) throw malformed('names no payee');
  if (typeof asset !== 'string' || !/^[A-Za-z.]{1,32}$/.test(asset)) throw malformed('names no asset');
  if (typeof amount !== 'string' || !/^[1-9][0-9]{0,77}$/.test(amount)) throw malformed('has no amount');
  if (typeof jti !== 'string' || !noncePattern.test(jti))
    throw malformed('needs a jti of 16 to 64 letters, digits, - or _');
  if (!isSeconds(iat) || !isSeconds(nbf) || !isSeconds(exp)) throw malformed('needs iat and exp in seconds');
  return {
    jws,
    header: { alg: header['alg'], typ: header['typ'], kid, critical: 'crit' in header },
    payer,
    payee,
    asset,
    amount: BigInt(amount),
    nonce: jti,
    audience: claims['aud'],
    validAfter: Math.max(iat, nbf),
    expiresAt: exp,
  };
}

export function isCreditPayment({ network }: Pick<Payment, 'network'>): boolean {
  return network === creditsNetwork;
}

/** The ledger's transfer for one attempt: each attempt reserves anew, as what an earlier one had reserved was given back. */
export function transferKey({ id, attempt }: Pick<Payment, 'attempt' | 'id'>): string {
  return `${id}/${attempt}`;
}

function isSeconds(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function readPart(part: string, name: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(part, 'base64url').toString());
  } catch {
    throw malformed(`has no JSON in its ${name}`);
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw malformed(`has no object in its ${name}`);
  return value as Record<string, unknown>;
}

function malformed(what: string): AppError {
  return new AppError('invalid_payment', `The credit payment ${what}`);
}
