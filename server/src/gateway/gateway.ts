import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyBaseLogger } from 'fastify';
import { reach } from '#points';
import { getAddress } from 'viem';
import type { Database, Origin } from '../db/index.ts';
import { toAppError } from '../http/index.ts';
import type { Clock } from '../kernel/clock.ts';
import { randomSecret, type SecretBox, sha256 } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import type { AgentId } from '../kernel/ids.ts';
import { limits } from '../kernel/limits.ts';
import type { Endpoint } from '../market/index.ts';
import {
  type Chain,
  creditsRail,
  type CreditTerms,
  exactRail,
  type PaymentLane,
  paymentRequired,
  paymentRequiredV1,
  type Rail,
  type SettlementMode,
  type Settler,
  type Terms,
} from '../x402/index.ts';
import { type CreditKeys, signRefund } from '../wallet/index.ts';
import { callUpstream } from './call-upstream.ts';
import { describeServer } from './catalogue.ts';
import type { Forwarder } from './forward.ts';
import { clientHeaders, upstreamHeaders } from './headers.ts';
import { type Caller, identify } from './identify.ts';
import { matchEndpoint, upstreamTarget } from './match.ts';
import { servePaidCall } from './paid-call.ts';
import { sendPaymentStatus, statusPath } from './payment-status.ts';
import { readPayment, type SentPayment } from './payment-header.ts';
import type { PublishedServer, PublishedServers } from './published-servers.ts';
import { readBody } from './read-body.ts';
import { parseRequestTarget } from './request-path.ts';
import { type Offer, sendError, sendJson, sendPaymentRequired } from './respond.ts';
import { sendPaidAnswer } from './send-paid-answer.ts';

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
  payments: PaymentLane;
  creditKeys: CreditKeys;
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
    return sendPaymentStatus({ ...deps, findAgent }, request, response, addressOf(request));
  const matched = await match(deps, request, response);
  if (!matched) return;
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
    ...deps,
    lane: deps.payments,
    rail: await railOf(deps, matched, terms, sent),
    origin: originOf(caller, request, requestId),
    mode: modeOf(matched),
    hosted: isHosted(matched),
    signRefund,
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
  await reach('answering');
  await sendPaidAnswer(response, answered, {
    sent,
    offer,
    requestId,
    report: (err) => deps.logger.error({ err, requestId }, 'a stream that has begun is not written down'),
  });
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

/** Whether the payee is the environment's own wallet. */
function isHosted({ published }: Matched): boolean {
  return published.server.payTo === null;
}

/** What can't be given back isn't taken first. */
function modeOf(matched: Matched): SettlementMode {
  const { settlement } = matched.endpoint;
  return settlement === 'upfront' && !isHosted(matched) ? 'after_success' : settlement;
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
    v2: paymentRequired({
      terms,
      creditTerms: creditTermsOf(deps, matched),
      resource,
      termsSecret: randomSecret(16),
      error,
    }),
  };
}

function fingerprintOf({ published, method, path, query }: Matched, body: Buffer): Buffer {
  const line = JSON.stringify([method, published.server.slug, path, query]);
  return sha256(Buffer.concat([sha256(line), sha256(body)]));
}

/** What the call costs in credits of this instance, where its seller has an account for them. */
function creditTermsOf(deps: GatewayDeps, { published, endpoint }: Matched): CreditTerms | undefined {
  if (published.creditCurrency === undefined) return undefined;
  return {
    currency: published.creditCurrency,
    amount: endpoint.price,
    payTo: published.server.environmentId,
    audience: deps.gatewayUrl,
    maxTimeoutSeconds: limits.paymentTimeoutSeconds,
  };
}

/** A payment goes by the rail that its payer chose. */
async function railOf(
  deps: GatewayDeps,
  matched: Matched,
  terms: Terms,
  { payment }: SentPayment,
): Promise<Rail> {
  if (!('credit' in payment)) return exactRail({ ...getChain(deps, terms), terms, sent: payment });
  const { credit } = payment;
  const key = await deps.creditKeys.find(credit.payer, credit.header.kid);
  return creditsRail({ sent: credit, terms: creditTermsOf(deps, matched), key });
}

function getChain(deps: GatewayDeps, terms: Terms): { chain: Chain; settler: Settler } {
  const found = deps.chains.get(terms.network.id);
  if (!found) throw new AppError('unavailable', `This server has no connection to ${terms.network.id}`);
  return found;
}

function originOf(caller: Caller, request: IncomingMessage, requestId: string): Origin {
  return {
    actor: { kind: caller.verified ? 'agent' : 'anonymous', id: caller.agentId },
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
