import { write, type WriteContext } from '../db/index.ts';
import { notifyServerChanged, updateBaseUrl } from './market.sql.ts';
import type { MarketServer } from './server.ts';

/** Points a server at another upstream. Moving it to where it is changes nothing. */
export async function moveServer(
  context: WriteContext,
  server: MarketServer,
  baseUrl: string,
): Promise<void> {
  await write(context, async (sql, now) => {
    const changed = await updateBaseUrl(sql, server, baseUrl, now);
    if (changed) await notifyServerChanged(sql, server.slug);
    const audit = { action: 'server.moved', resource: server.id, data: { base_url: baseUrl } };
    return { result: undefined, audit: changed ? audit : null };
  });
}
