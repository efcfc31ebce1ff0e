import { findKey, type FindKey, keysOf, type PublicJwk } from './issuer-keys.ts';
import { isSignedBy, type Jwt, parseJwt, type SignatureAlgorithm } from './jwt.ts';

/** What a verifier knows of its own, and demands of a credential. */
export interface CredentialDemands {
  /** The Credence instance whose agents are let in, byte for byte as it names itself: such as `https://id.example`. */
  issuer: string;
  /** This verifier's own identifier: never what the credential or the agent says. */
  audience: string;
  /** The challenge that this verifier gave to this caller, and takes only once. */
  challenge: string;
  /** How far the issuer's clock and this one may be apart; 30 unless it is given. */
  clockSkewSeconds?: number;
  /** What the issuer signs with; RS256 unless its operator has chosen another. */
  algorithm?: SignatureAlgorithm;
  /** The issuer's keys, where they are not to be fetched from its `/.well-known/jwks.json`. */
  jwks?: { keys: readonly PublicJwk[] };
}

/** A verified credential. `sub` is the agent's id. */
export interface AgentCredential {
  iss: string;
  sub: string;
  aud: string;
  challenge: string;
  iat: number;
  exp: number;
  jti: string;
  [claim: string]: unknown;
}

export type CredentialFault =
  | 'malformed'
  | 'wrong_type'
  | 'wrong_algorithm'
  | 'unknown_key'
  | 'keys_unavailable'
  | 'bad_signature'
  | 'wrong_issuer'
  | 'wrong_audience'
  | 'wrong_challenge'
  | 'unknown_challenge'
  | 'expired'
  | 'not_yet_valid';

/** A credential that lets nobody in. `keys_unavailable` is the issuer's fault or the network's; the others are final. */
export class CredentialError extends Error {
  override name = 'CredentialError';
  readonly code: CredentialFault;
  /** What a site answers with, 401 or 503: Express and others do so by themselves. */
  readonly status: number;

  constructor(code: CredentialFault, options?: ErrorOptions) {
    super(`the credential is refused: ${code.replaceAll('_', ' ')}`, options);
    this.code = code;
    this.status = code === 'keys_unavailable' ? 503 : 401;
  }
}

const typeOfCredential = 'vc+jwt';

/**
 * Verifies the credential with which an agent logs in, and gives its claims: `sub` is who it is. Throws `CredentialError`. A challenge that has
 * let somebody in must be forgotten by the caller: a credential is good until it expires for whoever has it.
 */
export async function verifyAgentCredential(
  vc: string,
  demands: CredentialDemands,
): Promise<AgentCredential> {
  const { algorithm = 'RS256', issuer, audience, challenge } = demands;
  if (!issuer || !audience || !challenge) throw new TypeError('issuer, audience and challenge are needed');
  const jwt = typeof vc === 'string' ? parseJwt(vc) : undefined;
  if (!jwt) throw new CredentialError('malformed');
  const { typ, alg, kid } = jwt.header;
  if (typ !== typeOfCredential) throw new CredentialError('wrong_type');
  if (alg !== algorithm) throw new CredentialError('wrong_algorithm');
  // Before its key is asked for: what another issuer has signed is no reason to call ours.
  if (jwt.claims['iss'] !== issuer) throw new CredentialError('wrong_issuer');
  const key = typeof kid === 'string' ? await getKey(demands, kid) : undefined;
  if (!key) throw new CredentialError('unknown_key');
  if (!(await isSignedBy(jwt, key, algorithm))) throw new CredentialError('bad_signature');
  const fault = findFault(jwt, demands);
  if (fault) throw new CredentialError(fault);
  return jwt.claims as AgentCredential;
}

async function getKey({ issuer, jwks }: CredentialDemands, kid: string): Promise<PublicJwk | undefined> {
  const find: FindKey = jwks ? async () => findKey(jwks.keys, kid) : keysOf(issuer);
  try {
    return await find(kid);
  } catch (error) {
    throw new CredentialError('keys_unavailable', { cause: error });
  }
}

function findFault({ claims }: Jwt, demands: CredentialDemands): CredentialFault | undefined {
  const { sub, aud, challenge, iat, exp, nbf, jti } = claims;
  if (typeof sub !== 'string' || sub === '' || typeof jti !== 'string') return 'malformed';
  if (typeof iat !== 'number' || typeof exp !== 'number') return 'malformed';
  if (nbf !== undefined && typeof nbf !== 'number') return 'malformed';
  if (aud !== demands.audience) return 'wrong_audience';
  if (challenge !== demands.challenge) return 'wrong_challenge';
  const nowSeconds = Date.now() / 1000;
  const skewSeconds = demands.clockSkewSeconds ?? 30;
  if (exp + skewSeconds <= nowSeconds) return 'expired';
  return Math.max(iat, nbf ?? iat) - skewSeconds > nowSeconds ? 'not_yet_valid' : undefined;
}
