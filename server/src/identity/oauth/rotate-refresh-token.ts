import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { equalDigests, sha256 } from '../../kernel/crypto.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import type { Agent } from '../agents/agent.ts';
import { findAgent } from '../agents/agents.sql.ts';
import { findLiveCredentials } from '../credentials/credentials.sql.ts';
import { findAudience } from './audience.ts';
import { makeAnswer, type TokenAnswer } from './answer.ts';
import type { AuthorizationServer } from './authorization-server.ts';
import { type AuthenticatedClient, endedCredential } from './authenticate-client.ts';
import { invalidClient } from './client-proof.ts';
import { isCredentialGood } from './clients.sql.ts';
import { findFamilyEnd } from './family-end.ts';
import {
  type FamilyState,
  findSpentToken,
  insertSpentToken,
  lockFamily,
  revokeFamily,
  type SpentToken,
  updateFamilyToken,
} from './refresh-families.sql.ts';
import { newRefreshToken, readRefreshToken, type RefreshToken } from './refresh-token.ts';
import { notifyTokensRevoked } from './revocations.sql.ts';
import { grantScope, splitScope } from './scope.ts';

/** A refresh as it is asked for, its client and its key already shown. */
export interface Refresh {
  refreshToken: string;
  /** Who authenticated, and with what; nothing on the route that takes a bare token. */
  client: (Pick<AuthenticatedClient, 'credentialId' | 'method'> & { agentId: AgentId }) | undefined;
  /** Whom the request names without showing it; a bare token may come with it. */
  clientId: string | undefined;
  scope: string | undefined;
  resource: string | undefined;
  keyThumbprint: string | null;
  /**
   * Called where it is refused: counts that for who sent it, and writes it down, within bounds, for the owner of the agent whose
   * family the token names, if it names one. Anybody may name any family: what is wrong must fill nobody's log.
   */
  onRefused(agentId: AgentId | 'unknown', reason: string): Promise<void>;
}

interface Refused {
  kind: 'refused';
  error: AppError;
}

type Outcome =
  | { kind: 'answered'; agentId: AgentId; answer: TokenAnswer }
  | { kind: 'repeated'; agentId: AgentId; answer: TokenAnswer }
  | Refused
  | { kind: 'reused'; familyId: string };

/**
 * Takes a refresh token and gives the next one (RFC 6749 section 6, RFC 9700 section 4.14.2). A spent token given again by the same
 * client for the same thing within the retry window gets the very same answer, as the first may have been lost; later, or once its
 * successor was used, it is a theft, and ends the family. Throws `invalid_grant`, `invalid_scope`, `invalid_target` or `invalid_dpop_proof`, none of which ends it,
 * and `rate_limited` where its agent has had the answers of this minute.
 */
export async function rotateRefreshToken(
  server: AuthorizationServer,
  context: WriteContext,
  refresh: Refresh,
): Promise<TokenAnswer> {
  const token = readRefreshToken(refresh.refreshToken);
  const outcome = await write<Outcome & { accused: AgentId | 'unknown' }>(context, async (sql, now) => {
    const family = token && (await lockFamily(sql, token.familyId));
    const agent = family && (await findAgent(sql, family.agentId));
    const result: Outcome =
      token && family && agent
        ? await decide(server, sql, { refresh, token, family, agent, now })
        : refused('It is unknown');
    return { result: { ...result, accused: agent?.id ?? 'unknown' }, audit: auditOf(result, family, agent) };
  });
  if (outcome.kind === 'answered' || outcome.kind === 'repeated') {
    server.usage.count(outcome.agentId, 'refresh');
    return outcome.answer;
  }
  if (outcome.kind === 'refused') {
    await refresh.onRefused(outcome.accused, outcome.error.message);
    throw outcome.error;
  }
  server.revocations.learn(outcome.familyId);
  throw new AppError('invalid_grant', 'The refresh token was used before: its whole family is revoked now');
}

const needsClient = 'Refresh tokens of this agent need client authentication: use POST /oauth/token';

interface Case {
  refresh: Refresh;
  token: RefreshToken;
  family: FamilyState;
  agent: Agent;
  now: Date;
}

async function decide(server: AuthorizationServer, sql: Sql, one: Case): Promise<Outcome> {
  const { token, family, agent } = one;
  const isCurrent = equalDigests(token.hash, family.tokenHash);
  const spent = isCurrent ? undefined : await findSpentToken(sql, family.id, token.hash);
  if (!isCurrent && !spent) return refused('It is unknown');
  const fault = await findClientFault(sql, one);
  if (fault) return { kind: 'refused', error: fault };
  const ended = findFamilyEnd(family, agent, one.now);
  if (ended !== undefined) return refused(ended);
  if (spent) return replay(server, sql, one, spent);
  return rotate(server, sql, one);
}

/** Whether the token is the client's that showed who it is, or that the request names where a bare token is enough. */
async function findClientFault(
  sql: Sql,
  { refresh, family, agent, now }: Case,
): Promise<AppError | undefined> {
  const { client, clientId } = refresh;
  if (client) {
    if (client.agentId !== family.agentId) return badToken('It is of another client');
    // It was believed as this process remembers it: here, where it counts, its credential itself is asked.
    const isGood = await isCredentialGood(sql, client.credentialId, now);
    return isGood ? undefined : endedCredential(client.method);
  }
  if (clientId !== undefined && clientId !== agent.clientId && clientId !== agent.id)
    return badToken('It is of another client');
  return agent.refreshWithoutClientAuth ? undefined : invalidClient(needsClient, false);
}

