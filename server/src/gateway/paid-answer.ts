import type { Database, Origin, WriteContext } from '../db/index.ts';
import type { Clock } from '../kernel/clock.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import {
  type ClaimRefusal,
  findStoredBytes,
  findStoredResponse,
  type NewClaim,
  type Payment,
  type PaymentFault,
  type PaymentLane,
  type Rail,
  type Settlement,
  type StoredResponse,
} from '../x402/index.ts';
import { type AnswerMemory, gatewayBusy, type HeldAnswer } from './answer-memory.ts';
import type { UpstreamAnswer, UpstreamStream } from './call-upstream.ts';

/** A priced call whose payment could be read, and all that serving it needs. */
export interface PaidCall extends Pick<NewClaim, 'fingerprint' | 'hosted' | 'mode' | 'presenter' | 'target'> {
  db: Database;
  clock: Clock;
  box: SecretBox;
  lane: PaymentLane;
  rail: Rail;
  memory: AnswerMemory;
  held: HeldAnswer;
  /** Whom the audit log names. */
  origin: Origin;
  /** A payment that gives one back, where its payee is a wallet here. */
  signRefund(context: WriteContext, payment: Payment): Promise<Payment | undefined>;
  /** The payer says that it pays for something else than it calls. */
  isForOtherPath: boolean;
  /** Runs the upstream once. */
  callUpstream(): Promise<UpstreamAnswer>;
}

export type PaidAnswer =
  /** Paid and delivered; without a transaction yet, where the endpoint lets its answers out first. */
  | { kind: 'delivered'; response: StoredResponse; transaction: string | undefined }
  /** Paid, or to be settled behind it: the stream is to be piped, and `start` told of how that began. */
  | { kind: 'streamed'; stream: UpstreamStream; transaction: string | undefined; start: StreamStart }
  /** The upstream's own 4xx: passed on, uncharged, or given back where it was paid for first. */
  | { kind: 'uncharged'; response: StoredResponse }
  /** The payment doesn't buy this; the terms are offered again. */
  | { kind: 'unpaid'; reason: ClaimRefusal | PaymentFault | 'payment_expiring' | 'resource_mismatch' }
  | { kind: 'unsettled'; settlement: Exclude<Settlement, { kind: 'settled' }> }
  | { kind: 'refused'; error: AppError };

/** Who is told, once, whether a stream has reached its client: until then a copy of the call may yet be owed it. */
export interface StreamStart {
  /** The client has its head: the payment has bought it. */
  begun(): Promise<void>;
  /** The client left before. */
  left(): Promise<void>;
  /** The upstream broke off before; gives what is to be answered instead. */
  failed(reason: string): Promise<PaidAnswer>;
}

/** The answer as it was stored. */
export async function deliver(
  call: PaidCall,
  payment: Payment,
  transaction: string | undefined,
): Promise<PaidAnswer> {
  const { memory, held } = call;
  const bytes = await findStoredBytes(call.db, payment);
  if (bytes !== undefined && !memory.take(held, bytes)) return { kind: 'refused', error: gatewayBusy() };
  const response = bytes === undefined ? undefined : await findStoredResponse(call, payment);
  if (response) return { kind: 'delivered', response, transaction };
  return refuse(
    'payment_already_used',
    'This payment was used, and its answer is no longer kept; sign a new one',
  );
}

/** The answer exists, and is not for whoever asks. */
export function withheld(): PaidAnswer {
  return refuse(
    'payment_already_used',
    "This payment was used. Its answer goes to whoever shows the secret of the 402's extensions, to the verified agent that paid, or for five minutes to the same X-Agent-ID from the same address",
  );
}

export function notReplayable(): PaidAnswer {
  return refuse(
    'response_not_replayable',
    'The answer to this payment flowed through and was not kept: nothing more is charged; sign a new payment for another',
  );
}

export function refuse(code: AppError['code'], detail: string): PaidAnswer {
  return { kind: 'refused', error: new AppError(code, detail) };
}

/** This process slept through its lease: the payment is another attempt's now. */
export function takenOver(): PaidAnswer {
  return refuse(
    'payment_in_flight',
    'The call was taken over by another attempt; ask again with the same payment',
  );
}
