import { AppError } from '../../kernel/errors.ts';
import type { AgentUsage } from '../agents/usage.ts';
import type { AccessToken, AccessTokens } from './access-tokens.ts';
import type { ActingAgent } from './acting-agent.ts';
import type { Dpop } from './dpop.ts';

/** How a token was presented to one of our resources. */
export interface Presented {
  token: string;
  /** `plain` is a header of its own, such as X-Agent-ID, which may go with a proof or without. */
  scheme: 'Bearer' | 'DPoP' | 'plain';
  /** The DPoP header. */
  proof: string | undefined;
  method: string;
  /** As callers reach the resource, without the query. */
  url: string;
}

/** Who a token has let in, and how it was held. */
export interface AuthenticatedAgent extends ActingAgent {
  /** Whether the token was given to somebody who acts for the agent (`act`, RFC 8693 section 4.1). */
  delegated: boolean;
  /** RFC 7638 thumbprint of the key whose possession the request has proved; `null` for a bearer. */
  keyThumbprint: string | null;
}

/** Who presents a token, with the proof that a bound one needs. */
export interface AgentIdentifier {
  /**
   * The agent, or nothing where the token isn't good. Throws `unauthorized` with a DPoP challenge (RFC 9449 section 7.1) where the
   * token is good and the proof isn't, or where one is presented as the other kind.
   */
  identify(presented: Presented): Promise<AuthenticatedAgent | undefined>;
}

export function createAgentIdentifier(context: {
  accessTokens: AccessTokens;
  dpop: Dpop;
  issuer: string;
  usage: AgentUsage;
}): AgentIdentifier {
  const { accessTokens, dpop, issuer, usage } = context;

  function letIn({ agentId, claims, issuedAt, jti, keyThumbprint }: AccessToken): AuthenticatedAgent {
    usage.count(agentId, 'request');
    return {
      agentId,
      token: { id: jti, iat: issuedAt },
      delegated: claims['act'] !== undefined,
      keyThumbprint: keyThumbprint ?? null,
    };
  }

  return {
    async identify({ token: text, scheme, proof, method, url }) {
      const token = await accessTokens.verify(text, issuer);
      if (!token) return undefined;
      if (token.keyThumbprint === undefined) {
        if (scheme === 'DPoP')
          throw challenge(dpop, 'invalid_token', 'The token is not bound to a key: send it as "Bearer"');
        return letIn(token);
      }
      if (scheme === 'Bearer')
        throw challenge(
          dpop,
          'invalid_token',
          'The token is bound to a key: send it as "DPoP", with a DPoP proof',
        );
      if (proof === undefined)
        throw challenge(dpop, 'invalid_dpop_proof', 'The token is bound to a key: send a DPoP proof with it');
      const outcome = await dpop.use(proof, { method, url, accessToken: text });
      if (outcome.kind === 'nonce_needed')
        throw challenge(
          dpop,
          'use_dpop_nonce',
          'Send a new DPoP proof with the nonce of the DPoP-Nonce header',
        );
      if (outcome.kind === 'refused')
        throw challenge(dpop, 'invalid_dpop_proof', `The DPoP proof is not good: ${outcome.reason}`);
      if (outcome.thumbprint !== token.keyThumbprint)
        throw challenge(dpop, 'invalid_token', 'The DPoP proof is of another key than the token');
      return letIn(token);
    },
  };
}

function challenge(dpop: Dpop, error: string, message: string): AppError {
  return new AppError('unauthorized', message, {
    headers: {
      'www-authenticate': `DPoP error="${error}", algs="ES256 EdDSA RS256"`,
      ...(dpop.nonces ? { 'dpop-nonce': dpop.newNonce() } : {}),
    },
  });
}