async function replay(server: AuthorizationServer, sql: Sql, one: Case, spent: SpentToken): Promise<Outcome> {
  const { agent, family } = one;
  const answer = findLostAnswer(server, one, spent);
  if (!answer) {
    await revokeFamily(sql, family.id, one.now);
    await notifyTokensRevoked(sql);
    return { kind: 'reused', familyId: family.id };
  }
  if (!equalDigests(spent.fingerprint, fingerprintOf(one)))
    return refused('It was used before, for something else');
  await server.grantLimit.admit(agent, agent.id);
  return { kind: 'repeated', agentId: family.agentId, answer };
}

/** What may have been lost: within the window, and as long as nobody has used the token in it, which shows that it came through. */
function findLostAnswer(
  server: AuthorizationServer,
  { family, now, token }: Case,
  spent: SpentToken,
): TokenAnswer | undefined {
  if (!spent.answer || addSeconds(spent.spentAt, limits.refreshRetrySeconds) <= now) return undefined;
  const plain = server.box.open(spent.answer, answerBinding(family.id, token.hash));
  const answer = JSON.parse(plain.toString()) as TokenAnswer;
  return equalDigests(sha256(answer.refresh_token), family.tokenHash) ? answer : undefined;
}

async function rotate(server: AuthorizationServer, sql: Sql, one: Case): Promise<Outcome> {
  const { refresh, token, family, agent, now } = one;
  const mismatch = findMismatch(one, server.issuer) ?? (await findKeyFault(sql, one));
  if (mismatch) return { kind: 'refused', error: mismatch };
  const granted = (splitScope(family.scope) ?? []).filter((scope) => agent.scopes.includes(scope));
  // Thrown out of the transaction: what has to wait writes nothing.
  await server.grantLimit.admit(agent, agent.id);
  let scope: string;
  try {
    // The registry is asked at each grant: the resource may be gone, or another organisation's by now.
    const audience = await findAudience({ db: sql, issuer: server.issuer }, family, family.resource);
    scope = grantScope(refresh.scope, audience.limit(granted));
  } catch (error) {
    if (error instanceof AppError) return { kind: 'refused', error };
    throw error;
  }
  const next = newRefreshToken(family.id);
  const generation = family.generation + 1;
  const answer = await makeAnswer(server, {
    agent,
    family: { ...family, generation },
    scope,
    refreshToken: next.text,
    now,
  });
  await updateFamilyToken(sql, { id: family.id, tokenHash: next.hash, generation });
  await insertSpentToken(sql, {
    familyId: family.id,
    tokenHash: token.hash,
    fingerprint: fingerprintOf(one),
    answer: server.box.seal(Buffer.from(JSON.stringify(answer)), answerBinding(family.id, token.hash)),
    spentAt: now,
  });
  return { kind: 'answered', agentId: family.agentId, answer };
}

/** What the refresh asks for that the family isn't of. */
function findMismatch({ refresh, family }: Case, issuer: string): AppError | undefined {
  if (family.keyThumbprint !== refresh.keyThumbprint)
    return family.keyThumbprint === null
      ? new AppError('invalid_grant', 'The refresh token is not bound to a key: send it without a DPoP proof')
      : new AppError('invalid_grant', 'The refresh token is bound to a key: send a DPoP proof of that key');
  const asked = refresh.resource === `${issuer}/` ? issuer : refresh.resource;
  if (asked !== undefined && asked !== family.resource)
    return new AppError('invalid_target', `The refresh token is for ${family.resource} alone`);
  return undefined;
}

/** An agent whose tokens must be bound has them bound to a key that it still has. */
export async function findKeyFault(
  sql: Sql,
  { agent, family, now }: Pick<Case, 'agent' | 'family' | 'now'>,
): Promise<AppError | undefined> {
  if (!agent.senderBound) return undefined;
  const live = await findLiveCredentials(sql, agent.id, now);
  if (live.some(({ thumbprint }) => thumbprint !== null && thumbprint === family.keyThumbprint))
    return undefined;
  return new AppError('invalid_grant', 'The refresh token is bound to none of the public keys of its agent');
}

/** Everything that must be alike in an honest retry. */
function fingerprintOf({ refresh, family }: Case): Buffer {
  const { scope, resource, keyThumbprint } = refresh;
  return sha256(JSON.stringify([family.agentId, scope ?? null, resource ?? null, keyThumbprint]));
}

function answerBinding(familyId: string, tokenHash: Buffer): string {
  return `spent_refresh_tokens/${familyId}/${tokenHash.toString('base64url')}/answer`;
}

function badToken(reason: string): AppError {
  return new AppError('invalid_grant', `The refresh token is not good: ${reason}`);
}

function refused(reason: string): Refused {
  return { kind: 'refused', error: badToken(reason) };
}

/** Nothing where nothing has changed: a refusal is written down by `onRefused`, and an answer given again was written down at first. */
function auditOf({ kind }: Outcome, family: FamilyState | undefined, agent: Agent | undefined) {
  if (kind === 'refused' || kind === 'repeated') return null;
  return {
    action: kind === 'answered' ? 'agent.token_refreshed' : 'agent.refresh_token_reused',
    resource: family?.agentId ?? 'unknown',
    scope: agent?.homeEnvironmentId ?? ('instance' as const),
    data: { family: family?.id ?? null },
  };
}
