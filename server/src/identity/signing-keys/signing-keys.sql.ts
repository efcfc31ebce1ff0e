import type { Sql } from '../../db/index.ts';
import type { Algorithm, PublicJwk, SigningKeyState } from './signing-key.ts';

/** Notified whenever a key changes its state. */
export const signingKeysChannel = 'signing_keys_changed';

/** A key that is published, and the sealed private half of one that signs or will. */
export interface SigningKeyRow {
  kid: string;
  algorithm: Algorithm;
  state: Exclude<SigningKeyState, 'gone'>;
  publicJwk: PublicJwk;
  privateKey: Buffer | null;
  createdAt: Date;
}

const columns = 'kid, algorithm, state, public_jwk, private_key, created_at';

/** What the private half is sealed to. */
export function privateKeyOf(kid: string): string {
  return `signing_keys/${kid}/private_key`;
}

/** Every key that verifies: the one that signs first, then the one to come, then those that have signed. */
export async function findPublishedKeys(sql: Sql): Promise<SigningKeyRow[]> {
  return sql.query<SigningKeyRow>(
    `SELECT ${columns} FROM signing_keys WHERE state <> 'gone'
     ORDER BY array_position(ARRAY['active', 'next', 'retiring'], state), created_at DESC, kid`,
  );
}

/** The algorithms that have a key which signs. */
export async function findActiveAlgorithms(sql: Sql): Promise<Algorithm[]> {
  const rows = await sql.query<{ algorithm: Algorithm }>(
    "SELECT algorithm FROM signing_keys WHERE state = 'active' ORDER BY algorithm",
  );
  return rows.map(({ algorithm }) => algorithm);
}

/** The key that signs and the one to come, held until the transaction ends. */
export async function lockCurrentKeys(sql: Sql, algorithm: Algorithm): Promise<SigningKeyRow[]> {
  return sql.query<SigningKeyRow>(
    `SELECT ${columns} FROM signing_keys WHERE algorithm = $1 AND state IN ('active', 'next')
     ORDER BY kid FOR UPDATE`,
    [algorithm],
  );
}

/** Adds a key. False where another process has just added one in its place. */
export async function insertSigningKey(
  sql: Sql,
  row: { state: 'active' | 'next'; jwk: PublicJwk; sealed: Buffer; now: Date },
): Promise<boolean> {
  const inserted = await sql.query(
    `INSERT INTO signing_keys (kid, algorithm, state, public_jwk, private_key, created_at, activated_at)
     VALUES ($1, $2, $3::text, $4, $5, $6::timestamptz, CASE WHEN $3 = 'active' THEN $6::timestamptz END) ON CONFLICT DO NOTHING RETURNING kid`,
    [row.jwk.kid, row.jwk.alg, row.state, JSON.stringify(row.jwk), row.sealed, row.now],
  );
  return inserted.length > 0;
}

/** The key signs from now on. */
export async function activateKey(sql: Sql, row: { kid: string; now: Date }): Promise<void> {
  await sql.query("UPDATE signing_keys SET state = 'active', activated_at = $2 WHERE kid = $1", [
    row.kid,
    row.now,
  ]);
}

/** The key signs no more; its private half is destroyed. */
export async function retireKey(
  sql: Sql,
  row: { kid: string; now: Date; verifiesUntil: Date },
): Promise<void> {
  await sql.query(
    `UPDATE signing_keys SET state = 'retiring', private_key = NULL, retired_at = $2, verifies_until = $3
     WHERE kid = $1`,
    [row.kid, row.now, row.verifiesUntil],
  );
}

/** Every key of the algorithm verifies nothing any more. */
export async function dropKeys(sql: Sql, row: { algorithm: Algorithm; now: Date }): Promise<string[]> {
  const rows = await sql.query<{ kid: string }>(
    `UPDATE signing_keys SET state = 'gone', private_key = NULL, retired_at = coalesce(retired_at, $2), verifies_until = $2
     WHERE algorithm = $1 AND state <> 'gone' RETURNING kid`,
    [row.algorithm, row.now],
  );
  return rows.map(({ kid }) => kid);
}

/** A retiring key whose last signature has expired, if there is one; two workers never get the same. */
export async function endRetiredKey(sql: Sql, now: Date): Promise<string | undefined> {
  const [row] = await sql.query<{ kid: string }>(
    `UPDATE signing_keys SET state = 'gone' WHERE kid = (
       SELECT kid FROM signing_keys WHERE state = 'retiring' AND verifies_until <= $1
       ORDER BY verifies_until LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING kid`,
    [now],
  );
  return row?.kid;
}

/** Tells every process, when the transaction commits. */
export async function notifyKeysChanged(sql: Sql): Promise<void> {
  await sql.query('SELECT pg_notify($1, $2)', [signingKeysChannel, '']);
}
