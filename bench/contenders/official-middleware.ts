import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { privateKeyToAddress } from 'viem/accounts';
import { locateAnvil } from '../../server/src/embedded/binaries.ts';
import {
  baseSepoliaUsdc,
  fundAccount,
  plantBatchContract,
  plantTestToken,
} from '../../server/src/embedded/index.ts';
import type { Stage } from '../bench.ts';
import { body } from './nginx.ts';
import { startProgram } from './child.ts';

/** The official middleware with the official facilitator in the same process, and a chain of its own. */
export interface OfficialMiddleware {
  url: string;
  rpcUrl: string;
  roots: Record<string, number>;
}

export async function startOfficialMiddleware(stage: Stage): Promise<OfficialMiddleware> {
  const chain = await startProgram({
    command: locateAnvil(),
    args: ['--host=127.0.0.1', '--port=0', '--chain-id=84532', '--prune-history=256'],
    listening: /^Listening on (127\.0\.0\.1:\d+)/,
  });
  stage.defer(chain.stop);
  const rpcUrl = `http://${chain.address}`;
  await call(rpcUrl, 'anvil_setLoggingEnabled', [false]);
  await plantTestToken(rpcUrl, baseSepoliaUsdc);
  await plantBatchContract(rpcUrl);
  const relayerKey = `0x${randomBytes(32).toString('hex')}` as const;
  await fundAccount(rpcUrl, { address: privateKeyToAddress(relayerKey), wei: 10n ** 21n });

  const server = await startProgram({
    command: process.execPath,
    args: [fileURLToPath(new URL('../programs/official-middleware.ts', import.meta.url))],
    env: {
      NODE_ENV: 'production',
      RPC_URL: rpcUrl,
      RELAYER_KEY: relayerKey,
      PAY_TO: privateKeyToAddress(`0x${randomBytes(32).toString('hex')}`),
      BODY: body,
    },
    listening: /^listening on (\S+)/,
  });
  stage.defer(server.stop);
  return { url: server.address, rpcUrl, roots: { server: server.pid, chain: chain.pid } };
}

/** Has a chain mine at an interval, as public chains do, rather than a block for each transaction. */
export function setBlockTime(rpcUrl: string, seconds: number): Promise<void> {
  return call(rpcUrl, 'evm_setIntervalMining', [seconds]);
}

async function call(rpcUrl: string, method: string, params: unknown[]): Promise<void> {
  const response = await fetch(rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const answer = (await response.json()) as { error?: { message: string } };
  if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
}
