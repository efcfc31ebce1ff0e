import type { Address, Hex } from 'viem';
import {
  addressWord,
  batchContract,
  decodeBatch,
  encodeBatch,
  judgeBatchReceipt,
  word,
} from './batch-call.ts';
import { decodeCodeCheck, encodeCodeCheck } from './code-check.ts';
import type { Authorization, ExactPayment } from './exact.ts';
import {
  bytesOf,
  ChainUnavailableError,
  createRpc,
  hashOf,
  quantityOf,
  resultOf,
  type RpcAnswer,
  type RpcCall,
} from './json-rpc.ts';
import type { Network } from './networks.ts';
import { createPayerStateReader, type PayerState } from './payer-state.ts';
import { createReceiptWatch, latestBlock } from './receipt-watch.ts';
import { readHeader, type Receipt } from './receipts.ts';

export interface Fees {
  maxFeePerGas: bigint;
  maxPriorityFeePerGas: bigint;
}

/** What the chain says of a transfer before it is sent: a payer with code isn't asked for its signature but for its word. */
export type Verdict = 'fails' | 'has_code' | 'passes';

/** What the chain says of an authorisation's nonce, whoever used it. `unknown`: it is used, and no use is to be found. */
export type NonceUse =
  | { kind: 'cancelled' }
  | { kind: 'settled'; transaction: Hex }
  | { kind: 'unknown' }
  | { kind: 'unused' };

/** One EVM chain behind its RPC. Every call throws `ChainUnavailableError` where the chain can't be asked. */
export interface Chain {
  network: Network;
  /** What the RPC says that it is. */
  chainId(): Promise<number>;
  balanceOf(account: Address): Promise<bigint>;
  nativeBalanceOf(account: Address): Promise<bigint>;
  isNonceUsed(payer: Address, nonce: Hex): Promise<boolean>;
  /** Both at once, for the hot path. */
  payerState(payer: Address, nonce: Hex): Promise<PayerState>;
  transactionCount(account: Address): Promise<number>;
  fees(): Promise<Fees>;
  /** For each of these transfers, what would become of it if they were mined now, in this order; and what gas costs. */
  examine(payments: readonly ExactPayment[]): Promise<{ verdicts: Verdict[]; fees: Fees }>;
  /** Sends a signed transaction; sending one that the chain already has is no error. */
  broadcast(raw: Hex): Promise<void>;
  /** The receipt of whichever of these was mined; nothing where none is, once `patienceMs` is over. */
  findReceipt(hashes: readonly Hex[], patienceMs?: number): Promise<Receipt | undefined>;
  /** What became of the nonce of each of these, in their order. */
  findUses(authorizations: readonly Authorization[]): Promise<NonceUse[]>;
  /** The transaction that used the nonce with exactly this transfer, if there is one. */
  findSettlement(payment: Authorization): Promise<Hex | undefined>;
  /** A time that no block which can still appear is before: an authorisation expired by then is dead. */
  settledTime(): Promise<bigint>;
}

const rpcTimeoutMs = 5_000;
/** Some thirty receipts of full batches. */
const responseBytesMax = 32 * 1024 * 1024;
/** An authorisation lives an hour at most, so its use is near the head; RPC providers cap the range of a log query. */
const logBlocks = 5_000n;
/** Providers commonly take a hundred calls in one request. */
const callsMax = 100;
/**
 * How old a base fee may be that fees are made from: it rises by an eighth a block at most (EIP-1559), and twice what it was outlasts six.
 * A tip may be older: where it has become too low, the transaction waits, and is replaced by a dearer one.
 */
const baseFeeMsMax = 1_000;
const tipMsMax = 10_000;

/** `balanceOf(address)` (EIP-20). */
const balanceOfSelector = '0x70a08231';
/** `authorizationState(address,bytes32)` (EIP-3009). */
const authorizationStateSelector = '0xe94a0102';
/** `AuthorizationUsed(address indexed,bytes32 indexed)` and `AuthorizationCanceled(…)`, of the same form (EIP-3009). */
const nonceTopics = [
  '0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5',
  '0x1cdd46ff242716cdaa72d159d339a485b3438398348d68f09d7c8c0a59353d81',
];

