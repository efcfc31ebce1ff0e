import type { Origin, Sql } from '../../db/index.ts';
import { type AgentId, type CredentialId, newId } from '../../kernel/ids.ts';

/** One grant and the refresh tokens that followed from it. */
export interface RefreshFamily {
  id: string;
  agentId: AgentId;
  credentialId: CredentialId;
  /** What was granted at first: a refresh may narrow it for its answer. */
  scope: string;
  /** The audience of its access tokens. */
  resource: string;
  /** RFC 9449: the key that its tokens are bound to. */
  keyThumbprint: string | null;
  tokenHash: Buffer;
  generation: number;
  createdAt: Date;
  expiresAt: Date;
}

/** A grant that is decided on what a process remembers, and not yet written down. */
export interface Grant {
  family: RefreshFamily;
  /** The version of the agent that it was decided on. */
  agentUpdatedAt: Date;
  /** How the client has authenticated. */
  method: string;
  origin: Origin;
}

const familyColumns = `agent_id, credential_id, scope, key_thumbprint, created_at, expires_at`;

/* As texts: what the driver makes of a Date or a Buffer takes longer than all the rest of a row. */
const grantColumns: Record<string, { type: string; of(grant: Grant): string | null }> = {
  id: { type: 'text', of: () => newId('audit_event') },
  request_id: { type: 'text', of: ({ origin }) => origin.requestId },
  client_address: { type: 'text', of: ({ origin }) => origin.clientAddress },
  method: { type: 'text', of: ({ method }) => method },
  agent_updated_at: { type: 'timestamptz', of: ({ agentUpdatedAt }) => agentUpdatedAt.toISOString() },
  family_id: { type: 'uuid', of: ({ family }) => family.id },
  agent_id: { type: 'uuid', of: ({ family }) => family.agentId },
  credential_id: { type: 'text', of: ({ family }) => family.credentialId },
  scope: { type: 'text', of: ({ family }) => family.scope },
  audience: { type: 'text', of: ({ family }) => family.resource },
  key_thumbprint: { type: 'text', of: ({ family }) => family.keyThumbprint },
  token_hash: { type: 'text', of: ({ family }) => family.tokenHash.toString('hex') },
  created_at: { type: 'timestamptz', of: ({ family }) => family.createdAt.toISOString() },
  expires_at: { type: 'timestamptz', of: ({ family }) => family.expiresAt.toISOString() },
};
const grantParameters = Object.values(grantColumns).map(({ type }, index) => `$${index + 2}::${type}[]`);

/**
 * Inserts families for `writeStatement`, each in its first generation: those whose credential is still good, for an agent that is live
 * and still of the version that was decided on, to the millisecond that a `Date` has. Takes what `grantValues` gives.
 */
export const grantTables = `
  given AS (
    SELECT * FROM unnest(${grantParameters.join(', ')}) WITH ORDINALITY
      AS g (${Object.keys(grantColumns).join(', ')}, position)
  ), changed AS (
    SELECT g.*, coalesce(a.home_environment_id, 'instance') AS environment_id, 'agent.token_issued' AS action,
      'agent' AS actor_kind, a.id::text AS actor_id, a.id::text AS resource,
      jsonb_build_object('family', g.family_id, 'method', g.method, 'scope', g.scope, 'audience', g.audience) AS data
    FROM given g JOIN agent_credentials c ON c.id = g.credential_id JOIN agents a ON a.id = g.agent_id
    WHERE c.agent_id = a.id AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $1)
      AND a.status = 'active' AND (a.expires_at IS NULL OR a.expires_at > $1)
      AND date_trunc('milliseconds', a.updated_at) = g.agent_updated_at
  ), inserted AS (
    INSERT INTO refresh_families (id, resource, token_hash, generation, ${familyColumns})
    SELECT family_id, audience, decode(token_hash, 'hex'), 0, ${familyColumns} FROM changed
  )`;

export function grantValues(grants: readonly Grant[]): (string | null)[][] {
  return Object.values(grantColumns).map(({ of }) => grants.map(of));
}

/** A family with what decides whether it may still be used. */
export interface FamilyState extends RefreshFamily {
  revokedAt: Date | null;
  /** Nothing where the agent is deleted. */
  clientId: string | null;
  credentialExpiresAt: Date | null;
  credentialRevokedAt: Date | null;
  /** When the first secret ended, or ends, that was rotated after the family had begun. */
  secretEndedAt: Date | null;
  /** Whether the key that it is bound to was one of its agent's, and is none any more. */
  keyRevoked: boolean | null;
}

