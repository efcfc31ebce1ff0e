import { decodeCodeCheck, encodeCodeCheck } from './code-check.ts';
import type { ExactPayment } from '../exact/exact.ts';
import type { createFeeReader, Fees } from './fees.ts';
import { bytesOf, resultOf, type RpcAnswer, type RpcCall } from './json-rpc.ts';
import { batchView, type Contracts, readBatch, transferCall, viewOf } from './token-calls.ts';

/** What the chain says of a transfer before it is sent: a payer with code isn't asked for its signature but for its word. */
export type Verdict = 'fails' | 'has_code' | 'passes';

/** For each of these transfers, what would become of it if they were mined now, in this order; and what gas costs: one request. */
export async function examine(
  askWithFees: ReturnType<typeof createFeeReader>,
  contracts: Contracts,
  payments: readonly ExactPayment[],
): Promise<{ verdicts: Verdict[]; fees: Fees }> {
  const payers = [...new Set(payments.map(({ authorization }) => authorization.from))];
  const { answers, fees } = await askWithFees([
    viewOf({ data: encodeCodeCheck(payers) }),
    simulation(contracts, payments),
  ]);
  const codes = decodeCodeCheck(bytesOf(resultOf(answers[0])), payers.length);
  const withCode = new Set(payers.filter((_payer, index) => codes[index] === true));
  if (withCode.size === 0) return { verdicts: readVerdicts(answers[1], payments.length), fees };

  // A payer's code may have used up the gas of the whole look: the others are looked at without it.
  const others = payments.filter(({ authorization }) => !withCode.has(authorization.from));
  const again = others.length === 0 ? undefined : await askWithFees([simulation(contracts, others)]);
  const verdicts = again ? readVerdicts(again.answers[0], others.length) : [];
  return {
    verdicts: payments.map(({ authorization }) =>
      withCode.has(authorization.from) ? 'has_code' : (verdicts.shift() ?? 'fails'),
    ),
    fees,
  };
}

/** The transfers in one call to the batch contract, as their transaction would make it. */
function simulation(contracts: Contracts, payments: readonly ExactPayment[]): RpcCall {
  return batchView(contracts, payments.map(transferCall));
}

function readVerdicts(answer: RpcAnswer | undefined, count: number): Verdict[] {
  return readBatch(answer, count).map(({ success }) => (success ? 'passes' : 'fails'));
}
