/** What a seller asks for, of one entry of a 402's `accepts` (x402 v2). */
interface Requirements {
  scheme: string;
  network: string;
  amount: string;
  asset: string;
  payTo: string;
  maxTimeoutSeconds: number;
  extra?: Record<string, unknown>;
}

/** A scheme as the stock x402 client takes it: `client.register('credence:credits', scheme)`. */
export interface CreditsScheme {
  readonly scheme: 'exact';
  /** Credits are counted in millionths of a dollar, so that the client's spend caps hold for them. */
  findDefaultAsset(
    asset: string,
    network: string,
  ): { asset: string; decimals: number; symbol: string } | undefined;
  createPaymentPayload(
    x402Version: number,
    requirements: Requirements,
  ): Promise<{ x402Version: number; payload: { jws: string } }>;
}

/** A private key as a JWK (RFC 7517), of P-256 or Ed25519. */
export interface PrivateJwk {
  kty?: string;
  crv?: string;
  x?: string;
  y?: string;
  d?: string;
}

/** Whose credits pay, and the key that was registered for them with `POST /v1/wallet/credit-keys`. */
export interface CreditsSchemeOptions {
  /** Private, as a JWK or a key of Web Crypto. */
  key: CryptoKey | PrivateJwk;
  /** The key's thumbprint (RFC 7638), needed only where the key can't be exported. */
  kid?: string;
  /** The id of the environment that pays, `env_…`. */
  payer: string;
  /** Unix seconds; the system's unless given. */
  now?: () => number;
}

const network = 'credence:credits';

/** Pays sellers of a Credence instance with prepaid credits there. Nothing is sent from here: a payment is a signed JWS. */
export function creditsScheme(options: CreditsSchemeOptions): CreditsScheme {
  const { payer, now = () => Math.floor(Date.now() / 1000) } = options;
  let opened: Promise<Signer> | undefined;
  return {
    scheme: 'exact',
    findDefaultAsset: (asset, of) =>
      of === network && /^USDC(?:\.sandbox)?$/.test(asset)
        ? { asset, decimals: 6, symbol: 'USDC' }
        : undefined,
    async createPaymentPayload(x402Version, { amount, asset, payTo, maxTimeoutSeconds, extra }) {
      const { alg, kid, sign } = await (opened ??= openSigner(options));
      const iat = now();
      const claims = {
        payer,
        payee: payTo,
        amount,
        asset,
        aud: extra?.['audience'],
        jti: crypto.randomUUID(),
        iat,
        exp: iat + maxTimeoutSeconds,
      };
      const input = `${encode({ alg, typ: 'credence-credit+jwt', kid })}.${encode(claims)}`;
      return { x402Version, payload: { jws: `${input}.${base64url(await sign(input))}` } };
    },
  };
}

interface Signer {
  alg: 'ES256' | 'EdDSA';
  kid: string;
  sign(input: string): Promise<Uint8Array>;
}

const algorithms = {
  ES256: { import: { name: 'ECDSA', namedCurve: 'P-256' }, sign: { name: 'ECDSA', hash: 'SHA-256' } },
  EdDSA: { import: { name: 'Ed25519' }, sign: { name: 'Ed25519' } },
} as const;

async function openSigner({ key, kid }: CreditsSchemeOptions): Promise<Signer> {
  const jwk = 'kty' in key ? key : undefined;
  const curve = jwk ? jwk.crv : curveOf(key as CryptoKey);
  const alg = curve === 'P-256' ? 'ES256' : curve === 'Ed25519' ? 'EdDSA' : undefined;
  if (alg === undefined)
    throw new TypeError(
      'credits are paid with a private key of P-256 or Ed25519, given as a JWK or a CryptoKey of Web Crypto',
    );
  const use = algorithms[alg];
  const privateKey = jwk
    ? await crypto.subtle.importKey('jwk', withoutUse(jwk), use.import, false, ['sign'])
    : (key as CryptoKey);
  return {
    alg,
    kid: kid ?? (await thumbprint(jwk ?? (await crypto.subtle.exportKey('jwk', privateKey)))),
    sign: async (input) =>
      new Uint8Array(await crypto.subtle.sign(use.sign, privateKey, new TextEncoder().encode(input))),
  };
}

function curveOf({ algorithm }: Partial<CryptoKey>): string | undefined {
  if (algorithm === undefined) return undefined;
  return 'namedCurve' in algorithm ? String(algorithm.namedCurve) : algorithm.name;
}

/** What a JWK says of its own use may forbid what it is used for here. */
function withoutUse({ kty = '', crv = '', x = '', y, d = '' }: PrivateJwk): PrivateJwk {
  return { kty, crv, x, d, ...(y === undefined ? {} : { y }) };
}

/** RFC 7638 section 3. */
async function thumbprint({ crv, kty, x, y }: PrivateJwk): Promise<string> {
  const members = JSON.stringify(kty === 'EC' ? { crv, kty, x, y } : { crv, kty, x });
  return base64url(new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(members))));
}

function encode(value: object): string {
  return base64url(new TextEncoder().encode(JSON.stringify(value)));
}

function base64url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll('+', '-')
    .replaceAll('/', '_')
    .replaceAll('=', '');
}
