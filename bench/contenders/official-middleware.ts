import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { privateKeyToAddress } from 'viem/accounts';
import type { Stage } from '../bench.ts';
import { startPeerChain } from './chain.ts';
import { startProgram } from './child.ts';
import { body } from './nginx.ts';

/** The official middleware with the official facilitator in the same process, and a chain of its own. */
export interface OfficialMiddleware {
  url: string;
  rpcUrl: string;
  roots: Record<string, number>;
}

export async function startOfficialMiddleware(stage: Stage): Promise<OfficialMiddleware> {
  const chain = await startPeerChain(stage);
  const server = await startProgram({
    command: process.execPath,
    args: [fileURLToPath(new URL('../programs/official-middleware.ts', import.meta.url))],
    env: {
      NODE_ENV: 'production',
      RPC_URL: chain.rpcUrl,
      RELAYER_KEY: chain.relayerKey,
      PAY_TO: privateKeyToAddress(`0x${randomBytes(32).toString('hex')}`),
      BODY: body,
    },
    listening: /^listening on (\S+)/,
  });
  stage.defer(server.stop);
  return { url: server.address, rpcUrl: chain.rpcUrl, roots: { server: server.pid, chain: chain.pid } };
}
