import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { touchAgent } from '../agents/agents.sql.ts';
import { findLinksOf } from '../links/agent-links.sql.ts';
import { noticeTopic } from '../agents/tell-stopped.ts';
import { lockOwnedAgent } from '../agents/owned-agent.ts';
import { type ActingAgent, lockActingAgent } from '../oauth/acting-agent.ts';
import type { Credential } from './credential.ts';
import {
  countRotations,
  findLiveCredentials,
  limitCredentials,
  revokeCredentials,
} from './credentials.sql.ts';
import { newSecretCredential, type NewSecret } from './new-secret-credential.ts';
import { withSecret } from './shown-secret.ts';

/** The new secret; its text is here alone, and gone from an answer that is given again too late. */
export interface Rotation {
  credential: Credential;
  secret: string | null;
}

/**
 * Replaces the agent's secrets by a new one. The old ones stop at once, the newest of them after `graceSeconds`. Refresh families end
 * with the secret that they began with, those that a key began with the newest; access tokens live until they expire.
 * Throws `forbidden` for whom it doesn't belong to, and `conflict` for an agent that has keys alone.
 */
export async function rotateSecret(
  context: WriteContext,
  environmentId: EnvironmentId,
  agentId: AgentId,
  graceSeconds: number,
): Promise<Rotation> {
  const secret = newSecretCredential();
  return write(context, async (sql, now) => {
    await lockOwnedAgent(sql, environmentId, agentId);
    const terms = { graceSeconds, keptSeconds: null };
    const credential = await replace(sql, secret, { agentId, createdBy: 'owner', ...terms, now });
    return withSecret<Rotation>({ credential, secret: secret.text }, auditOf(credential, graceSeconds));
  });
}

/** How an agent has shown that it is itself. */
export interface SelfProof extends ActingAgent {
  /** Somebody acts for it. */
  delegated: boolean;
  /** Of the key whose possession the request proved. */
  keyThumbprint: string | null;
}

/**
 * As `rotateSecret`, by the agent itself; every environment that it is linked to gets a notice. Throws `unauthorized` where its token
 * is dead by now, and `forbidden` for a delegated token, where the owner has switched it off, and for an agent whose tokens must be bound to its keys where the request proves
 * possession of none of them; `rate_limited` for one that registered itself and rotates all the time.
 */
export async function rotateOwnSecret(
  context: WriteContext,
  self: SelfProof,
  graceSeconds: number,
): Promise<Rotation> {
  if (self.delegated)
    throw new AppError('forbidden', 'A token to act for the agent may not rotate its secret; the agent may');
  const { agentId } = self;
  const secret = newSecretCredential();
  return write(context, async (sql, now) => {
    const agent = await lockActingAgent(sql, self, now);
    if (!agent.selfRotation)
      throw new AppError('forbidden', 'The owner has switched self-rotation off; ask them to rotate');
    if (agent.senderBound) await demandKey(sql, self, now);
    const isHomeless = agent.homeEnvironmentId === null;
    if (isHomeless) await demandFewRotations(sql, agentId, now);
    const terms = { graceSeconds, keptSeconds: isHomeless ? limits.homelessHistorySeconds : null };
    const credential = await replace(sql, secret, { agentId, createdBy: 'agent', ...terms, now });
    const links = await findLinksOf(sql, [agentId]);
    const payload = { kind: 'agent.rotated_itself', agent_id: agentId, at: now.toISOString() };
    const audit = {
      ...auditOf(credential, graceSeconds),
      scope: agent.homeEnvironmentId ?? ('instance' as const),
    };
    return {
      ...withSecret<Rotation>({ credential, secret: secret.text }, audit),
      outbox: links.map(({ environmentId: scope }) => ({ topic: noticeTopic, scope, payload })),
    };
  });
}

/** Nobody answers for it, and whatever it once had is kept for months. */
async function demandFewRotations(sql: Sql, agentId: AgentId, now: Date): Promise<void> {
  const count = await countRotations(sql, agentId, addSeconds(now, -60 * 60));
  if (count < limits.homelessRotationsPerHour) return;
  throw new AppError(
    'rate_limited',
    `An agent that registered itself rotates its secret ${limits.homelessRotationsPerHour} times an hour; try again later`,
    { retryAfterSeconds: 60 * 60 },
  );
}

async function demandKey(sql: Sql, self: SelfProof, now: Date): Promise<void> {
  const live = await findLiveCredentials(sql, self.agentId, now);
  if (live.some(({ thumbprint }) => thumbprint !== null && thumbprint === self.keyThumbprint)) return;
  throw new AppError(
    'forbidden',
    'The tokens of this agent are bound to its keys: rotate with a token and a DPoP proof of one of its registered public keys (RFC 9449)',
  );
}

async function replace(
  sql: Sql,
  secret: NewSecret,
  args: {
    agentId: AgentId;
    createdBy: Credential['createdBy'];
    graceSeconds: number;
    /** How long what ends now stays in the history; `null` for good. */
    keptSeconds: number | null;
    now: Date;
  },
): Promise<Credential> {
  const { agentId, createdBy, graceSeconds, keptSeconds, now } = args;
  const keptAfter = (end: Date) => (keptSeconds === null ? null : addSeconds(end, keptSeconds));
  const live = await findLiveCredentials(sql, agentId, now);
  const old = live.filter(({ kind }) => kind === 'secret');
  const newest = old.at(-1);
  if (!newest)
    throw new AppError(
      'conflict',
      'The agent has no secret to rotate; its owner gives it one with POST /v1/agents/{id}/credentials',
    );
  const ending = graceSeconds === 0 ? old : old.slice(0, -1);
  await revokeCredentials(
    sql,
    ending.map(({ id }) => id),
    now,
    keptAfter(now),
  );
  const end = addSeconds(now, graceSeconds);
  if (graceSeconds > 0) await limitCredentials(sql, [newest.id], end, keptAfter(end));
  // Dated as the agent's new version: a refresh family is of before it or after it, and never of the same moment.
  const rotatedAt = await touchAgent(sql, agentId, now);
  return secret.insert(sql, { agentId, createdBy, rotatedFrom: newest.id, now: rotatedAt });
}

function auditOf(credential: Credential, graceSeconds: number) {
  const data = {
    credential_id: credential.id,
    rotated_from: credential.rotatedFrom,
    grace_seconds: graceSeconds,
  };
  return { action: 'agent.secret_rotated', resource: credential.agentId, data };
}
