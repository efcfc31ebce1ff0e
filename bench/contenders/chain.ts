import { randomBytes } from 'node:crypto';
import type { Hex } from 'viem';
import { privateKeyToAddress } from 'viem/accounts';
import { locateAnvil } from '../../server/src/embedded/binaries.ts';
import {
  baseSepoliaUsdc,
  fundAccount,
  plantBatchContract,
  plantTestToken,
} from '../../server/src/embedded/index.ts';
import type { Stage } from '../bench.ts';
import { startProgram } from './child.ts';

/** A local chain with the token, and somebody who has ether to settle with. */
export interface PeerChain {
  rpcUrl: string;
  pid: number;
  relayerKey: Hex;
}

/** Starts a chain for a peer. It mines a block for each transaction until told otherwise. */
export async function startPeerChain(stage: Pick<Stage, 'defer'>): Promise<PeerChain> {
  const chain = await startProgram({
    command: locateAnvil(),
    args: ['--host=127.0.0.1', '--port=0', '--chain-id=84532', '--prune-history=256'],
    listening: /^Listening on (127\.0\.0\.1:\d+)/,
  });
  stage.defer(chain.stop);
  const rpcUrl = `http://${chain.address}`;
  await callChain(rpcUrl, 'anvil_setLoggingEnabled', [false]);
  await plantTestToken(rpcUrl, baseSepoliaUsdc);
  await plantBatchContract(rpcUrl);
  const relayerKey: Hex = `0x${randomBytes(32).toString('hex')}`;
  await fundAccount(rpcUrl, { address: privateKeyToAddress(relayerKey), wei: 10n ** 21n });
  return { rpcUrl, pid: chain.pid, relayerKey };
}

/** Has a chain mine at an interval, as public chains do, rather than a block for each transaction. */
export function setBlockTime(rpcUrl: string, seconds: number): Promise<void> {
  return callChain(rpcUrl, 'evm_setIntervalMining', [seconds]);
}

/** Has a chain keep what it is sent, and mine nothing until it is told to. */
export function holdMining(rpcUrl: string): Promise<void> {
  return callChain(rpcUrl, 'evm_setAutomine', [false]);
}

/** Has a chain mine what it holds, and from now on whatever comes. */
export async function resumeMining(rpcUrl: string): Promise<void> {
  await callChain(rpcUrl, 'evm_mine', []);
  await callChain(rpcUrl, 'evm_setAutomine', [true]);
}

async function callChain(rpcUrl: string, method: string, params: unknown[]): Promise<void> {
  const response = await fetch(rpcUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
  });
  const answer = (await response.json()) as { error?: { message: string } };
  if (answer.error) throw new Error(`${method}: ${answer.error.message}`);
}
