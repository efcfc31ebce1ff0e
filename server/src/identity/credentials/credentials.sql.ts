import { deleteInBatches, type Sql } from '../../db/index.ts';
import { type AgentId, type CredentialId, isAgentId, isId } from '../../kernel/ids.ts';
import type { Agent } from '../agents/agent.ts';
import { agentColumns } from '../agents/agents.sql.ts';
import type { Credential } from './credential.ts';

const columns = `id, agent_id, kind, public_jwk, thumbprint, display_prefix, rotated_from, created_by, created_at, expires_at,
  revoked_at`;
const live = 'revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)';

export async function insertCredential(
  sql: Sql,
  credential: Credential,
  secretHash: Buffer | null,
): Promise<void> {
  await sql.query(
    `INSERT INTO agent_credentials (${columns}, secret_hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
    [
      credential.id,
      credential.agentId,
      credential.kind,
      credential.publicJwk === null ? null : JSON.stringify(credential.publicJwk),
      credential.thumbprint,
      credential.displayPrefix,
      credential.rotatedFrom,
      credential.createdBy,
      credential.createdAt,
      credential.expiresAt,
      credential.revokedAt,
      secretHash,
    ],
  );
}

/** The client that this secret is a good one of, whatever the client's state; `clientId` is `cid_…` or the bare agent id. */
export async function findAgentBySecret(
  sql: Sql,
  args: { clientId: string; secretHash: Buffer; now: Date },
): Promise<{ agent: Agent; credentialId: CredentialId } | undefined> {
  const { clientId } = args;
  if (!isAgentId(clientId) && !isId('client', clientId)) return undefined;
  const [row] = await sql.query<Agent & { credentialId: CredentialId }>(
    `SELECT ${agentColumns}, c.id AS credential_id FROM agents a JOIN agent_credentials c ON c.agent_id = a.id
     WHERE a.${isAgentId(clientId) ? 'id' : 'client_id'} = $1 AND a.deleted_at IS NULL AND c.secret_hash = $3
       AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $2)`,
    [clientId, args.now, args.secretHash],
  );
  if (!row) return undefined;
  const { credentialId, ...agent } = row;
  return { agent, credentialId };
}

/** Whatever its state: the caller asks `isCredentialLive`. */
export async function findCredential(sql: Sql, id: CredentialId): Promise<Credential | undefined> {
  const [row] = await sql.query<Credential>(`SELECT ${columns} FROM agent_credentials WHERE id = $1`, [id]);
  return row;
}

/** Those that are good now, oldest first: what `private_key_jwt` and a proof of possession may be made with, and secrets. */
export async function findLiveCredentials(sql: Sql, agentId: AgentId, now: Date): Promise<Credential[]> {
  return sql.query<Credential>(
    `SELECT ${columns} FROM agent_credentials WHERE agent_id = $1 AND ${live} ORDER BY created_at, id`,
    [agentId, now],
  );
}

/** What it ever had, newest first; `before` is the id that the last page ended with. */
export async function listCredentials(
  sql: Sql,
  args: { agentId: AgentId; before: CredentialId | null; limit: number },
): Promise<Credential[]> {
  return sql.query<Credential>(
    `SELECT ${columns} FROM agent_credentials WHERE agent_id = $1 AND ($2::text IS NULL
       OR (created_at, id) < (SELECT created_at, id FROM agent_credentials WHERE agent_id = $1 AND id = $2))
     ORDER BY created_at DESC, id DESC LIMIT $3`,
    [args.agentId, args.before, args.limit],
  );
}

/** The latest secrets that took the place of another, newest first. */
export async function findRotations(sql: Sql, agentId: AgentId, limit: number): Promise<Credential[]> {
  return sql.query<Credential>(
    `SELECT ${columns} FROM agent_credentials WHERE agent_id = $1 AND rotated_from IS NOT NULL
     ORDER BY created_at DESC, id DESC LIMIT $2`,
    [agentId, limit],
  );
}

/** How many of its secrets took the place of another since then. */
export async function countRotations(sql: Sql, agentId: AgentId, since: Date): Promise<number> {
  const [row] = await sql.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM agent_credentials
     WHERE agent_id = $1 AND rotated_from IS NOT NULL AND created_at > $2`,
    [agentId, since],
  );
  return row?.count ?? 0;
}

/** They stop working at once, and are forgotten when `keptUntil` has come, if ever. */
export async function revokeCredentials(
  sql: Sql,
  ids: readonly CredentialId[],
  now: Date,
  keptUntil: Date | null = null,
): Promise<void> {
  await sql.query(
    'UPDATE agent_credentials SET revoked_at = $2, kept_until = $3 WHERE id = ANY($1) AND revoked_at IS NULL',
    [ids, now, keptUntil],
  );
}

/** They work until then, unless they end earlier anyway; `keptUntil` as in `revokeCredentials`. */
export async function limitCredentials(
  sql: Sql,
  ids: readonly CredentialId[],
  until: Date,
  keptUntil: Date | null,
): Promise<void> {
  await sql.query(
    'UPDATE agent_credentials SET expires_at = least(expires_at, $2), kept_until = $3 WHERE id = ANY($1)',
    [ids, until, keptUntil],
  );
}

/** Forgets those that need be kept no longer. */
export async function sweepCredentials(sql: Sql, now: Date): Promise<void> {
  await deleteInBatches(sql, { table: 'agent_credentials', condition: 'kept_until <= $1', values: [now] });
}
