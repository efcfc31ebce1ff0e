import type { AgentId } from '../../kernel/ids.ts';
import type { JwtClaims } from '../tokens/jws.ts';

/**
 * The claims of an agent's credential for one verifier and one challenge: a W3C Verifiable Credential 2.0 and a JWT in one payload
 * (VC-JOSE-COSE section 3.1.1). It says who the agent is, and nothing else: no e-mail, no scope, no owner.
 */
export function describeAgent(args: {
  agentId: AgentId;
  issuer: string;
  audience: string;
  challenge: string;
  issuedAt: Date;
  expiresAt: Date;
  /** RFC 7638, of a key of the agent's. */
  keyThumbprint: string | null;
}): JwtClaims {
  return {
    '@context': ['https://www.w3.org/ns/credentials/v2'],
    type: ['VerifiableCredential'],
    issuer: args.issuer,
    // VCDM 2.0 section 4.4: the id of a subject is a URL; `sub` is the same one, as our API writes it.
    credentialSubject: { id: `urn:uuid:${args.agentId}` },
    validFrom: toXmlDateTime(args.issuedAt),
    validUntil: toXmlDateTime(args.expiresAt),
    sub: args.agentId,
    aud: args.audience,
    challenge: args.challenge,
    nonce: args.challenge,
    // RFC 7800 section 3.1, in the form of RFC 9449 section 6.1: a verifier that wants more than a bearer can ask for that key's proof.
    ...(args.keyThumbprint === null ? {} : { cnf: { jkt: args.keyThumbprint } }),
  };
}

/** Whole seconds, as in the JWT's own claims. */
function toXmlDateTime(time: Date): string {
  return time.toISOString().replace('.000Z', 'Z');
}
