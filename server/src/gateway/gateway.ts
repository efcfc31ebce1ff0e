import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyBaseLogger } from 'fastify';
import { reach } from '#points';
import type { Database, Origin } from '../db/index.ts';
import { toAppError } from '../http/index.ts';
import type { Clock } from '../kernel/clock.ts';
import type { SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import type { AgentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import { signRefund } from '../wallet/index.ts';
import type { PaymentLane, Presenter } from '../x402/index.ts';
import { type AnswerMemory, freeOnceSent, type HeldAnswer } from './answer-memory.ts';
import { callUpstream } from './call-upstream.ts';
import type { Forwarder } from './forward.ts';
import { clientHeaders, upstreamHeaders } from './headers.ts';
import { type Caller, identify } from './identify.ts';
import { fingerprintOf, isHosted, matchCall, type MatchedCall, modeOf } from './matched-call.ts';
import { servePaidCall } from './paid-call.ts';
import { readPayment, type SentPayment } from './payment-header.ts';
import { sendPaymentStatus, statusPath } from './payment-status.ts';
import type { PublishedServers } from './published-servers.ts';
import { readBody } from './read-body.ts';
import { sendError, sendPaymentRequired } from './respond.ts';
import { sendPaidAnswer } from './send-paid-answer.ts';
import { isForOtherPath, offerOf, railOf, termsOf, type TermsDeps } from './terms-of-call.ts';

/** What the gateway stands on. */
export interface GatewayDeps extends TermsDeps {
  db: Database;
  clock: Clock;
  box: SecretBox;
  logger: FastifyBaseLogger;
  servers: PublishedServers;
  forwarder: Forwarder;
  payments: PaymentLane;
  memory: AnswerMemory;
  /** The agent whose token this is, if it is good; one that is bound to a key comes with a proof (RFC 9449). */
  findAgent(presented: {
    token: string;
    scheme: 'plain';
    proof: string | undefined;
    method: string;
    url: string;
  }): Promise<AgentId | undefined>;
  isOurCredential(value: string): boolean;
  /** Where a caller is, as far as that tells one from another; empty for nobody. */
  clientAddressOf(request: IncomingMessage): string;
}

/** The data plane. */
export interface Gateway {
  handle(request: IncomingMessage, response: ServerResponse): void;
  /** Resolves when every call that was begun has ended, those whose client has left as well. */
  idle(): Promise<void>;
}

/** The gateway over what it is given; it holds no state that another process needs. */
export function createGateway(deps: GatewayDeps): Gateway {
  const running = new Set<Promise<void>>();
  return {
    handle(request, response) {
      const call = answer(deps, request, response);
      running.add(call);
      void call.finally(() => running.delete(call));
    },
    async idle() {
      await Promise.all(running);
    },
  };
}

async function answer(deps: GatewayDeps, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const requestId = `req_${crypto.randomUUID()}`;
  const startedAt = performance.now();
  response.setHeader('x-request-id', requestId);
  try {
    await serve(deps, request, response, requestId);
  } catch (error) {
    const failure = toAppError(error);
    if (failure.status >= 500) deps.logger.error({ err: failure.cause ?? failure, requestId }, failure.code);
    if (response.headersSent) response.destroy();
    else sendError(response, failure, requestId);
  }
  const durationMs = Math.round(performance.now() - startedAt);
  const path = request.url?.split('?', 1)[0];
  deps.logger.info(
    { requestId, method: request.method, path, status: response.statusCode, durationMs },
    'call',
  );
}

async function serve(
  deps: GatewayDeps,
  request: IncomingMessage,
  response: ServerResponse,
  requestId: string,
): Promise<void> {
  refuseEcho(request, response);
  const proof = request.headers['dpop'];
  const findAgent = (token: string) =>
    deps.findAgent({
      token,
      scheme: 'plain',
      proof: typeof proof === 'string' ? proof : undefined,
      method: request.method ?? 'GET',
      url: `${deps.gatewayUrl}${request.url?.split('?', 1)[0] ?? '/'}`,
    });
  if (request.method === 'GET' && request.url?.split('?', 1)[0] === statusPath)
    return sendPaymentStatus({ ...deps, findAgent }, request, response, deps.clientAddressOf(request));
  const matched = await matchCall(deps, request, response);
  if (!matched) return;
  const caller = await identify(request.headers['x-agent-id'], findAgent, deps.isOurCredential);
  if (matched.endpoint.price === 0n) return forwardFree(deps, matched, request, response);
  return servePriced(deps, { matched, caller, requestId }, request, response);
}

/** Asks for the price, or takes it for an answer. */
async function servePriced(
  deps: GatewayDeps,
  { matched, caller, requestId }: { matched: MatchedCall; caller: Caller; requestId: string },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const terms = termsOf(matched);
  const sent = readPayment(request, terms);
  const offer = (error?: string) => offerOf(deps, matched, terms, error);
  if (!sent) {
    const detail =
      'Sign the terms of the PAYMENT-REQUIRED header and send the request again with PAYMENT-SIGNATURE; in x402 version 1, the terms of this body, with X-PAYMENT';
    return sendPaymentRequired(response, offer(), new AppError('payment_required', detail), requestId);
  }
  deps.memory.demandRoom();
  const held: HeldAnswer = { bytes: 0 };
  try {
    const clientAddress = deps.clientAddressOf(request);
    const body = await readBody(request, limits.gatewayRequestBytes);
    const answered = await servePaidCall({
      ...deps,
      held,
      lane: deps.payments,
      rail: await railOf(deps, matched, terms, sent),
      origin: originOf(caller, clientAddress, requestId),
      mode: modeOf(matched),
      hosted: isHosted(matched),
      signRefund,
      presenter: presenterOf(caller, clientAddress, sent),
      fingerprint: fingerprintOf(matched, body),
      isForOtherPath: isForOtherPath(deps, matched, sent),
      target: {
        environmentId: matched.published.server.environmentId,
        serverId: matched.endpoint.serverId,
        endpointId: matched.endpoint.id,
      },
      callUpstream: () =>
        callUpstream(deps.forwarder, {
          ...matched.upstream,
          method: matched.method,
          headers: upstreamHeaders(request.rawHeaders, {
            isOurCredential: deps.isOurCredential,
            priced: true,
          }),
          body: body.length > 0 ? body : null,
          memory: deps.memory,
          held,
        }),
    });
    await reach('answering');
    await sendPaidAnswer(response, answered, {
      sent,
      offer,
      requestId,
      report: (err) => deps.logger.error({ err, requestId }, 'a stream that has begun is not written down'),
    });
  } finally {
    freeOnceSent(deps.memory, held, response);
  }
}

/** An upstream that answers TRACE echoes the request, and with it the secrets that were put into it; CONNECT is a proxy's. */
function refuseEcho(request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'TRACE' && request.method !== 'CONNECT') return;
  response.setHeader('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS');
  throw new AppError('method_not_allowed', `${request.method} is not passed on to any API`);
}

function presenterOf(
  { agentId, verified }: Caller,
  clientAddress: string,
  { payment: { termsSecret } }: SentPayment,
): Presenter {
  return { agentId, agentVerified: verified, clientAddress, termsSecret };
}

function originOf(caller: Caller, clientAddress: string, requestId: string): Origin {
  return {
    actor: { kind: caller.verified ? 'agent' : 'anonymous', id: caller.agentId },
    requestId,
    clientAddress: clientAddress || null,
  };
}

async function forwardFree(
  deps: GatewayDeps,
  matched: MatchedCall,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const outcome = await deps.forwarder.forwardStreaming({
    ...matched.upstream,
    method: matched.method,
    headers: upstreamHeaders(request.rawHeaders, { isOurCredential: deps.isOurCredential, priced: false }),
    request,
    response,
    headTimeoutMs: limits.upstreamTimeoutSeconds * 1000,
    idleTimeoutMs: limits.upstreamTimeoutSeconds * 1000,
    onHead: ({ headers }) => clientHeaders(headers),
  });
  if (outcome.kind === 'failed' && !outcome.headSent) {
    throw new AppError('upstream_failed', `Upstream request failed (${outcome.reason})`);
  }
}
