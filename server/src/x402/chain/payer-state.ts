import type { Address, Hex } from 'viem';
import type { decodeBatch } from './batch-call.ts';
import { decodeCodeCheck, encodeCodeCheck } from './code-check.ts';
import { type AskRpc, bytesOf, ChainUnavailableError, createRpc, resultOf } from './json-rpc.ts';
import { balanceCall, batchView, readBatch, stateCall, viewOf } from './token-calls.ts';

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

/** Two views each, of some thousand gas: far from what nodes allow one call, and larger batches gain nothing. */
const questionsMax = 100;
/** Batches under way at a time. */
const requestsMax = 4;
/** Waiting for the request under way saves a request; waiting longer than this costs more than it saves. */
const patienceMs = 100;
const timeoutMs = 5_000;
/** An answer has half a kilobyte for each question; an error's text may be longer. */
const responseBytesMax = 1024 * 1024;

/**
 * Asks for payers' balances and nonces, all who ask at the same moment in one call to the batch contract, with one look for code beside
 * it: what is asked while a request is under way goes out together with the next. Rejects with `ChainUnavailableError` where there is no answer.
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
  const views = [
    ...payers.map(balanceCall),
    ...questions.map(({ payer, nonce }) => stateCall({ from: payer, nonce })),
  ];
  try {
    const answers = await ask([batchView(token, views), viewOf({ data: encodeCodeCheck(payers) })]);
    const words = readBatch(answers[0], views.length);
    const codes = decodeCodeCheck(bytesOf(resultOf(answers[1])), payers.length);
    const places = new Map(payers.map((payer, index) => [payer, index]));
    questions.forEach((question, index) => {
      const place = places.get(question.payer) ?? 0;
      answerOne(question, {
        balance: words[place],
        state: words[payers.length + index],
        hasCode: codes[place] === true,
      });
    });
  } catch (error) {
    questions.forEach(({ reject }) => reject(error));
  }
}

type View = ReturnType<typeof decodeBatch>[number] | undefined;

function answerOne(
  { resolve, reject }: Question,
  answer: { balance: View; state: View; hasCode: boolean },
): void {
  const balance = wordOf(answer.balance);
  const state = wordOf(answer.state);
  if (balance !== undefined && (state === 0n || state === 1n))
    return resolve({ balance, nonceUsed: state === 1n, hasCode: answer.hasCode });
  reject(new ChainUnavailableError('the token did not answer with a balance and a state of the nonce'));
}

/** An address without code answers with no bytes: no balance of zero, and no unused nonce. */
function wordOf(view: View): bigint | undefined {
  return view?.success === true && view.data.length === 66 ? BigInt(view.data) : undefined;
}
