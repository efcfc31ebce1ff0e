import { defineRoute, type Route } from '../../http/index.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { acceptsTokenOf } from '../agents/agent.ts';
import { findAgent } from '../agents/agents.sql.ts';
import type { Tokens } from '../tokens/tokens.ts';
import { issueCredential } from './issue-credential.ts';
import { IssueBody, IssuedCredential, Verification, VerifyBody } from './schemas.ts';
import { verifyCredential } from './verify-credential.ts';

/** Credentials with which agents log in at third parties. */
export function credentialRoutes({ tokens }: { tokens: Tokens }): Route[] {
  return [
    defineRoute({
      id: 'vc.issue',
      summary: "Get a credential for one verifier's challenge, to log in there without showing the jwt",
      method: 'POST',
      path: '/agent/vc/issue',
      auth: ['agent'],
      scopes: [],
      limit: 'write',
      status: 200,
      schema: { body: IssueBody, response: IssuedCredential },
      errors: [],
      handler: async ({ body, principal, context }) => {
        const issued = await issueCredential(context, tokens, {
          acting: principal,
          challenge: body.challenge,
          audience: body.audience,
          ttlSeconds: body.ttl_seconds ?? 300,
        });
        return {
          vc: issued.vc,
          jti: issued.jti,
          issued_at: issued.issuedAt.toISOString(),
          expires_at: issued.expiresAt.toISOString(),
          kid: issued.kid,
        };
      },
    }),

    defineRoute({
      id: 'vc.verify',
      summary: 'Verify a credential, for a verifier without a JWT library',
      method: 'POST',
      path: '/verify-vc',
      auth: [],
      scopes: [],
      limit: 'credential',
      status: 200,
      schema: { body: VerifyBody, response: Verification },
      errors: [],
      handler: async ({ body, context }) => {
        const now = context.clock.now();
        const isAccepted = async (id: AgentId, iat: number) => {
          const agent = await findAgent(context.db, id);
          return agent !== undefined && acceptsTokenOf(agent, iat, now);
        };
        return verifyCredential({ tokens, isAccepted }, { ...body, now });
      },
    }),
  ];
}