/** Opens a chain. `finality`: whether its blocks stay at once, as a local chain's do, or when the RPC calls them finalized. */
export function createChain(options: {
  network: Network;
  rpcUrl: string;
  finality: 'finalized' | 'instant';
}): Chain {
  const { network } = options;
  const token = network.asset.address;
  const ask = createRpc({ rpcUrl: options.rpcUrl, timeoutMs: rpcTimeoutMs, responseBytesMax });
  const watch = createReceiptWatch(ask);
  let tip: { value: bigint; atMs: number } | undefined;

  async function askOne(method: string, ...params: readonly unknown[]): Promise<unknown> {
    const [answer] = await ask([{ method, params }]);
    return resultOf(answer);
  }

  /** What is missing of the fees is asked for along with these calls. */
  async function askWithFees(calls: readonly RpcCall[]): Promise<{ answers: RpcAnswer[]; fees: Fees }> {
    const nowMs = performance.now();
    const seen = watch.latest();
    const header = seen && nowMs - seen.atMs < baseFeeMsMax ? seen.header : undefined;
    const isTipKnown = tip !== undefined && nowMs - tip.atMs < tipMsMax;
    const answers = await ask([
      ...calls,
      ...(header ? [] : [latestBlock]),
      ...(isTipKnown ? [] : [{ method: 'eth_maxPriorityFeePerGas', params: [] }]),
    ]);
    const asked = answers.splice(calls.length);
    const { baseFeePerGas } = header ?? readHeader(resultOf(asked.shift()));
    if (!isTipKnown) tip = { value: quantityOf(resultOf(asked.shift())), atMs: nowMs };
    const maxPriorityFeePerGas = tip?.value ?? 0n;
    return {
      answers,
      fees: { maxFeePerGas: baseFeePerGas * 2n + maxPriorityFeePerGas, maxPriorityFeePerGas },
    };
  }

  async function isNonceUsed(payer: Address, nonce: Hex): Promise<boolean> {
    return booleanOf(await askOne('eth_call', stateCall(token, payer, nonce), 'latest'));
  }

  async function findReceipt(hashes: readonly Hex[], patienceMs = 0): Promise<Receipt | undefined> {
    return watch.await(hashes, patienceMs);
  }

  /** Which of these nonces are used: one call to the batch contract. */
  async function areUsed(authorizations: readonly Authorization[]): Promise<boolean[]> {
    const calls = authorizations.map(({ from, nonce }) => stateCall(token, from, nonce));
    const data = encodeBatch(calls.map((call) => ({ target: call.to, callData: call.data })));
    const answer = bytesOf(await askOne('eth_call', { to: batchContract, data }, 'latest'));
    return decodeBatch(answer, calls.length).map((one) => one.success && booleanOf(one.data));
  }

  async function findUses(authorizations: readonly Authorization[]): Promise<NonceUse[]> {
    if (authorizations.length === 0) return [];
    const used = await areUsed(authorizations);
    const asked = authorizations.filter((_one, index) => used[index] === true);
    const uses = new Map<Authorization, NonceUse>();
    for (let start = 0; start < asked.length; start += callsMax) {
      const part = asked.slice(start, start + callsMax);
      const found = await findUsesInLogs(part);
      part.forEach((one, index) => uses.set(one, found[index] ?? { kind: 'unknown' }));
    }
    return authorizations.map((one) => uses.get(one) ?? { kind: 'unused' });
  }

  async function findUsesInLogs(authorizations: readonly Authorization[]): Promise<NonceUse[]> {
    const head = quantityOf(await askOne('eth_blockNumber'));
    const fromBlock = `0x${(head > logBlocks ? head - logBlocks : 0n).toString(16)}`;
    const answers = await ask(
      authorizations.map(({ from, nonce }) => {
        const topics = [nonceTopics, `0x${addressWord(from)}`, nonce];
        return { method: 'eth_getLogs', params: [{ address: token, topics, fromBlock }] };
      }),
    );
    const logs = answers.map((answer) => readFoundLogs(resultOf(answer)));
    const transactions = new Set(logs.flat().map(({ transaction }) => transaction));
    const receipts = new Map<Hex, Receipt | undefined>();
    for (const transaction of transactions) receipts.set(transaction, await findReceipt([transaction]));
    return authorizations.map((one, index) => judgeUse(one, logs[index] ?? [], receipts));
  }

  function judgeUse(
    authorization: Authorization,
    logs: readonly FoundLog[],
    receipts: ReadonlyMap<Hex, Receipt | undefined>,
  ): NonceUse {
    for (const { transaction } of logs) {
      const receipt = receipts.get(transaction);
      const [verdict] = receipt ? judgeBatchReceipt(receipt.logs, [authorization], token) : [];
      if (verdict === 'settled') return { kind: 'settled', transaction };
    }
    // Used for another transfer of its payer's is as good as cancelled: it never pays this one.
    return logs.length > 0 ? { kind: 'cancelled' } : { kind: 'unknown' };
  }

  return {
    network,
    isNonceUsed,
    findReceipt,
    findUses,
    chainId: async () => Number(quantityOf(await askOne('eth_chainId'))),
    async balanceOf(account) {
      const data = `${balanceOfSelector}${addressWord(account)}`;
      return wordOf(await askOne('eth_call', { to: token, data }, 'latest'));
    },
    nativeBalanceOf: async (account) => quantityOf(await askOne('eth_getBalance', account, 'latest')),
    payerState: createPayerStateReader({ rpcUrl: options.rpcUrl, token }),
    transactionCount: async (account) =>
      Number(quantityOf(await askOne('eth_getTransactionCount', account, 'latest'))),
    fees: async () => (await askWithFees([])).fees,

    async examine(payments) {
      const payers = [...new Set(payments.map(({ authorization }) => authorization.from))];
      const { answers, fees } = await askWithFees([
        { method: 'eth_call', params: [{ data: encodeCodeCheck(payers) }, 'latest'] },
        simulation(token, payments),
      ]);
      const codes = decodeCodeCheck(bytesOf(resultOf(answers[0])), payers.length);
      const withCode = new Set(payers.filter((_payer, index) => codes[index] === true));
      if (withCode.size === 0) return { verdicts: readVerdicts(answers[1], payments.length), fees };

      // A payer's code may have used up the gas of the whole look: the others are looked at without it.
      const others = payments.filter(({ authorization }) => !withCode.has(authorization.from));
      const verdicts =
        others.length === 0 ? [] : readVerdicts((await ask([simulation(token, others)]))[0], others.length);
      return {
        verdicts: payments.map(({ authorization }) =>
          withCode.has(authorization.from) ? 'has_code' : (verdicts.shift() ?? 'fails'),
        ),
        fees,
      };
    },

    async broadcast(raw) {
      const [answer] = await ask([{ method: 'eth_sendRawTransaction', params: [raw] }]);
      if (answer && 'error' in answer && isAlreadyKnown(answer.error)) return;
      resultOf(answer);
    },

    async findSettlement(payment) {
      const [use] = await findUsesInLogs([payment]);
      return use?.kind === 'settled' ? use.transaction : undefined;
    },

    async settledTime() {
      // A local chain makes a block only when it has a transaction; its pending block has the present time.
      const tag = options.finality === 'instant' ? 'pending' : 'finalized';
      return readHeader(await askOne('eth_getBlockByNumber', tag, false)).timestamp;
    },
  };
}

