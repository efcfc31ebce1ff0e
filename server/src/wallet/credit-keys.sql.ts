import type { Sql } from '../db/index.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import type { CreditAlgorithm } from '../x402/index.ts';
import type { CreditJwk } from './credit-key.ts';

/** A registered key. A revoked one stays, and can't be registered again. */
export interface CreditKeyRow {
  kid: string;
  name: string;
  algorithm: CreditAlgorithm;
  publicJwk: CreditJwk;
  createdAt: Date;
  revokedAt: Date | null;
}

const keyColumns = 'kid, name, algorithm, public_jwk, created_at, revoked_at';

/** False where the environment has registered this key before. */
export async function insertCreditKey(
  sql: Sql,
  environmentId: EnvironmentId,
  key: Omit<CreditKeyRow, 'revokedAt'>,
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO credit_keys (environment_id, kid, name, algorithm, public_jwk, created_at)
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING kid`,
    [environmentId, key.kid, key.name, key.algorithm, JSON.stringify(key.publicJwk), key.createdAt],
  );
  return rows.length > 0;
}

/** Oldest first. */
export async function listCreditKeys(sql: Sql, environmentId: EnvironmentId): Promise<CreditKeyRow[]> {
  return sql.query<CreditKeyRow>(
    `SELECT ${keyColumns} FROM credit_keys WHERE environment_id = $1 ORDER BY created_at, kid`,
    [environmentId],
  );
}

/** False where there is none, or it was revoked before. */
export async function markCreditKeyRevoked(
  sql: Sql,
  environmentId: EnvironmentId,
  kid: string,
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE credit_keys SET revoked_at = $3 WHERE environment_id = $1 AND kid = $2 AND revoked_at IS NULL
     RETURNING kid`,
    [environmentId, kid, now],
  );
  return rows.length > 0;
}

/** The payer's keys that may pay now, and which half of its organisation it is. */
export async function findActiveCreditKeys(
  sql: Sql,
  environmentId: string,
): Promise<
  { kid: string; algorithm: CreditAlgorithm; publicJwk: CreditJwk; kind: 'production' | 'sandbox' }[]
> {
  return sql.query(
    `SELECT k.kid, k.algorithm, k.public_jwk, e.kind FROM credit_keys k JOIN environments e ON e.id = k.environment_id
     WHERE k.environment_id = $1 AND k.revoked_at IS NULL`,
    [environmentId],
  );
}

/** The environments that have revoked a key since then. */
export async function findRevokedSince(sql: Sql, since: Date): Promise<string[]> {
  const rows = await sql.query<{ environmentId: string }>(
    'SELECT DISTINCT environment_id FROM credit_keys WHERE revoked_at >= $1',
    [since],
  );
  return rows.map(({ environmentId }) => environmentId);
}

/** Tells every gateway that what it knows of the environment's keys is old. Delivered at commit. */
export async function notifyCreditKeysChanged(sql: Sql, environmentId: EnvironmentId): Promise<void> {
  await sql.query('SELECT pg_notify($1, $2)', [creditKeysChangedChannel, environmentId]);
}

export const creditKeysChangedChannel = 'credit_keys_changed';
