import type { ServerResponse } from 'node:http';
import { renderProblem } from '../http/index.ts';
import type { AppError } from '../kernel/errors.ts';
import {
  encodePaymentRequired,
  type PaymentRequired,
  type paymentRequiredV1,
  type StoredResponse,
  v2Headers,
} from '../x402/index.ts';
import type { UpstreamStream } from './call-upstream.ts';
import { isEventStream } from './framing.ts';
import type { StreamEnd } from './outlet.ts';

/** What one call costs, as each version of x402 asks for it. */
export interface Offer {
  v1: ReturnType<typeof paymentRequiredV1>;
  v2: PaymentRequired;
}

/** A 402 and what follows it are between us and one payer: no cache may keep them. */
const privateAnswer = ['cache-control', 'private, no-store'] as const;

export function sendError(response: ServerResponse, error: AppError, requestId: string): void {
  const problem = renderProblem(error, requestId);
  sendJson(
    response,
    problem.status,
    problem.contentType,
    problem.body,
    Object.entries(problem.headers).flat(),
  );
}

/**
 * The 402: terms for version 2 in the header, for version 1 in the body. Each client looks at its own place, and those of
 * version 1 pass over the members of our problem, which are for whoever reads the body.
 */
export function sendPaymentRequired(
  response: ServerResponse,
  offer: Offer,
  error: AppError,
  requestId: string,
  settlement: readonly string[] = [],
): void {
  const problem = renderProblem(error, requestId);
  sendJson(response, problem.status, 'application/json', { ...problem.body, ...offer.v1 }, [
    v2Headers.required,
    encodePaymentRequired(offer.v2),
    ...settlement,
  ]);
}

/** A 402 without terms: the payment may yet be taken, so that nobody should sign another. */
export function sendPending(
  response: ServerResponse,
  error: AppError,
  requestId: string,
  settlement: readonly string[],
): void {
  const problem = renderProblem(error, requestId);
  sendJson(response, problem.status, problem.contentType, problem.body, settlement);
}

/** Sends a buffered answer whole. What was paid for is the payer's, whatever the upstream says of caching. */
export function sendStored(
  response: ServerResponse,
  stored: StoredResponse,
  more: readonly string[] = [],
): void {
  // To a HEAD only the length of what a GET would get may be said, which nobody knows (RFC 9110 section 8.6).
  const isBare = hasNoBody(stored.status) || response.req.method === 'HEAD';
  const length = isBare ? [] : ['content-length', String(stored.body.length)];
  response.writeHead(stored.status, [
    ...withoutCaching(stored.headers),
    ...length,
    ...privateAnswer,
    ...more,
  ]);
  response.end(stored.body);
}

/**
 * Pipes a held answer to its client, as private as a stored one. Whoever compresses events on their way holds them back,
 * and nginx collects them unless it is told not to.
 */
export function sendStream(
  response: ServerResponse,
  stream: UpstreamStream,
  more: readonly string[] = [],
): Promise<StreamEnd> {
  const own = isEventStream(stream.headers)
    ? ['cache-control', 'private, no-store, no-transform', 'x-accel-buffering', 'no']
    : privateAnswer;
  return stream.pipe(response, [...withoutCaching(stream.headers), ...own, ...more]);
}

export function sendJson(
  response: ServerResponse,
  status: number,
  contentType: string,
  body: unknown,
  headers: readonly string[] = [],
): void {
  const bytes = Buffer.from(JSON.stringify(body));
  response.writeHead(status, [
    'content-type',
    contentType,
    'content-length',
    String(bytes.length),
    ...privateAnswer,
    ...headers,
  ]);
  response.end(bytes);
}

function withoutCaching(headers: readonly string[]): string[] {
  const kept: string[] = [];
  for (let index = 0; index < headers.length; index += 2) {
    const name = headers[index] ?? '';
    if (name.toLowerCase() !== 'cache-control') kept.push(name, headers[index + 1] ?? '');
  }
  return kept;
}

function hasNoBody(status: number): boolean {
  return status === 204 || status === 205;
}
