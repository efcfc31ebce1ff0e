import type { Sql } from '../db/index.ts';
import type { ApiKeyId, EnvironmentId, OrganisationId } from '../kernel/ids.ts';
import type { EnvironmentKind } from './api-key.ts';

export async function insertOrganisation(
  sql: Sql,
  row: { id: OrganisationId; name: string; now: Date },
): Promise<void> {
  await sql.query('INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3)', [
    row.id,
    row.name,
    row.now,
  ]);
}

export async function insertEnvironment(
  sql: Sql,
  row: { id: EnvironmentId; organisationId: OrganisationId; kind: EnvironmentKind; now: Date },
): Promise<void> {
  await sql.query(
    'INSERT INTO environments (id, organisation_id, kind, created_at) VALUES ($1, $2, $3, $4)',
    [row.id, row.organisationId, row.kind, row.now],
  );
}

/** An organisation's half, which owns resources. */
export interface Environment {
  id: EnvironmentId;
  organisationId: OrganisationId;
  kind: EnvironmentKind;
}

export async function findEnvironment(sql: Sql, id: string): Promise<Environment | undefined> {
  const [row] = await sql.query<Environment>(
    'SELECT id, organisation_id, kind FROM environments WHERE id = $1',
    [id],
  );
  return row;
}

/** The oldest environment of the instance: the one that development mode made. */
export async function findFirstEnvironment(sql: Sql): Promise<Environment | undefined> {
  const [row] = await sql.query<Environment>(
    'SELECT id, organisation_id, kind FROM environments ORDER BY created_at, id LIMIT 1',
  );
  return row;
}

/** An API key, without its secret. */
export interface ApiKey {
  environmentId: EnvironmentId;
  organisationId: OrganisationId;
  id: ApiKeyId;
  scopes: string[];
}

export async function insertApiKey(
  sql: Sql,
  row: {
    environmentId: EnvironmentId;
    id: ApiKeyId;
    name: string;
    displayPrefix: string;
    secretHash: Buffer;
    scopes: readonly string[];
    now: Date;
  },
): Promise<void> {
  await sql.query(
    `INSERT INTO api_keys (environment_id, id, name, display_prefix, secret_hash, scopes, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [row.environmentId, row.id, row.name, row.displayPrefix, row.secretHash, row.scopes, row.now],
  );
}

/** By the hash of the secret; nothing where the key is revoked. */
export async function findActiveApiKey(sql: Sql, secretHash: Buffer): Promise<ApiKey | undefined> {
  const [row] = await sql.query<ApiKey>(
    `SELECT k.environment_id, e.organisation_id, k.id, k.scopes
     FROM api_keys k JOIN environments e ON e.id = k.environment_id
     WHERE k.secret_hash = $1 AND k.revoked_at IS NULL`,
    [secretHash],
  );
  return row;
}
