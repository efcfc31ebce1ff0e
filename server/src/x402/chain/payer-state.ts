import type { Address, Hex } from 'viem';
import type { decodeBatch } from './batch-call.ts';
import { type Account, type BlockMemory, createBlockMemory } from './block-memory.ts';
import { decodeCodeCheck, encodeCodeCheck } from './code-check.ts';
import { type AskRpc, bytesOf, ChainUnavailableError, createRpc, resultOf } from './json-rpc.ts';
import type { NewestSeen } from './newest-seen.ts';
import type { ReceiptWatch } from './receipt-watch.ts';
import { balanceCall, blockView, type Contracts, readBatch, stateCall, viewOf } from './token-calls.ts';

/** What the chain's latest block says of a payer, as far as one payment needs it. */
export interface PayerState extends Account {
  nonceUsed: boolean;
}

/**
 * Asks for the state of a payer and a nonce. What the latest block has said of them already isn't asked again; of the payer it is where
 * that was asked before `sinceMs` (`performance.now()`).
 */
export type AskPayerState = (payer: Address, nonce: Hex, sinceMs?: number) => Promise<PayerState>;

interface Question {
  payer: Address;
  nonce: Hex;
  sinceMs: number;
  askedAtMs: number;
  resolve(state: PayerState): void;
  reject(error: unknown): void;
}

/** Two views each, of some thousand gas: far from what nodes allow one call, and larger batches gain nothing. */
const questionsMax = 100;
/** Batches under way at a time. */
const requestsMax = 4;
/** Waiting for the request under way saves a request; waiting longer than this costs more than it saves. */
const patienceMs = 100;
/** A node that is behind the others gets this long before it is asked again. */
const behindMs = 50;
const timeoutMs = 5_000;
/** An answer has half a kilobyte for each question; an error's text may be longer. */
const responseBytesMax = 1024 * 1024;

/**
 * Asks for payers' balances and nonces, all who ask at the same moment in one call to the batch contract, with one look for code beside
 * it: what is asked while a request is under way goes out together with the next. Rejects with `ChainUnavailableError` where there is no answer.
 *
 * Each call asks for the number of its block as well, and what that block says is kept until another is seen. A block may be
 * over before anybody here hears of it, and that is safe: whoever claims a balance subtracts what was settled since it
 * was asked for; of our own uses of a nonce, the claim's primary key lets one through; and a use by others, like a balance
 * spent elsewhere, makes the settlement fail, before which a buffered answer isn't released.
 */
export function createPayerStateReader(
  options: Contracts & {
    rpcUrl: string;
    watch: Pick<ReceiptWatch, 'latest'>;
    seen?: Pick<NewestSeen, 'see'>;
  },
): AskPayerState {
  const ask = createRpc({ rpcUrl: options.rpcUrl, timeoutMs, responseBytesMax });
  const memory = createBlockMemory(options.watch.latest);
  const waiting: Question[] = [];
  let underWay = 0;
  let turn: NodeJS.Immediate | undefined;
  let patience: NodeJS.Timeout | undefined;

  /** Sends what waits: at once if nothing is under way, else full batches, or what has waited long enough. */
  function sendWaiting(patienceEnded: boolean): void {
    let mustGo = patienceEnded;
    while (waiting.length > 0 && underWay < requestsMax) {
      if (underWay > 0 && waiting.length < questionsMax && !mustGo) break;
      mustGo = false;
      void send(waiting.splice(0, questionsMax));
    }
    if (waiting.length === 0) return;
    patience ??= setTimeout(() => {
      patience = undefined;
      sendWaiting(true);
    }, patienceMs);
  }

  async function send(questions: readonly Question[]): Promise<void> {
    underWay += 1;
    const open = questions.filter((one) => !rejectIfLate(one) && !answerFrom(memory, one));
    const again = await answerAll(ask, options, memory, open);
    if (again.length > 0) setTimeout(() => wait(again), behindMs);
    underWay -= 1;
    sendWaiting(false);
  }

  function wait(questions: readonly Question[]): void {
    waiting.push(...questions);
    // At the end of this turn of the event loop, so that all who ask in it go together.
    turn ??= setImmediate(() => {
      turn = undefined;
      sendWaiting(false);
    });
  }

  return (payer, nonce, sinceMs = Number.NEGATIVE_INFINITY) =>
    new Promise((resolve, reject) => {
      const question = { payer, nonce, sinceMs, askedAtMs: performance.now(), resolve, reject };
      if (!answerFrom(memory, question)) wait([question]);
    });
}

/** Behind requests that stall, questions don't pile up for ever. */
function rejectIfLate(question: Question): boolean {
  if (performance.now() - question.askedAtMs <= timeoutMs) return false;
  question.reject(new ChainUnavailableError(`no request was free within ${timeoutMs} ms`));
  return true;
}

