import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyBaseLogger } from 'fastify';
import { getAddress } from 'viem';
import type { Database, WriteContext } from '../db/index.ts';
import { toAppError } from '../http/index.ts';
import type { Clock } from '../kernel/clock.ts';
import { randomSecret, type SecretBox, sha256 } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import type { AgentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import type { Endpoint } from '../market/index.ts';
import { type Chain, paymentRequired, paymentRequiredV1, type Settler, type Terms } from '../x402/index.ts';
import { callUpstream } from './call-upstream.ts';
import { describeServer } from './catalogue.ts';
import type { Forwarder } from './forward.ts';
import { clientHeaders, upstreamHeaders } from './headers.ts';
import { type Caller, identify } from './identify.ts';
import { matchEndpoint, upstreamTarget } from './match.ts';
import { type PaidAnswer, servePaidCall } from './paid-call.ts';
import { readPayment, type SentPayment, settlementHeader } from './payment-header.ts';
import type { PublishedServer, PublishedServers } from './published-servers.ts';
import { readBody } from './read-body.ts';
import { parseRequestTarget } from './request-path.ts';
import {
  type Offer,
  sendError,
  sendJson,
  sendPaymentRequired,
  sendPending,
  sendStored,
  sendWithheld,
} from './respond.ts';

/** What the gateway stands on. */
export interface GatewayDeps {
  db: Database;
  clock: Clock;
  box: SecretBox;
  logger: FastifyBaseLogger;
  gatewayUrl: string;
  servers: PublishedServers;
  forwarder: Forwarder;
  chains: ReadonlyMap<string, { chain: Chain; settler: Settler }>;
  /** The agent whose token this is, if it is good; one that is bound to a key comes with a proof (RFC 9449). */
  findAgent(presented: {
    token: string;
    scheme: 'plain';
    proof: string | undefined;
    method: string;
    url: string;
  }): Promise<AgentId | undefined>;
  isOurCredential(value: string): boolean;
}

/** One call, from what the request line says to what will be forwarded. */
interface Matched {
  published: PublishedServer;
  endpoint: Endpoint;
  method: string;
  path: string;
  query: string;
  upstream: { origin: string; target: string };
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
  const matched = await match(deps, request, response);
  if (!matched) return;
  const proof = request.headers['dpop'];
  const findAgent = (token: string) =>
    deps.findAgent({
      token,
      scheme: 'plain',
      proof: typeof proof === 'string' ? proof : undefined,
      method: request.method ?? 'GET',
      url: `${deps.gatewayUrl}${request.url?.split('?', 1)[0] ?? '/'}`,
    });
  const caller = await identify(request.headers['x-agent-id'], findAgent, deps.isOurCredential);
  if (matched.endpoint.price === 0n) return forwardFree(deps, matched, request, response);

  const terms = termsOf(matched);
  const sent = readPayment(request, terms);
  const offer = (error?: string) => offerOf(deps, matched, terms, error);
  if (!sent) {
    const detail =
      'Sign the terms of the PAYMENT-REQUIRED header and send the request again with PAYMENT-SIGNATURE; in x402 version 1, the terms of this body, with X-PAYMENT';
    return sendPaymentRequired(response, offer(), new AppError('payment_required', detail), requestId);
  }
  const body = await readBody(request, limits.gatewayRequestBytes);
  const answered = await servePaidCall({
    context: writeContext(deps, matched, caller, request, requestId),
    ...getChain(deps, terms),
    terms,
    sent: sent.payment,
    presenter: {
      agentId: caller.agentId,
      agentVerified: caller.verified,
      clientAddress: addressOf(request),
      termsSecret: sent.payment.termsSecret,
    },
    fingerprint: fingerprintOf(matched, body),
    target: {
      environmentId: matched.published.server.environmentId,
      serverId: matched.endpoint.serverId,
      endpointId: matched.endpoint.id,
    },
    callUpstream: () =>
      callUpstream(deps.forwarder, {
        ...matched.upstream,
        method: matched.method,
        headers: upstreamHeaders(request.rawHeaders, { isOurCredential: deps.isOurCredential, priced: true }),
        body: body.length > 0 ? body : null,
      }),
  });
  sendPaidAnswer(response, answered, { sent, offer, requestId });
}

/** An upstream that answers TRACE echoes the request, and with it the secrets that were put into it; CONNECT is a proxy's. */
function refuseEcho(request: IncomingMessage, response: ServerResponse): void {
  if (request.method !== 'TRACE' && request.method !== 'CONNECT') return;
  response.setHeader('allow', 'GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS');
  throw new AppError('method_not_allowed', `${request.method} is not passed on to any API`);
}

/**
 * Where the caller is, as far as that tells one from another: behind a proxy everybody comes from the proxy, so that its
 * address says nothing, and stands for nobody.
 */
function addressOf(request: IncomingMessage): string {
  const { forwarded, 'x-forwarded-for': forwardedFor } = request.headers;
  return forwarded === undefined && forwardedFor === undefined ? (request.socket.remoteAddress ?? '') : '';
}

/** Finds what is called. Answers itself for the catalogue; throws for what isn't there. */
async function match(
  deps: GatewayDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<Matched | undefined> {
  const target = parseRequestTarget(request.url ?? '');
  if (target.kind === 'refused') throw new AppError(target.code, target.detail);
  const { slug, path, query } = target;
  const published = await deps.servers.find(slug);
  if (!published) throw new AppError('endpoint_not_found', `There is no published API "${slug}" here`);
  const method = request.method ?? 'GET';
  if (path === '' && (method === 'GET' || method === 'HEAD')) {
    sendJson(response, 200, 'application/json', describeServer(published, deps.gatewayUrl));
    return undefined;
  }
  const found = matchEndpoint(published.endpoints, method, path);
  if (found.kind === 'not_found') {
    throw new AppError(
      'endpoint_not_found',
      `Nothing of "${slug}" is at this path; GET /api/${slug} lists what is`,
      {
        next: { catalogue: `${deps.gatewayUrl}/api/${slug}` },
      },
    );
  }
  if (found.kind === 'method_not_allowed') {
    response.setHeader('allow', found.allow.join(', '));
    throw new AppError('method_not_allowed', `This path takes ${found.allow.join(', ')}`);
  }
  const { endpoint, rest } = found;
  const upstream = upstreamTarget({
    baseUrl: published.server.baseUrl,
    privatePath: endpoint.privatePath,
    rest,
    query,
  });
  return { published, endpoint, method, path, query, upstream };
}

function termsOf({ published, endpoint }: Matched): Terms {
  if (published.payTo === undefined)
    throw new AppError('unavailable', 'The seller of this API cannot be paid at the moment');
  return {
    network: published.network,
    amount: endpoint.price,
    payTo: getAddress(published.payTo),
    maxTimeoutSeconds: limits.paymentTimeoutSeconds,
  };
}

/**
 * Each 402 has a secret of its own: whoever echoes it with the payment may fetch the paid answer again. Version 1 has no
 * place for it.
 */
function offerOf(deps: GatewayDeps, matched: Matched, terms: Terms, error: string | undefined): Offer {
  const { server } = matched.published;
  const resource = {
    url: `${deps.gatewayUrl}/api/${server.slug}${matched.endpoint.publicPath}`,
    description: matched.endpoint.description || server.name,
  };
  return {
    v1: paymentRequiredV1({ terms, resource, method: matched.method, error }),
    v2: paymentRequired({ terms, resource, termsSecret: randomSecret(16), error }),
  };
}

function fingerprintOf({ published, method, path, query }: Matched, body: Buffer): Buffer {
  const line = JSON.stringify([method, published.server.slug, path, query]);
  return sha256(Buffer.concat([sha256(line), sha256(body)]));
}

function getChain(deps: GatewayDeps, terms: Terms): { chain: Chain; settler: Settler } {
  const found = deps.chains.get(terms.network.id);
  if (!found) throw new AppError('unavailable', `This server has no connection to ${terms.network.id}`);
  return found;
}

function writeContext(
  deps: GatewayDeps,
  matched: Matched,
  caller: Caller,
  request: IncomingMessage,
  requestId: string,
): WriteContext {
  return {
    db: deps.db,
    clock: deps.clock,
    box: deps.box,
    actor: { kind: caller.verified ? 'agent' : 'anonymous', id: caller.agentId },
    scope: matched.published.server.environmentId,
    requestId,
    clientAddress: request.socket.remoteAddress ?? null,
  };
}

async function forwardFree(
  deps: GatewayDeps,
  matched: Matched,
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

interface AnsweredCall {
  sent: SentPayment;
  offer: (error?: string) => Offer;
  requestId: string;
}

function sendPaidAnswer(response: ServerResponse, answered: PaidAnswer, call: AnsweredCall): void {
  const { requestId, offer, sent } = call;
  switch (answered.kind) {
    case 'delivered': {
      const { transaction } = answered;
      return sendStored(response, answered.response, settlementHeader({ success: true, transaction }, sent));
    }
    case 'uncharged':
      return sendStored(response, answered.response);
    case 'withheld':
      return sendWithheld(response);
    case 'refused':
      return sendError(response, answered.error, requestId);
    case 'unpaid': {
      const { reason } = answered;
      return sendPaymentRequired(response, offer(reason), unpaidError(reason), requestId);
    }
    case 'unsettled':
      return sendUnsettled(response, answered.settlement, call);
  }
}

function sendUnsettled(
  response: ServerResponse,
  settlement: { kind: 'failed'; reason: string } | { kind: 'pending' },
  call: AnsweredCall,
): void {
  if (settlement.kind === 'pending') {
    const header = settlementHeader({ success: false, errorReason: 'settlement_pending' }, call.sent);
    const detail =
      'The payment is on its way to the chain: send the same payment again, and do not sign another';
    return sendPending(response, new AppError('settlement_pending', detail), call.requestId, header);
  }
  const header = settlementHeader({ success: false, errorReason: settlement.reason }, call.sent);
  const detail = `Settlement failed (${settlement.reason}): the same payment may be sent again, without another run of the API`;
  const error = new AppError('settlement_failed', detail);
  sendPaymentRequired(response, call.offer(settlement.reason), error, call.requestId, header);
}

function unpaidError(reason: Extract<PaidAnswer, { kind: 'unpaid' }>['reason']): AppError {
  if (reason === 'insufficient_funds')
    return new AppError(
      'insufficient_funds',
      "The payer's balance does not cover the price beside its other payments that are not settled yet",
    );
  if (reason === 'payer_suspended') {
    return new AppError(
      'payer_suspended',
      'A payment of this payer could not be settled after the work was done: it may pay here again within the hour',
    );
  }
  if (reason === 'payment_expiring') {
    return new AppError(
      'payment_expiring',
      'The payment expires before one more attempt could end: sign a new one. Nothing was taken',
    );
  }
  return new AppError('payment_invalid', `The payment does not satisfy the terms: ${reason}`);
}
