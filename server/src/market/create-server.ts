import { write, type WriteContext } from '../db/index.ts';
import { AppError } from '../kernel/errors.ts';
import { newId } from '../kernel/ids.ts';
import type { EnvironmentId } from '../kernel/ids.ts';
import { insertServer } from './market.sql.ts';
import { isSlug, type MarketServer, slugOf } from './server.ts';

export type NewServer = Pick<MarketServer, 'baseUrl' | 'description' | 'name' | 'payTo'> & {
  slug: string | null;
};

/** Creates a draft. Throws `conflict` where somebody has the slug, `invalid_request` where it can't be one. */
export async function createServer(
  context: WriteContext,
  environmentId: EnvironmentId,
  args: NewServer,
): Promise<MarketServer> {
  const slug = args.slug ?? slugOf(args.name);
  if (!isSlug(slug)) {
    throw new AppError(
      'invalid_request',
      `slug must be 1 to 63 of a-z, 0-9 and -, and no word of ours; "${slug}" isn't`,
    );
  }
  return write(context, async (sql, now) => {
    const server: MarketServer = { ...args, slug, environmentId, id: newId('server'), state: 'draft' };
    if (!(await insertServer(sql, server, now))) {
      throw new AppError('conflict', `The slug "${slug}" is taken; send another one as slug`);
    }
    return { result: server, audit: { action: 'server.created', resource: server.id, data: { slug } } };
  });
}