/** A credential that isn't there any more isn't good. A later rotation ends what the first one let live at the latest, so that the first few tell when the earliest ended. */
const familyQuery = `SELECT f.*, a.client_id, c.expires_at AS credential_expires_at,
    CASE WHEN c.id IS NULL THEN f.created_at ELSE c.revoked_at END AS credential_revoked_at,
    (SELECT min(least(old.revoked_at, old.expires_at))
     FROM (SELECT rotated_from FROM agent_credentials WHERE agent_id = f.agent_id AND rotated_from IS NOT NULL
       AND created_at >= f.created_at AND id <> f.credential_id ORDER BY created_at LIMIT 4) successor
     JOIN agent_credentials old ON old.id = successor.rotated_from) AS secret_ended_at,
    (SELECT bool_and(k.revoked_at IS NOT NULL) FROM agent_credentials k
     WHERE k.agent_id = f.agent_id AND k.thumbprint = f.key_thumbprint) AS key_revoked
  FROM refresh_families f LEFT JOIN agents a ON a.id = f.agent_id AND a.deleted_at IS NULL
  LEFT JOIN agent_credentials c ON c.id = f.credential_id WHERE f.id = $1`;

export async function findFamily(sql: Sql, id: string): Promise<FamilyState | undefined> {
  const [row] = await sql.query<FamilyState>(familyQuery, [id]);
  return row;
}

/** As `findFamily`, holding the row: its refreshes come one after another, on any number of processes. */
export async function lockFamily(sql: Sql, id: string): Promise<FamilyState | undefined> {
  const [locked] = await sql.query('SELECT id FROM refresh_families WHERE id = $1 FOR UPDATE', [id]);
  // Read after the lock was got, so that what its last holder committed is seen.
  return locked ? findFamily(sql, id) : undefined;
}

export async function updateFamilyToken(
  sql: Sql,
  row: { id: string; tokenHash: Buffer; generation: number },
): Promise<void> {
  await sql.query('UPDATE refresh_families SET token_hash = $2, generation = $3 WHERE id = $1', [
    row.id,
    row.tokenHash,
    row.generation,
  ]);
}

/** A token that was used, and what its use was answered with. */
export interface SpentToken {
  familyId: string;
  tokenHash: Buffer;
  fingerprint: Buffer;
  /** Sealed; gone once the window for an honest retry has ended. */
  answer: Buffer | null;
  spentAt: Date;
}

export async function insertSpentToken(sql: Sql, row: SpentToken): Promise<void> {
  await sql.query(
    'INSERT INTO spent_refresh_tokens (family_id, token_hash, fingerprint, answer, spent_at) VALUES ($1, $2, $3, $4, $5)',
    [row.familyId, row.tokenHash, row.fingerprint, row.answer, row.spentAt],
  );
}

export async function findSpentToken(
  sql: Sql,
  familyId: string,
  tokenHash: Buffer,
): Promise<SpentToken | undefined> {
  const [row] = await sql.query<SpentToken>(
    'SELECT family_id, token_hash, fingerprint, answer, spent_at FROM spent_refresh_tokens WHERE family_id = $1 AND token_hash = $2',
    [familyId, tokenHash],
  );
  return row;
}

/** Ends the family, once; false where it had been. The access tokens of the family end with it. */
export async function revokeFamily(sql: Sql, id: string, now: Date): Promise<boolean> {
  const rows = await sql.query(
    'UPDATE refresh_families SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id',
    [id, now],
  );
  return rows.length > 0;
}

/** Forgets answers whose window has ended, and families whose month has: so many of each at most. Gives how many. */
export async function sweepFamilies(
  sql: Sql,
  args: { answersBefore: Date; familiesBefore: Date; now: Date; limit: number },
): Promise<{ answers: number; families: number }> {
  // A UUIDv7 begins with its time in milliseconds (RFC 9562 section 5.7), so that the primary key finds the oldest; by the clock of the
  // machine that made it, which may be wrong.
  const bound = args.familiesBefore.getTime().toString(16).padStart(12, '0').padEnd(32, '0');
  const families = await sql.query(
    `DELETE FROM refresh_families WHERE id IN (
       SELECT id FROM refresh_families WHERE id < $1::uuid AND expires_at <= $3 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1 AS one`,
    [bound, args.limit, args.now],
  );
  const answers = await sql.query(
    `UPDATE spent_refresh_tokens SET answer = NULL WHERE (family_id, token_hash) IN (
       SELECT family_id, token_hash FROM spent_refresh_tokens WHERE answer IS NOT NULL AND spent_at < $1
       ORDER BY spent_at LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING 1 AS one`,
    [args.answersBefore, args.limit],
  );
  return { answers: answers.length, families: families.length };
}
