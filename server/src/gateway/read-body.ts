import type { IncomingMessage } from 'node:http';
import { AppError } from '../kernel/errors.ts';

/** Reads a request's body whole. Throws `payload_too_large` above the limit, `invalid_request` where it breaks off. */
export async function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const declared = Number(request.headers['content-length'] ?? 0);
  if (declared > bytesMax) throw tooLarge(bytesMax);
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax) throw tooLarge(bytesMax);
      chunks.push(chunk);
    }
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('invalid_request', 'The request body broke off', { cause: error });
  }
  return Buffer.concat(chunks, bytes);
}

function tooLarge(bytesMax: number): AppError {
  return new AppError('payload_too_large', `The body of a priced call may have ${bytesMax} bytes`);
}
