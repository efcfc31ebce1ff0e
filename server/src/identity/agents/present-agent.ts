import type { Static } from 'typebox';
import type { Sql } from '../../db/index.ts';
import type { EnvironmentId } from '../../kernel/ids.ts';
import { type Credential, isCredentialLive } from '../credentials/credential.ts';
import { findRotations } from '../credentials/credentials.sql.ts';
import { limits } from '../../kernel/limits.ts';
import { type Agent, isLive, isOwnedBy, type LinkedAgent, statusFor } from './agent.ts';
import type { AgentView, CredentialView, UsageView } from './schemas.ts';
import { findUsage, findUsageDays } from './usage.sql.ts';

/** As it sees itself: whom it runs for and whom not, it learns where it acts. */
export function presentSelf(agent: Agent, now: Date): Static<typeof AgentView> {
  return presentAgent({ ...agent, stoppedAt: null }, null, now);
}

/** As an environment that is linked to it sees it, or itself (`null`). */
export function presentAgent(
  agent: LinkedAgent,
  viewer: EnvironmentId | null,
  now: Date,
): Static<typeof AgentView> {
  const status = statusFor(agent);
  return {
    id: agent.id,
    agent_id: agent.id,
    client_id: agent.clientId,
    name: agent.name,
    type: agent.type,
    description: agent.description,
    scopes: agent.scopes,
    tags: agent.tags,
    metadata: { ...agent.metadata },
    status,
    is_active: isLive({ ...agent, status }, now),
    is_owned: viewer !== null && isOwnedBy(agent, viewer),
    self_rotation: agent.selfRotation,
    refresh_without_client_auth: agent.refreshWithoutClientAuth,
    sender_bound: agent.senderBound,
    expires_at: agent.expiresAt?.toISOString() ?? null,
    stopped_at: agent.stoppedAt?.toISOString() ?? null,
    deactivated_at: agent.deactivatedAt?.toISOString() ?? null,
    created_at: agent.createdAt.toISOString(),
    updated_at: agent.updatedAt.toISOString(),
  };
}

export function presentCredential(credential: Credential, now: Date): Static<typeof CredentialView> {
  return {
    id: credential.id,
    credential_id: credential.id,
    agent_id: credential.agentId,
    type: credential.kind,
    state: stateOf(credential, now),
    display_prefix: credential.displayPrefix,
    public_key: credential.publicJwk && { ...credential.publicJwk },
    thumbprint: credential.thumbprint,
    rotated_from: credential.rotatedFrom,
    created_by: credential.createdBy,
    created_at: credential.createdAt.toISOString(),
    expires_at: credential.expiresAt?.toISOString() ?? null,
    revoked_at: credential.revokedAt?.toISOString() ?? null,
  };
}

/** A month of days. */
const usageDays = 31;

export async function presentUsage(
  sql: Sql,
  agent: LinkedAgent,
  viewer: EnvironmentId | null,
  now: Date,
): Promise<Static<typeof UsageView>> {
  const totals = await findUsage(sql, agent.id);
  const days = await findUsageDays(sql, agent.id, usageDays);
  const rotations = await findRotations(sql, agent.id, limits.pageSizeMax);
  return {
    agent: presentAgent(agent, viewer, now),
    token_count: Number(totals.tokens),
    refresh_count: Number(totals.refreshes),
    request_count: Number(totals.requests),
    last_activity_at: totals.lastActiveAt?.toISOString() ?? null,
    last_token_issued_at: totals.lastTokenAt?.toISOString() ?? null,
    rotation_history: rotations.flatMap(({ id, rotatedFrom, createdAt, createdBy }) =>
      rotatedFrom === null
        ? []
        : [
            {
              rotated_at: createdAt.toISOString(),
              rotated_by: createdBy,
              credential_id: id,
              rotated_from: rotatedFrom,
            },
          ],
    ),
    requests_per_day: days.map(({ day, requests, tokens, refreshes }) => ({
      day,
      requests: Number(requests),
      tokens: Number(tokens),
      refreshes: Number(refreshes),
    })),
  };
}

function stateOf(credential: Credential, now: Date): Static<typeof CredentialView>['state'] {
  if (credential.revokedAt !== null) return 'revoked';
  if (!isCredentialLive(credential, now)) return 'expired';
  return credential.expiresAt === null ? 'active' : 'expiring';
}