interface FoundLog {
  transaction: Hex;
}

function readFoundLogs(answer: unknown): FoundLog[] {
  if (!Array.isArray(answer)) throw new ChainUnavailableError('the RPC answered something that is no logs');
  return answer.map((log) => ({
    transaction: hashOf((log as { transactionHash?: unknown }).transactionHash),
  }));
}

function stateCall(token: Address, payer: Address, nonce: Hex): { to: Address; data: Hex } {
  return { to: token, data: `${authorizationStateSelector}${addressWord(payer)}${nonce.slice(2)}` as Hex };
}

/** The transfers in one call to the batch contract, as their transaction would make it. */
function simulation(token: Address, payments: readonly ExactPayment[]): RpcCall {
  const calls = payments.map((payment) => ({ target: token, callData: transferCall(payment) }));
  return { method: 'eth_call', params: [{ to: batchContract, data: encodeBatch(calls) }, 'latest'] };
}

function readVerdicts(answer: RpcAnswer | undefined, count: number): Verdict[] {
  return decodeBatch(bytesOf(resultOf(answer)), count).map(({ success }) => (success ? 'passes' : 'fails'));
}

function wordOf(answer: unknown): bigint {
  if (typeof answer === 'string' && answer.length === 66) return quantityOf(answer);
  // An address without code answers `0x`: no balance of zero, and no unused nonce.
  throw new ChainUnavailableError('the token did not answer with one word');
}

function booleanOf(answer: unknown): boolean {
  const value = wordOf(answer);
  if (value > 1n) throw new ChainUnavailableError('the token answered something that is no boolean');
  return value === 1n;
}

/**
 * The call data that moves the money: `transferWithAuthorization` with v, r and s, the overload that every EIP-3009 token
 * has. Its arguments are nine words, written out by the ABI's fixed layout.
 */
export function transferCall(payment: ExactPayment): Hex {
  const { from, to, value, validAfter, validBefore, nonce } = payment.authorization;
  const [r, s, v] = [
    payment.signature.slice(2, 66),
    payment.signature.slice(66, 130),
    payment.signature.slice(130),
  ];
  const words = [addressWord(from), addressWord(to), word(value), word(validAfter), word(validBefore)];
  return `${transferSelector}${words.join('')}${nonce.slice(2)}${v.padStart(64, '0')}${r}${s}`;
}

/** `transferWithAuthorization(address,address,uint256,uint256,uint256,bytes32,uint8,bytes32,bytes32)` (EIP-3009). */
const transferSelector = '0xe3ee160e';

/** The node has it, or has mined it: either way it needn't be sent again. Texts of geth, reth and anvil. */
function isAlreadyKnown(error: Error): boolean {
  return /already known|already imported|nonce too low|known transaction/i.test(error.message);
}
