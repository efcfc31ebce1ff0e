import type { WriteContext } from '../db/index.ts';
import { type Payment, type StoredResponse, storedResponseRow } from './payment.ts';
import { findSealedResponse } from './payments.sql.ts';

/** The stored answer; nothing once it has been swept. */
export async function findStoredResponse(
  context: Pick<WriteContext, 'box' | 'db'>,
  payment: Payment,
): Promise<StoredResponse | undefined> {
  const row = await findSealedResponse(context.db, payment);
  if (!row?.sealed) return undefined;
  return decodeResponse(row.status, context.box.open(row.sealed, storedResponseRow(payment)));
}

/** Headers as JSON behind their length, then the body as it is. */
export function encodeResponse(response: StoredResponse): Buffer {
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
