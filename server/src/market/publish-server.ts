import { write, type WriteContext } from '../db/index.ts';
import { AppError } from '../kernel/errors.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { findEndpoints, getServer, markPublished, notifyServerChanged } from './market.sql.ts';
import type { MarketServer } from './server.ts';

/** Puts a server on the gateway. Publishing twice is publishing once. Throws `not_found`, or `conflict` where it is empty. */
export async function publishServer(
  context: WriteContext,
  environmentId: EnvironmentId,
  id: string,
): Promise<MarketServer> {
  return write(context, async (sql, now) => {
    const server = await getServer(sql, environmentId, id);
    const endpoints = await findEndpoints(sql, server, context.box);
    if (endpoints.length === 0) {
      throw new AppError(
        'conflict',
        'The server has no endpoint yet; add one with POST /v1/servers/:id/endpoints',
      );
    }
    const changed = await markPublished(sql, server, now);
    if (changed) await notifyServerChanged(sql, server.slug);
    const audit = { action: 'server.published', resource: server.id, data: { slug: server.slug } };
    return { result: { ...server, state: 'published' as const }, audit: changed ? audit : null };
  });
}
