import type { Sql } from '../../db/index.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { parseJwt } from '../jwt.ts';
import type { Tokens } from '../tokens.ts';
import { acceptsTokenOf } from './agent.ts';
import { findAgent } from './agents.sql.ts';
import type { AgentUsage } from './usage.ts';

/** Who a token has let in, and how it was held. */
export interface AuthenticatedAgent {
  agentId: AgentId;
  delegated: boolean;
  keyThumbprint: string | null;
}

/** The live agent whose access token this is, if it is a good one of after the agent's last stop. Writes nothing: the request is counted. */
export async function authenticateAgent(
  deps: { db: Sql; tokens: Tokens; usage: AgentUsage },
  token: string,
  now: Date,
): Promise<AuthenticatedAgent | undefined> {
  const agentId = deps.tokens.verifyAgentToken(token, now);
  const claims = agentId === undefined ? undefined : parseJwt(token)?.claims;
  if (agentId === undefined || !claims) return undefined;
  // RFC 9449 section 7.1: a token that is bound to a key is none where nothing proves the key.
  if (claims['cnf'] !== undefined) return undefined;
  const agent = await findAgent(deps.db, agentId);
  if (!agent || !acceptsTokenOf(agent, Number(claims['iat']), now)) return undefined;
  deps.usage.count(agentId, 'request');
  return { agentId, delegated: claims['act'] !== undefined, keyThumbprint: null };
}
