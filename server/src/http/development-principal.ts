import { isIPv4 } from 'node:net';

/** What the rules of the development principal look at. */
export interface DevelopmentRequest {
  method: string;
  /** Of the route that was matched, such as `/v1/payouts/:id`: a path as it was sent has many spellings. */
  path: string;
  headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  remoteAddress: string;
  port: number;
}

const forwardingHeaders =
  /^(?:forwarded|via|x-forwarded(?:-.*)?|x-real-ip|x-client-ip|cf-connecting-ip|true-client-ip)$/;
const moneyWrites =
  /^\/v1\/(?:payments|payouts|payment-links)(?:\/|$)|^\/v1\/payment-intents\/[^/]+\/(?:authorise|capture)$/;

/**
 * Why a request without a credential may not act as the development organisation's owner, or nothing where it may.
 * A page of another site, a proxy, and another machine are what this keeps out.
 */
export function findDevelopmentRefusal(request: DevelopmentRequest): string | undefined {
  const { headers } = request;
  if (!isLoopback(request.remoteAddress)) return 'the request does not come from this machine';
  if (headers.cookie !== undefined) return 'the request carries a cookie';
  const forwarding = Object.keys(headers).find((name) => forwardingHeaders.test(name));
  if (forwarding !== undefined) return `the request was forwarded (${forwarding})`;
  if (!isOwnHost(headers.host, request.port)) return 'the Host header is not this server on localhost';
  if (headers.origin !== undefined && !isOwnOrigin(headers.origin, request.port))
    return 'the Origin is another site';
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none')
    return 'the request was made by another site';
  if (request.path.startsWith('/oauth/')) return 'OAuth endpoints need a client of their own';

  const isWrite = request.method !== 'GET' && request.method !== 'HEAD';
  if (isWrite && moneyWrites.test(request.path)) return 'payments need an agent or an API key';
  if (isWrite && hasBody(headers) && !isJson(headers['content-type']))
    return 'the body of a write must be JSON';
  return undefined;
}

function isLoopback(address: string): boolean {
  const bare = address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
  return bare === '::1' || (isIPv4(bare) && bare.startsWith('127.'));
}

function isOwnHost(host: unknown, port: number): boolean {
  return ['localhost', '127.0.0.1', '[::1]'].some((name) => host === `${name}:${port}`);
}

function isOwnOrigin(origin: unknown, port: number): boolean {
  return (
    typeof origin === 'string' &&
    origin.startsWith('http://') &&
    isOwnHost(origin.slice('http://'.length), port)
  );
}

function hasBody(headers: DevelopmentRequest['headers']): boolean {
  if (headers['transfer-encoding'] !== undefined) return true;
  return headers['content-length'] !== undefined && headers['content-length'] !== '0';
}

function isJson(contentType: unknown): boolean {
  return typeof contentType === 'string' && /^application\/json\s*(?:;|$)/i.test(contentType);
}