/** What the latest block has said of the payer, if that isn't too old for the question. */
function findAccount(memory: BlockMemory, { payer, sinceMs }: Question): Account | undefined {
  const account = memory.account(payer);
  return account && account.askedAtMs >= sinceMs ? account : undefined;
}

function answerFrom(memory: BlockMemory, question: Question): boolean {
  const account = findAccount(memory, question);
  const nonceUsed = memory.nonce(question.payer, question.nonce);
  if (!account || nonceUsed === undefined) return false;
  question.resolve({ ...account, nonceUsed });
  return true;
}

/** Answers each question, one way or the other; gives those that a node was asked for which is behind what was seen. */
async function answerAll(
  ask: AskRpc,
  contracts: Contracts & { seen?: Pick<NewestSeen, 'see'> },
  memory: BlockMemory,
  questions: readonly Question[],
): Promise<readonly Question[]> {
  if (questions.length === 0) return [];
  // What is kept is looked up once: it may be another block's by the time that the answer comes.
  const known = questions.map((one) => ({
    account: findAccount(memory, one),
    nonceUsed: memory.nonce(one.payer, one.nonce),
  }));
  const payers = [
    ...new Set(questions.flatMap(({ payer }, index) => (known[index]?.account ? [] : [payer]))),
  ];
  const nonces = questions.filter((_one, index) => known[index]?.nonceUsed === undefined);
  try {
    const said = await askBlock(ask, contracts, { payers, nonces });
    if (said.block !== undefined) contracts.seen?.see(said.block);
    const seen = said.block === undefined ? 'past' : memory.see(said.block, said.askedAtMs);
    if (seen === 'behind') return questions;
    if (seen === 'head') keep(memory, said);
    questions.forEach((one, index) => {
      const account = known[index]?.account ?? said.accounts.get(one.payer);
      answerOne(one, account, known[index]?.nonceUsed ?? said.nonces.get(one));
    });
  } catch (error) {
    questions.forEach(({ reject }) => reject(error));
  }
  return [];
}

/** What one block said to what it was asked; without what it gave no sensible answer to. */
interface BlockAnswer {
  block: bigint | undefined;
  askedAtMs: number;
  accounts: ReadonlyMap<Address, Account>;
  nonces: ReadonlyMap<Question, boolean>;
}

async function askBlock(
  ask: AskRpc,
  contracts: Contracts,
  { payers, nonces }: { payers: readonly Address[]; nonces: readonly Question[] },
): Promise<BlockAnswer> {
  const views = [
    ...payers.map(balanceCall),
    ...nonces.map(({ payer, nonce }) => stateCall({ from: payer, nonce })),
  ];
  const askedAtMs = performance.now();
  const [answer, codeAnswer] = await ask([
    blockView(contracts, views),
    ...(payers.length === 0 ? [] : [viewOf({ data: encodeCodeCheck(payers) })]),
  ]);
  const [block, ...words] = readBatch(answer, views.length + 1).map(wordOf);
  const codes = payers.length === 0 ? [] : decodeCodeCheck(bytesOf(resultOf(codeAnswer)), payers.length);
  const accounts = payers.flatMap((payer, index): [Address, Account][] => {
    const balance = words[index];
    return balance === undefined
      ? []
      : [[payer, { block, balance, hasCode: codes[index] === true, askedAtMs }]];
  });
  const states = nonces.flatMap((one, index): [Question, boolean][] => {
    const state = words[payers.length + index];
    return state === 0n || state === 1n ? [[one, state === 1n]] : [];
  });
  return { block, askedAtMs, accounts: new Map(accounts), nonces: new Map(states) };
}

function keep(memory: BlockMemory, { accounts, nonces }: BlockAnswer): void {
  for (const [payer, account] of accounts) memory.keepAccount(payer, account);
  // No payment is refused by what is kept: another block may have taken that one's place, in which the nonce is unused.
  for (const [{ payer, nonce }, isUsed] of nonces) if (!isUsed) memory.keepNonce(payer, nonce, isUsed);
}

function answerOne(
  { resolve, reject }: Question,
  account: Account | undefined,
  nonceUsed: boolean | undefined,
): void {
  if (account && nonceUsed !== undefined) return resolve({ ...account, nonceUsed });
  reject(new ChainUnavailableError('the token did not answer with a balance and a state of the nonce'));
}

/** An address without code answers with no bytes: no balance of zero, and no unused nonce. */
function wordOf(view: ReturnType<typeof decodeBatch>[number]): bigint | undefined {
  return view.success && view.data.length === 66 ? BigInt(view.data) : undefined;
}
