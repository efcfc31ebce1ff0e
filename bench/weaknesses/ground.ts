import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Address } from 'viem';
import { privateKeyToAddress } from 'viem/accounts';
import { findFreePort } from '../../server/test/helpers/instance.ts';
import { newPayer, openChain, type Payer } from '../../server/test/helpers/payer.ts';
import type { Answer } from '../../server/test/helpers/request.ts';
import { startUpstream, type Upstream } from '../../server/test/helpers/upstream.ts';
import type { Stage } from '../bench.ts';
import { startPeerChain } from '../contenders/chain.ts';
import { type Program, startProgram } from '../contenders/child.ts';
import { type FacilitatorServer, startFacilitator } from './facilitator.ts';

/** A seller who uses the official middleware, a facilitator, the seller's upstream and a chain: all real, all on loopback. */
export interface Ground {
  rpcUrl: string;
  /** Of the facilitator's transactions. */
  relayer: Address;
  /**
   * The seller's server. `/paid` and `/other` cost a cent each; so do `/write-head`, which says its status by `writeHead`, and
   * `/upfront`, where the cent is taken first.
   */
  seller: { url: string; kill(): Promise<void>; start(): Promise<void> };
  facilitator: FacilitatorServer;
  upstream: Upstream;
  /** The stock client, with test money. */
  newPayer(): Promise<Payer>;
  /** How many times the price has reached the seller on the chain. */
  countCharges(): Promise<number>;
}

/** What a script saw, in a line or two, and whether that is the weakness. */
export interface Finding {
  shown: boolean;
  saw: string;
}

const priceAtomic = 10_000n;
const program = fileURLToPath(new URL('../programs/official-seller.ts', import.meta.url));

/**
 * Plays one scene on ground of its own, prints what it saw, and leaves the exit code: 0 where the weakness was shown, 1 where it was
 * not, 2 where the scene couldn't be played.
 */
export async function show(
  scene: (ground: Ground) => Promise<Finding>,
  options: { confirmationTimeoutMs?: number } = {},
): Promise<void> {
  const name = basename(process.argv[1] ?? '', '.ts');
  const endings: (() => Promise<unknown>)[] = [];
  try {
    const ground = await openGround({ defer: (end) => endings.push(end) }, options);
    const { shown, saw } = await scene(ground);
    console.log(`${name}: ${shown ? 'shown' : 'NOT SHOWN'}. ${saw}`);
    process.exitCode = shown ? 0 : 1;
  } catch (error) {
    console.error(`${name}: could not be played.`, error);
    process.exitCode = 2;
  } finally {
    for (const end of endings.toReversed()) await end();
  }
}

async function openGround(
  stage: Pick<Stage, 'defer'>,
  options: { confirmationTimeoutMs?: number },
): Promise<Ground> {
  const { rpcUrl, relayerKey } = await startPeerChain(stage);
  const upstream = await startUpstream((_request, response) => response.end('the answer'));
  stage.defer(() => upstream.close());
  const facilitator = await startFacilitator({ rpcUrl, relayerKey, ...options });
  stage.defer(() => facilitator.stop());
  const payTo = privateKeyToAddress(`0x${randomBytes(32).toString('hex')}`);
  const seller = await startSeller(stage, {
    FACILITATOR_URL: facilitator.url,
    UPSTREAM_URL: upstream.url,
    PAY_TO: payTo,
  });
  const onChain = { info: { rpc_url: rpcUrl } };
  return {
    rpcUrl,
    relayer: privateKeyToAddress(relayerKey),
    seller,
    facilitator,
    upstream,
    newPayer: () => newPayer(onChain),
    countCharges: async () => Number((await openChain(onChain).balanceOf(payTo)) / priceAtomic),
  };
}

/** The seller's server in a process of its own, so that it can be killed; it comes back on the same port. */
async function startSeller(
  stage: Pick<Stage, 'defer'>,
  settings: Record<string, string>,
): Promise<Ground['seller']> {
  const port = String(await findFreePort());
  const launch = () =>
    startProgram({
      command: process.execPath,
      args: [program],
      env: { NODE_ENV: 'production', PORT: port, ...settings },
      listening: /^listening on (\S+)/,
    });
  let running: Program = await launch();
  stage.defer(() => running.stop());
  return {
    url: running.address,
    async kill() {
      process.kill(running.pid, 'SIGKILL');
      await running.stop();
    },
    async start() {
      running = await launch();
    },
  };
}

/** An answer in a few words. */
export function describe({ status, text }: Answer): string {
  return status === 200 ? '200' : `${status} ${text}`;
}
