import type { WriteContext } from '../../db/index.ts';
import { type SecretBox, sha256 } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';
import { type Payment, type StoredResponse, storedResponseRow } from '../payments/payment.ts';
import { findSealedResponse } from '../payments/payments.sql.ts';

/** An attempt that is cut at its time-out has ended by then; the rest is for storing its answer. */
export const attemptLeaseSeconds = limits.upstreamTimeoutSeconds + 5;

/** The stored answer; nothing once it has been swept. */
export async function findStoredResponse(
  context: Pick<WriteContext, 'box' | 'db'>,
  payment: Payment,
): Promise<StoredResponse | undefined> {
  const row = await findSealedResponse(context.db, payment);
  if (!row?.sealed) return undefined;
  return decodeResponse(row.status, context.box.open(row.sealed, storedResponseRow(payment)));
}

/** An answer as its row keeps it. */
export interface SealedResponse {
  status: number;
  sealed: Buffer;
  bodyHash: Buffer;
}

/** Seals an answer for its payment's row, and no other. */
export function sealResponse(box: SecretBox, payment: Payment, response: StoredResponse): SealedResponse {
  return {
    status: response.status,
    sealed: box.seal(encodeResponse(response), storedResponseRow(payment)),
    bodyHash: sha256(response.body),
  };
}

/** Headers as JSON behind their length, then the body as it is. */
function encodeResponse(response: StoredResponse): Buffer {
  const head = Buffer.from(JSON.stringify(response.headers));
  const length = Buffer.alloc(4);
  length.writeUInt32BE(head.length);
  return Buffer.concat([length, head, response.body]);
}

function decodeResponse(status: number, plain: Buffer): StoredResponse {
  const bodyStart = 4 + plain.readUInt32BE();
  const headers = JSON.parse(plain.subarray(4, bodyStart).toString()) as string[];
  return { status, headers, body: plain.subarray(bodyStart) };
}
