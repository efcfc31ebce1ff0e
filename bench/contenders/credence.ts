import { type Instance, startInstance } from '../../server/test/helpers/instance.ts';
import { type Sold, sell } from '../../server/test/helpers/seller.ts';
import type { Stage } from '../bench.ts';
import { startUpstream } from './nginx.ts';

/** Our own program, as `npm start` runs it in development mode: one process, its PostgreSQL, its chain. */
export interface Credence {
  instance: Instance;
  sold: Sold;
  headers: Record<string, string>;
  roots: Record<string, number>;
}

/** Starts it with an API on sale whose upstream is an nginx: `/free` and `/paid`. */
export async function startCredence(
  stage: Stage,
  options: {
    upstreamUrl?: string;
    settlement?: 'after_success' | 'optimistic' | 'upfront';
    env?: Record<string, string>;
    hosted?: true;
  } = {},
): Promise<Credence> {
  const { upstreamUrl, settlement, hosted } = options;
  const upstream = upstreamUrl === undefined ? await startUpstream(stage) : undefined;
  const env = { CREDENCE_LOG_LEVEL: 'warn', ...options.env, ...stage.environment };
  const instance = await startInstance({ env });
  stage.defer(() => instance.stop());
  const sold = await sell(instance, upstream?.url ?? upstreamUrl ?? '', 'bench', {
    ...(settlement ? { settlement } : {}),
    ...(hosted ? { hosted } : {}),
  });
  return {
    instance,
    // wrk takes the first address of a name; the gateway listens on both.
    sold: { ...sold, url: sold.url.replace('localhost', '127.0.0.1') },
    headers: { 'X-Agent-ID': 'bench' },
    roots: { server: instance.process.pid ?? 0, ...(upstream ? { upstream: upstream.pid } : {}) },
  };
}
