import type { IncomingMessage, ServerResponse } from 'node:http';
import { sha256 } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import type { Endpoint } from '../market/index.ts';
import type { SettlementMode } from '../x402/index.ts';
import { describeServer } from './catalogue.ts';
import { matchEndpoint, upstreamTarget } from './match.ts';
import type { PublishedServer, PublishedServers } from './published-servers.ts';
import { parseRequestTarget } from './request-path.ts';
import { sendJson } from './respond.ts';

/** One call, from what the request line says to what will be forwarded. */
export interface MatchedCall {
  published: PublishedServer;
  endpoint: Endpoint;
  method: string;
  path: string;
  query: string;
  upstream: { origin: string; target: string };
}

/** Finds what is called. Answers itself for the catalogue; throws for what isn't there. */
export async function matchCall(
  { servers, gatewayUrl }: { servers: PublishedServers; gatewayUrl: string },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<MatchedCall | undefined> {
  const target = parseRequestTarget(request.url ?? '');
  if (target.kind === 'refused') throw new AppError(target.code, target.detail);
  const { slug, path, query } = target;
  const published = await servers.find(slug);
  if (!published) throw new AppError('endpoint_not_found', `There is no published API "${slug}" here`);
  const method = request.method ?? 'GET';
  if (path === '' && (method === 'GET' || method === 'HEAD')) {
    sendJson(response, 200, 'application/json', describeServer(published, gatewayUrl));
    return undefined;
  }
  const found = matchEndpoint(published.endpoints, method, path);
  if (found.kind === 'not_found') {
    throw new AppError(
      'endpoint_not_found',
      `Nothing of "${slug}" is at this path; GET /api/${slug} lists what is`,
      {
        next: { catalogue: `${gatewayUrl}/api/${slug}` },
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
export function isHosted({ published }: MatchedCall): boolean {
  return published.server.payTo === null;
}

/** What can't be given back isn't taken first. */
export function modeOf(matched: MatchedCall): SettlementMode {
  const { settlement } = matched.endpoint;
  return settlement === 'upfront' && !isHosted(matched) ? 'after_success' : settlement;
}

/** What a payment for this call may buy, and nothing else. */
export function fingerprintOf({ published, method, path, query }: MatchedCall, body: Buffer): Buffer {
  const line = JSON.stringify([method, published.server.slug, path, query]);
  return sha256(Buffer.concat([sha256(line), sha256(body)]));
}
