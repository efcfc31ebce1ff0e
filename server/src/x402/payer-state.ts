import type { Address, Hex } from 'viem';
import { ChainUnavailableError, createRpcBatch, type TokenCall } from './rpc-batch.ts';

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
  const call = createRpcBatch({ ...options, timeoutMs });
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
      call,
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
async function answerAll(
  call: (calls: readonly TokenCall[]) => Promise<(bigint | ChainUnavailableError)[]>,
  questions: readonly Question[],
): Promise<void> {
  if (questions.length === 0) return;
  const payers = [...new Set(questions.map(({ payer }) => payer))];
  try {
    const answers = await call([
      ...payers.map((payer) => ({ method: 'balanceOf', payer }) as const),
      ...payers.map((payer) => ({ method: 'hasCode', payer }) as const),
      ...questions.map(({ payer, nonce }) => ({ method: 'authorizationState', payer, nonce }) as const),
    ]);
    const places = new Map(payers.map((payer, index) => [payer, index]));
    questions.forEach((question, index) => {
      const place = places.get(question.payer) ?? 0;
      answerOne(question, {
        balance: answers[place],
        code: answers[payers.length + place],
        state: answers[2 * payers.length + index],
      });
    });
  } catch (error) {
    questions.forEach(({ reject }) => reject(error));
  }
}

type Answer = bigint | ChainUnavailableError | undefined;

function answerOne(
  { resolve, reject }: Question,
  { balance, code, state }: { balance: Answer; code: Answer; state: Answer },
): void {
  if (typeof balance === 'bigint' && typeof code === 'bigint' && (state === 0n || state === 1n)) {
    return resolve({ balance, nonceUsed: state === 1n, hasCode: code === 1n });
  }
  const error = [balance, code, state].find((answer) => answer instanceof ChainUnavailableError);
  reject(error ?? new ChainUnavailableError('the token answered something that is no boolean'));
}
