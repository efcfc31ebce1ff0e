import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import {
  type Address,
  createPublicClient,
  createTestClient,
  encodeFunctionData,
  type Hex,
  http,
  parseAbi,
  type PublicClient,
} from 'viem';
import { privateKeyToAddress } from 'viem/accounts';
import { baseSepoliaUsdc, multicall3Address } from '../../server/src/embedded/index.ts';
import { CheckFailed, type Gas, type TicketOffice } from '../bench.ts';
import type { SigningJob } from './payments.ts';

/** The terms of a 402, as `PAYMENT-REQUIRED` holds them. */
export interface Terms {
  resource: { url: string };
  accepts: {
    network: string;
    amount: string;
    asset: string;
    payTo: Address;
    extra?: Record<string, unknown>;
  }[];
  extensions?: Record<string, unknown>;
}

/** Balances are read by payer: with one payer a server that reads each once would look better than it is. */
const payerCount = 1_000;
/** More than a payer spends in any run. */
const fundsAtomic = 10n ** 12n;
/** A mint takes 50 k gas at most, and a block has 30 M. */
const mintsPerTransaction = 200;

const abi = parseAbi([
  'struct Call3 { address target; bool allowFailure; bytes callData; }',
  'function aggregate3(Call3[] calls) payable',
  'function faucetMint(address to, uint256 value)',
  'function balanceOf(address account) view returns (uint256)',
]);

/** Opens an office for `exact` payments to one seller: payers with funds, terms from the seller's own 402. */
export async function openPaymentOffice(options: {
  url: string;
  headers: Readonly<Record<string, string>>;
  rpcUrl: string;
}): Promise<TicketOffice> {
  const { rpcUrl } = options;
  const keys = Array.from({ length: payerCount }, () => `0x${randomBytes(32).toString('hex')}` as const);
  await fundPayers(rpcUrl, keys.map(privateKeyToAddress));
  const terms = await askTerms(options);
  const [accepted] = terms.accepts;
  if (!accepted) throw new Error(`${options.url} offers nothing`);
  const chain = createPublicClient({ transport: http(rpcUrl), cacheTime: 0 });
  const readBalance = () =>
    chain.readContract({
      address: baseSepoliaUsdc,
      abi,
      functionName: 'balanceOf',
      args: [accepted.payTo],
    });
  const price = BigInt(accepted.amount);
  let blocksRead = await chain.getBlockNumber();
  return {
    header: 'PAYMENT-SIGNATURE',
    async write(files, count) {
      const { resource, extensions } = terms;
      const envelope = { x402Version: 2 as const, resource, accepted, ...(extensions ? { extensions } : {}) };
      const perFile = Math.ceil(count / files.length);
      await Promise.all(files.map((file) => sign({ file, count: perFile, keys, envelope })));
    },
    async countCharged() {
      const balance = await readBalance();
      if (balance % price !== 0n) throw new CheckFailed(`${balance} is no multiple of the price, ${price}`);
      return Number(balance / price);
    },
    async readGas() {
      const from = blocksRead + 1n;
      blocksRead = await chain.getBlockNumber();
      return sumGas(chain, from, blocksRead);
    },
  };
}

/** What the transactions of these blocks used: nobody else sends any. */
async function sumGas(chain: PublicClient, from: bigint, to: bigint): Promise<Gas> {
  let [used, limitMax] = [0n, 0n];
  for (let number = from; number <= to; number += 1n) {
    const { gasUsed, transactions } = await chain.getBlock({
      blockNumber: number,
      includeTransactions: true,
    });
    used += gasUsed;
    for (const { gas } of transactions) limitMax = gas > limitMax ? gas : limitMax;
  }
  return { used, limitMax };
}

async function sign(job: SigningJob): Promise<void> {
  const worker = new Worker(new URL('payments.worker.ts', import.meta.url), { workerData: job });
  // An error rejects here as well.
  const [code] = (await once(worker, 'exit')) as [number];
  if (code !== 0) throw new Error(`signing ended with ${code}`);
}

/** What the seller asks, in its own words: they are what a stock client would echo. */
export async function askTerms(options: {
  url: string;
  headers: Readonly<Record<string, string>>;
}): Promise<Terms> {
  const response = await fetch(options.url, { headers: options.headers });
  const header = response.headers.get('payment-required');
  if (response.status !== 402 || header === null)
    throw new Error(`${options.url} answered ${response.status} and no terms: ${await response.text()}`);
  return JSON.parse(Buffer.from(header, 'base64').toString()) as Terms;
}

/** From the faucet, many in a transaction, sent by an account that anvil holds the key of. */
async function fundPayers(rpcUrl: string, payers: readonly Address[]): Promise<void> {
  const transport = http(rpcUrl);
  const chain = createPublicClient({ transport, pollingInterval: 50 });
  const anvil = createTestClient({ mode: 'anvil', transport });
  const sender: Address = `0x${randomBytes(20).toString('hex')}`;
  await anvil.setBalance({ address: sender, value: 10n ** 20n });
  await anvil.impersonateAccount({ address: sender });
  for (let start = 0; start < payers.length; start += mintsPerTransaction) {
    const calls = payers.slice(start, start + mintsPerTransaction).map((payer) => ({
      target: baseSepoliaUsdc,
      allowFailure: false,
      callData: encodeFunctionData({ abi, functionName: 'faucetMint', args: [payer, fundsAtomic] }),
    }));
    const data = encodeFunctionData({ abi, functionName: 'aggregate3', args: [calls] });
    const hash = await anvil.request<{ Parameters: unknown[]; ReturnType: Hex }>({
      method: 'eth_sendTransaction',
      params: [{ from: sender, to: multicall3Address, data, gas: `0x${(15_000_000).toString(16)}` }],
    });
    const { status } = await chain.waitForTransactionReceipt({ hash });
    if (status !== 'success') throw new Error(`the payers got no funds: ${hash} failed`);
  }
}
