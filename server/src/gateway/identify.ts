import { AppError } from '../kernel/errors.ts';
import type { AgentId } from '../kernel/ids.ts';

/** Who calls, as far as it was shown. */
export interface Caller {
  agentId: string;
  /** A token of ours showed it; otherwise it is what the header says. */
  verified: boolean;
}

/**
 * Reads `X-Agent-ID`. A value of a token's shape is checked and only its subject kept, so that
 * no token is ever stored; our other secrets are refused, as the id is kept with the payment. Throws `missing_agent_id`, `invalid_request` or `agent_authentication_failed`.
 */
export async function identify(
  header: string | readonly string[] | undefined,
  findAgent: (token: string) => Promise<AgentId | undefined>,
  isOurCredential: (value: string) => boolean,
): Promise<Caller> {
  const value = typeof header === 'string' ? header.trim() : '';
  if (value === '') {
    throw new AppError(
      'missing_agent_id',
      'Missing X-Agent-ID: set it to the id of your agent, or to its jwt',
    );
  }
  if (isTokenShaped(value)) {
    const agentId = await findAgent(value).catch(asFailedAuthentication);
    if (agentId !== undefined) return { agentId, verified: true };
    throw new AppError(
      'agent_authentication_failed',
      'X-Agent-ID holds a token that is expired or not of this issuer: send a fresh jwt from POST /refresh, or the plain agent id',
    );
  }
  if (isOurCredential(value)) {
    throw new AppError(
      'agent_authentication_failed',
      'X-Agent-ID holds a secret, which belongs to POST /refresh or to the API: send the agent id, or a fresh jwt',
    );
  }
  if (!/^[\x21-\x7e]{1,200}$/.test(value)) {
    throw new AppError(
      'invalid_request',
      'X-Agent-ID must be 1 to 200 visible ASCII characters without spaces',
    );
  }
  return { agentId: value, verified: false };
}

/** A token that is good and lacks its proof: says so, with the challenge that tells what is missing. */
function asFailedAuthentication(error: unknown): never {
  if (error instanceof AppError && error.code === 'unauthorized')
    throw new AppError('agent_authentication_failed', error.message, error.details);
  throw error;
}

/** Three base64url parts, or anything else that begins like one: never to be taken for a plain id. */
function isTokenShaped(value: string): boolean {
  return value.startsWith('eyJ') || /^[\w-]+\.[\w-]+\.[\w-]*$/.test(value);
}
