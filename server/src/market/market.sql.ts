import type { Sql } from '../db/index.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import type { EndpointId, EnvironmentId } from '../kernel/ids.ts';
import type { Endpoint, MarketServer } from './server.ts';

const serverColumns = 'environment_id, id, slug, name, description, base_url, pay_to, state';

/** False where the slug is taken, by whomever. */
export async function insertServer(sql: Sql, server: MarketServer, now: Date): Promise<boolean> {
  const slugs = await sql.query(
    'INSERT INTO server_slugs (slug, environment_id, server_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING slug',
    [server.slug, server.environmentId, server.id],
  );
  if (slugs.length === 0) return false;
  await sql.query(
    `INSERT INTO servers (${serverColumns}, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)`,
    [
      server.environmentId,
      server.id,
      server.slug,
      server.name,
      server.description,
      server.baseUrl,
      server.payTo,
      server.state,
      now,
    ],
  );
  return true;
}

/** Throws `not_found`, for another environment's server as well. */
export async function getServer(sql: Sql, environmentId: EnvironmentId, id: string): Promise<MarketServer> {
  const [row] = await sql.query<MarketServer>(
    `SELECT ${serverColumns} FROM servers WHERE environment_id = $1 AND id = $2`,
    [environmentId, id],
  );
  if (!row) throw new AppError('not_found', 'There is no such server');
  return row;
}

/** Newest first; `before` is the id that the last page ended with. */
export async function listServers(
  sql: Sql,
  args: { environmentId: EnvironmentId; before: string | null; limit: number },
): Promise<MarketServer[]> {
  return sql.query<MarketServer>(
    `SELECT ${serverColumns} FROM servers WHERE environment_id = $1 AND ($2::text IS NULL OR id < $2)
     ORDER BY id DESC LIMIT $3`,
    [args.environmentId, args.before, args.limit],
  );
}

export async function findServerBySlug(sql: Sql, slug: string): Promise<MarketServer | undefined> {
  const [row] = await sql.query<MarketServer>(
    `SELECT s.environment_id, s.id, s.slug, s.name, s.description, s.base_url, s.pay_to, s.state
     FROM server_slugs g JOIN servers s ON s.environment_id = g.environment_id AND s.id = g.server_id
     WHERE g.slug = $1`,
    [slug],
  );
  return row;
}

/** Publishes; false where it was published before. */
export async function markPublished(sql: Sql, server: MarketServer, now: Date): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE servers SET state = 'published', updated_at = $3
     WHERE environment_id = $1 AND id = $2 AND state = 'draft' RETURNING id`,
    [server.environmentId, server.id, now],
  );
  return rows.length > 0;
}

/** False where the server was there already. */
export async function updateBaseUrl(
  sql: Sql,
  server: MarketServer,
  baseUrl: string,
  now: Date,
): Promise<boolean> {
  const rows = await sql.query(
    `UPDATE servers SET base_url = $3, updated_at = $4
     WHERE environment_id = $1 AND id = $2 AND base_url <> $3 RETURNING id`,
    [server.environmentId, server.id, baseUrl, now],
  );
  return rows.length > 0;
}

/** False where the server has an endpoint at this path. */
export async function insertEndpoint(
  sql: Sql,
  row: { environmentId: EnvironmentId; endpoint: Endpoint; box: SecretBox; now: Date },
): Promise<boolean> {
  const { environmentId, endpoint } = row;
  const sealed = row.box.seal(Buffer.from(endpoint.privatePath), privatePathRow(environmentId, endpoint.id));
  const rows = await sql.query(
    `INSERT INTO endpoints (environment_id, id, server_id, public_path, private_path, methods, price, settlement,
       description, enabled, created_at, updated_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)
     ON CONFLICT (environment_id, server_id, public_path) DO NOTHING RETURNING id`,
    [
      environmentId,
      endpoint.id,
      endpoint.serverId,
      endpoint.publicPath,
      sealed,
      endpoint.methods,
      endpoint.price,
      endpoint.settlement,
      endpoint.description,
      endpoint.enabled,
      row.now,
    ],
  );
  return rows.length > 0;
}

/** A server's endpoints with their private paths opened. Only the gateway asks for these. */
export async function findEndpoints(sql: Sql, server: MarketServer, box: SecretBox): Promise<Endpoint[]> {
  const rows = await sql.query<Omit<Endpoint, 'privatePath'> & { privatePath: Buffer }>(
    `SELECT id, server_id, public_path, private_path, methods, price, settlement, description, enabled FROM endpoints
     WHERE environment_id = $1 AND server_id = $2 ORDER BY public_path`,
    [server.environmentId, server.id],
  );
  return rows.map((row) => ({
    ...row,
    privatePath: box.open(row.privatePath, privatePathRow(server.environmentId, row.id)).toString(),
  }));
}

/** Tells every gateway that what it knows of the slug is old. Delivered at commit. */
export async function notifyServerChanged(sql: Sql, slug: string): Promise<void> {
  await sql.query('SELECT pg_notify($1, $2)', [serverChangedChannel, slug]);
}

export const serverChangedChannel = 'server_changed';

function privatePathRow(environmentId: EnvironmentId, id: EndpointId): string {
  return `endpoints/${environmentId}/${id}/private_path`;
}
