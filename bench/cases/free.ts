import { fileURLToPath } from 'node:url';
import type { Case, Contender, Stage } from '../bench.ts';
import { startProgram } from '../contenders/child.ts';
import { startCredence } from '../contenders/credence.ts';
import { startProxy, startUpstream } from '../contenders/nginx.ts';

export const free: Case = {
  name: 'free',
  title: 'A free call through the gateway',
  notes: [
    'GET, an answer of 1 KiB from an nginx that all three share; each proxy is one process (nginx: one worker).',
    'nginx and reply-from only forward. The gateway also matches slug and endpoint, identifies the agent and resolves parameters.',
  ],
  connections: 64,
  threads: 1,
  rampSeconds: 0,
  windowSeconds: 10,
  drainSeconds: 0,
  warmUpSeconds: 3,
  start: startFree,
};

async function startFree(stage: Stage): Promise<Contender[]> {
  const upstream = await startUpstream(stage);
  const credence = await startCredence(stage, { upstreamUrl: upstream.url });
  const proxy = await startProxy(stage, upstream.url);
  const replyFrom = await startProgram({
    command: process.execPath,
    args: [fileURLToPath(new URL('../programs/reply-from.ts', import.meta.url))],
    env: { NODE_ENV: 'production', UPSTREAM_URL: upstream.url },
    listening: /^listening on (\S+)/,
  });
  stage.defer(replyFrom.stop);
  return [
    {
      name: 'Credence',
      url: `${credence.sold.url}/free`,
      headers: credence.headers,
      roots: { ...credence.roots, upstream: upstream.pid },
    },
    { name: 'nginx', url: `${proxy.url}/v1/free`, roots: { server: proxy.pid, upstream: upstream.pid } },
    {
      name: '@fastify/reply-from',
      url: `${replyFrom.address}/v1/free`,
      roots: { server: replyFrom.pid, upstream: upstream.pid },
    },
  ];
}
