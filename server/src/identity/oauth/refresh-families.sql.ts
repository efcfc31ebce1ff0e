import type { Sql } from '../../db/index.ts';
import type { AgentId, CredentialId } from '../../kernel/ids.ts';

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

const familyTypes = {
  id: 'uuid',
  agent_id: 'uuid',
  credential_id: 'text',
  scope: 'text',
  resource: 'text',
  key_thumbprint: 'text',
  token_hash: 'bytea',
  generation: 'int',
  created_at: 'timestamptz',
  expires_at: 'timestamptz',
};
const familyColumns = Object.keys(familyTypes).join(', ');
const familyParameters = Object.values(familyTypes).map((type, index) => `$${index + 11}::${type}[]`);

/**
 * Inserts families for `writeStatement`: those whose credential is still good, for an agent that is live and still of the version that
 * was decided on, to the millisecond that a `Date` has. Takes what `familyValues` gives, and the versions.
 */
export const grantTables = `
  given AS (
    SELECT * FROM unnest(${familyParameters.join(', ')}, $21::timestamptz[]) WITH ORDINALITY
      AS g (${familyColumns}, agent_updated_at, position)
  ), good AS (
    SELECT g.* FROM given g JOIN agent_credentials c ON c.id = g.credential_id JOIN agents a ON a.id = g.agent_id
    WHERE c.agent_id = a.id AND c.revoked_at IS NULL AND (c.expires_at IS NULL OR c.expires_at > $10::timestamptz)
      AND a.status = 'active' AND (a.expires_at IS NULL OR a.expires_at > $10::timestamptz) AND date_trunc('milliseconds', a.updated_at) = g.agent_updated_at
  ), inserted AS (
    INSERT INTO refresh_families (${familyColumns}) SELECT ${familyColumns} FROM good
  ), changed AS (SELECT position FROM good)`;

export function familyValues(families: readonly RefreshFamily[]): unknown[][] {
  return [
    families.map(({ id }) => id),
    families.map(({ agentId }) => agentId),
    families.map(({ credentialId }) => credentialId),
    families.map(({ scope }) => scope),
    families.map(({ resource }) => resource),
    families.map(({ keyThumbprint }) => keyThumbprint),
    families.map(({ tokenHash }) => tokenHash),
    families.map(({ generation }) => generation),
    // In text: what the driver makes of a Date takes longer than all the rest of a row.
    families.map(({ createdAt }) => createdAt.toISOString()),
    families.map(({ expiresAt }) => expiresAt.toISOString()),
  ];
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
}

const familyQuery = `SELECT f.*, a.client_id, c.expires_at AS credential_expires_at, c.revoked_at AS credential_revoked_at,
    (SELECT min(least(old.revoked_at, old.expires_at))
     FROM agent_credentials successor JOIN agent_credentials old ON old.id = successor.rotated_from
     WHERE successor.agent_id = f.agent_id AND successor.created_at >= f.created_at AND successor.id <> f.credential_id) AS secret_ended_at
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

/** Forgets answers whose window has ended, and families whose month has. */
export async function sweepFamilies(
  sql: Sql,
  times: { answersBefore: Date; familiesBefore: Date },
): Promise<void> {
  await sql.query(
    'UPDATE spent_refresh_tokens SET answer = NULL WHERE answer IS NOT NULL AND spent_at < $1',
    [times.answersBefore],
  );
  // A UUIDv7 begins with its time in milliseconds (RFC 9562 section 5.7), so that the primary key finds the oldest.
  const bound = times.familiesBefore.getTime().toString(16).padStart(12, '0').padEnd(32, '0');
  await sql.query('DELETE FROM refresh_families WHERE id < $1::uuid', [bound]);
}
