import type { Address, Hex } from 'viem';
import { addressWord } from './batch-call.ts';
import { type AskRpc, ChainUnavailableError, createRpc, type RpcAnswer, type RpcCall } from './json-rpc.ts';

/** What the chain's latest block says of a payer, as far as one payment needs it. */
export interface PayerState {
  balance: bigint;
  nonceUsed: boolean;
  /** A contract's, or one that its key has put there (EIP-7702): then the token asks the code, and not the signature. */
  hasCode: boolean;
}

interface Question {
  payer: Address;
  nonce: Hex;
  askedAtMs: number;
  resolve(state: PayerState): void;
  reject(error: unknown): void;
}

/** Three calls each: providers commonly take a hundred calls in one batch, and larger batches gain nothing. */
const questionsMax = 33;
/** Batches under way at a time. */
const requestsMax = 4;
/** Waiting for the request under way saves a request; waiting longer than this costs more than it saves. */
const patienceMs = 100;
const timeoutMs = 5_000;
/** An answer has some 110 bytes; an error's text may be longer. */
const responseBytesMax = 1024 * 1024;

/** The first four bytes of the hash of each view's signature. */
const selectors = { authorizationState: '0xe94a0102', balanceOf: '0x70a08231' } as const;

/**
 * Asks for payers' balances and nonces, all who ask at the same moment in one JSON-RPC batch: what is asked while a
 * request is under way goes out together with the next. Rejects with `ChainUnavailableError` where there is no answer.
 *
 * A balance is kept for the batch that brought it, where it serves every question about that payer, and no longer: that
 * batch is answered from one head, and whether the next one's head is the same block only its own answer could tell, one round
 * trip too late. A nonce is never kept. What is read may be old by the time that it is used, and that is safe: of our own
 * uses of a nonce, the claim's primary key lets one through; and a use by others, like a balance spent elsewhere, makes
 * the settlement fail, before which a buffered answer isn't released.
 */
export function createPayerStateReader(options: {
  rpcUrl: string;
  token: Address;
}): (payer: Address, nonce: Hex) => Promise<PayerState> {
  const ask = createRpc({ rpcUrl: options.rpcUrl, timeoutMs, responseBytesMax });
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
    await answerAll(
      ask,
      options.token,
      questions.filter((question) => !rejectIfLate(question)),
    );
    underWay -= 1;
    sendWaiting(false);
  }

  return (payer, nonce) =>
    new Promise((resolve, reject) => {
      waiting.push({ payer, nonce, askedAtMs: performance.now(), resolve, reject });
      // At the end of this turn of the event loop, so that all who ask in it go together.
      turn ??= setImmediate(() => {
        turn = undefined;
        sendWaiting(false);
      });
    });
}

/** Behind requests that stall, questions don't pile up for ever. */
function rejectIfLate(question: Question): boolean {
  if (performance.now() - question.askedAtMs <= timeoutMs) return false;
  question.reject(new ChainUnavailableError(`no request was free within ${timeoutMs} ms`));
  return true;
}

/** Answers each question, one way or the other. */
async function answerAll(ask: AskRpc, token: Address, questions: readonly Question[]): Promise<void> {
  if (questions.length === 0) return;
  const payers = [...new Set(questions.map(({ payer }) => payer))];
  const view = (data: string): RpcCall => ({ method: 'eth_call', params: [{ to: token, data }, 'latest'] });
  try {
    const answers = await ask([
      ...payers.map((payer) => view(selectors.balanceOf + addressWord(payer))),
      ...payers.map((payer) => ({ method: 'eth_getCode', params: [payer, 'latest'] })),
      ...questions.map(({ payer, nonce }) =>
        view(selectors.authorizationState + addressWord(payer) + nonce.slice(2)),
      ),
    ]);
    const places = new Map(payers.map((payer, index) => [payer, index]));
    questions.forEach((question, index) => {
      const place = places.get(question.payer) ?? 0;
      answerOne(question, {
        balance: wordOf(answers[place]),
        hasCode: isCode(answers[payers.length + place]),
        state: wordOf(answers[2 * payers.length + index]),
      });
    });
  } catch (error) {
    questions.forEach(({ reject }) => reject(error));
  }
}

function answerOne(
  { resolve, reject }: Question,
  answer: Record<'balance' | 'state', bigint | ChainUnavailableError> & {
    hasCode: boolean | ChainUnavailableError;
  },
): void {
  const { balance, hasCode, state } = answer;
  if (typeof balance === 'bigint' && typeof hasCode === 'boolean' && (state === 0n || state === 1n)) {
    return resolve({ balance, nonceUsed: state === 1n, hasCode });
  }
  const error = [balance, hasCode, state].find((one) => one instanceof ChainUnavailableError);
  reject(error ?? new ChainUnavailableError('the token answered something that is no boolean'));
}

const unanswered = new ChainUnavailableError('the RPC left a call unanswered');

/** An address without code answers `0x`: no balance of zero, and no unused nonce. */
function wordOf(answer: RpcAnswer = { error: unanswered }): bigint | ChainUnavailableError {
  if ('error' in answer) return answer.error;
  const { result } = answer;
  const isWord = typeof result === 'string' && /^0x[0-9a-f]{64}$/i.test(result);
  return isWord ? BigInt(result) : new ChainUnavailableError('the token did not answer with one word');
}

function isCode(answer: RpcAnswer = { error: unanswered }): boolean | ChainUnavailableError {
  if ('error' in answer) return answer.error;
  const { result } = answer;
  if (typeof result !== 'string' || !/^0x(?:[0-9a-f]{2})*$/i.test(result))
    return new ChainUnavailableError('the RPC answered something that is no code');
  return result !== '0x';
}
