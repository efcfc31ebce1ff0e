import { write, type WriteContext } from '../db/index.ts';
import { AppError } from '../kernel/errors.ts';
import { type EnvironmentId, newId } from '../kernel/ids.ts';
import { getServer, insertEndpoint, notifyServerChanged } from './market.sql.ts';
import type { Endpoint } from './server.ts';

export type NewEndpoint = Pick<
  Endpoint,
  'description' | 'methods' | 'price' | 'privatePath' | 'publicPath' | 'settlement'
>;

/** Adds a path to a server, live at once where the server is. Throws `not_found`, `invalid_request` for `upfront` with a payee outside, or `conflict` where the path has one. */
export async function createEndpoint(
  context: WriteContext,
  args: { environmentId: EnvironmentId; serverId: string; endpoint: NewEndpoint },
): Promise<Endpoint> {
  const { environmentId } = args;
  return write(context, async (sql, now) => {
    const server = await getServer(sql, environmentId, args.serverId);
    if (args.endpoint.settlement === 'upfront' && server.payTo !== null) {
      throw new AppError(
        'invalid_request',
        'settlement "upfront" needs a server without pay_to: what is paid to an address outside cannot be given back',
      );
    }
    const endpoint: Endpoint = {
      ...args.endpoint,
      id: newId('endpoint'),
      serverId: server.id,
      enabled: true,
    };
    if (!(await insertEndpoint(sql, { environmentId, endpoint, box: context.box, now }))) {
      throw new AppError('conflict', `The server has an endpoint at ${endpoint.publicPath} already`);
    }
    await notifyServerChanged(sql, server.slug);
    const data = { server_id: server.id, public_path: endpoint.publicPath, price: endpoint.price.toString() };
    return { result: endpoint, audit: { action: 'endpoint.created', resource: endpoint.id, data } };
  });
}
