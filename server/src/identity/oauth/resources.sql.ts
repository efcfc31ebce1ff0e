import type { Sql } from '../../db/index.ts';
import type { AgentId, EnvironmentId, OrganisationId, ResourceId } from '../../kernel/ids.ts';

/** An API that tokens are for (RFC 8707). */
export interface Resource {
  environmentId: EnvironmentId;
  id: ResourceId;
  /** What its tokens have as `aud`: an absolute URI. */
  identifier: string;
  name: string;
  /** The words that it understands; none named means any. */
  scopes: string[];
  createdAt: Date;
}

const columns = 'environment_id, id, identifier, name, scopes, created_at';

/** False where the environment has one of this identifier. */
export async function insertResource(sql: Sql, resource: Resource): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO oauth_resources (${columns}) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (environment_id, identifier) DO NOTHING RETURNING id`,
    [
      resource.environmentId,
      resource.id,
      resource.identifier,
      resource.name,
      resource.scopes,
      resource.createdAt,
    ],
  );
  return rows.length > 0;
}

/** Makes the identifier the organisation's, and holds that; false where it is another's. */
export async function claimIdentifier(
  sql: Sql,
  row: { identifier: string; organisationId: OrganisationId },
): Promise<boolean> {
  const rows = await sql.query(
    `INSERT INTO oauth_resource_owners AS o (identifier, organisation_id) VALUES ($1, $2)
     ON CONFLICT (identifier) DO UPDATE SET organisation_id = excluded.organisation_id
     WHERE o.organisation_id = excluded.organisation_id RETURNING identifier`,
    [row.identifier, row.organisationId],
  );
  return rows.length > 0;
}

/** Gives the identifier back with its last resource. */
export async function deleteResource(sql: Sql, environmentId: EnvironmentId, id: string): Promise<boolean> {
  const [deleted] = await sql.query<{ identifier: string }>(
    'DELETE FROM oauth_resources WHERE environment_id = $1 AND id = $2 RETURNING identifier',
    [environmentId, id],
  );
  if (!deleted) return false;
  const { identifier } = deleted;
  // Held first, so that who is registering another one is waited for, and seen by the next statement.
  await sql.query('SELECT 1 FROM oauth_resource_owners WHERE identifier = $1 FOR UPDATE', [identifier]);
  await sql.query(
    `DELETE FROM oauth_resource_owners WHERE identifier = $1
       AND NOT EXISTS (SELECT 1 FROM oauth_resources r WHERE r.identifier = $1)`,
    [identifier],
  );
  return true;
}

export async function findResource(
  sql: Sql,
  environmentId: EnvironmentId,
  id: string,
): Promise<Resource | undefined> {
  const [row] = await sql.query<Resource>(
    `SELECT ${columns} FROM oauth_resources WHERE environment_id = $1 AND id = $2`,
    [environmentId, id],
  );
  return row;
}

/** Newest first; `before` is the id that the last page ended with. */
export async function listResources(
  sql: Sql,
  args: { environmentId: EnvironmentId; before: string | null; limit: number },
): Promise<Resource[]> {
  return sql.query<Resource>(
    `SELECT ${columns} FROM oauth_resources WHERE environment_id = $1 AND ($2::text IS NULL OR id < $2)
     ORDER BY id DESC LIMIT $3`,
    [args.environmentId, args.before, args.limit],
  );
}

/**
 * The resource of this identifier in an environment that the agent is linked to; where several have it, the agent's oldest. Nothing where
 * any of them has stopped the agent: it is one API, of one organisation.
 */
export async function findResourceForAgent(
  sql: Sql,
  agentId: AgentId,
  identifier: string,
): Promise<Resource | undefined> {
  const rows = await sql.query<Resource & { isStopped: boolean }>(
    `SELECT r.environment_id, r.id, r.identifier, r.name, r.scopes, r.created_at, l.stopped_at IS NOT NULL AS is_stopped
     FROM oauth_resources r JOIN agent_links l ON l.environment_id = r.environment_id AND l.agent_id = $1
     WHERE r.identifier = $2 ORDER BY l.stopped_at IS NULL, l.created_at, l.environment_id LIMIT 1`,
    [agentId, identifier],
  );
  // One that has stopped it comes first.
  return rows.find(({ isStopped }) => !isStopped);
}
