/** Headers as node gives and undici takes them: name, value, name, value, … */
export type RawHeaders = readonly string[];

export interface UpstreamHeaderOptions {
  /** Whether a value, without its scheme, is an API key, a secret or a token of this instance: it is for us, and no seller may see it. */
  isOurCredential(value: string): boolean;
  /** A priced answer is stored and sold whole, so a client may not ask for a part of it or for nothing. */
  priced: boolean;
}

// RFC 9110 section 7.6.1, with the older names that some still send.
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

const notForUpstream = new Set([
  'x-payment',
  'x-agent-id',
  'x-creator-uid',
  'x-skill-name',
  'x-task-id',
  // x402 v2, and the answers of both versions.
  'payment-signature',
  'payment-required',
  'payment-response',
  'x-payment-response',
  // A proof of possession of our token (RFC 9449), and message signatures (RFC 9421), which cover what we change.
  'dpop',
  'signature',
  'signature-input',
  'signature-agent',
  // All sellers share our host and none may set a cookie on it, so a cookie is another's, or our console's session.
  'cookie',
  'cookie2',
  'forwarded',
  'x-real-ip',
  // The HTTP client writes its own.
  'host',
  'content-length',
  'expect',
]);
const notForUpstreamPrefixes = ['x-forwarded-', 'credence-'];

const conditional = new Set(['range']);
const conditionalPrefixes = ['if-'];

const notForClient = new Set([
  'set-cookie',
  'set-cookie2',
  // Written anew for the body that is really sent.
  'content-length',
  // These speak for a whole host, and ours is shared by all sellers.
  'alt-svc',
  'clear-site-data',
  'strict-transport-security',
  // Orders to the proxy or cache in front of us: which of the operator's own files to send instead (nginx, Apache, lighttpd), and
  // to keep what was sold to one caller for all (RFC 9213), past our Cache-Control.
  'x-sendfile',
  'x-sendfile2',
  'x-lighttpd-send-file',
  'x-reproxy-url',
  'surrogate-control',
  'edge-control',
]);
const notForClientPrefixes = ['payment-', 'x-payment-', 'x-accel-'];
/** `CDN-Cache-Control`, and each vendor's own, such as `Cloudflare-CDN-Cache-Control`. */
const notForClientSuffix = 'cdn-cache-control';

/**
 * Chooses which of a client's headers its upstream gets, in their order, duplicates included.
 * Adds nothing. A name or value that HTTP doesn't allow is left out.
 */
export function upstreamHeaders(raw: RawHeaders, options: UpstreamHeaderOptions): string[] {
  return filtered(raw, (name, value) => {
    if (notForUpstream.has(name) || startsWithAny(name, notForUpstreamPrefixes)) return false;
    if (options.priced && (conditional.has(name) || startsWithAny(name, conditionalPrefixes))) return false;
    return !credentialsIn(value).some(options.isOurCredential);
  });
}

/**
 * Chooses which of an upstream's headers its client gets, in their order, duplicates included.
 * Adds nothing. A name or value that HTTP doesn't allow is left out.
 */
export function clientHeaders(raw: RawHeaders): string[] {
  return filtered(
    raw,
    (name) =>
      name !== 'x-payment' &&
      !notForClient.has(name) &&
      !name.endsWith(notForClientSuffix) &&
      !startsWithAny(name, notForClientPrefixes),
  );
}

/** The value without its scheme (RFC 9110 section 11.4); of Basic, identifier and secret. */
function credentialsIn(value: string): string[] {
  const [, scheme = '', rest = value] = /^(bearer|dpop|basic) +(.*)$/i.exec(value) ?? [];
  return scheme.toLowerCase() === 'basic' ? Buffer.from(rest, 'base64').toString().split(':') : [rest];
}

function filtered(raw: RawHeaders, keep: (name: string, value: string) => boolean): string[] {
  const perConnection = connectionOptions(raw);
  const kept: string[] = [];
  for (const [name, value] of pairs(raw)) {
    if (!isToken(name) || !isFieldValue(value)) continue;
    const plain = plainName(name);
    if (hopByHop.has(plain) || perConnection.has(plain) || !keep(plain, value)) continue;
    kept.push(name, value);
  }
  return kept;
}

/** The header names that `Connection` declares to be for this connection only. */
function connectionOptions(raw: RawHeaders): Set<string> {
  const names = new Set<string>();
  for (const [name, value] of pairs(raw)) {
    if (name.length !== 'connection'.length || plainName(name) !== 'connection') continue;
    for (const option of value.split(',')) names.add(plainName(option.trim()));
  }
  return names;
}

function* pairs(raw: RawHeaders): Generator<[string, string]> {
  for (let index = 0; index + 1 < raw.length; index += 2) yield [raw[index] ?? '', raw[index + 1] ?? ''];
}

/** CGI and WSGI read `X_Payment` and `X-Payment` as one header, so we do too. */
function plainName(name: string): string {
  return name.toLowerCase().replaceAll('_', '-');
}

function startsWithAny(name: string, prefixes: readonly string[]): boolean {
  return prefixes.some((prefix) => name.startsWith(prefix));
}

/** RFC 9110 section 5.6.2. */
function isToken(name: string): boolean {
  return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(name);
}

/** RFC 9110 section 5.5, as node writes it: one byte for each character. */
function isFieldValue(value: string): boolean {
  return /^[\t\x20-\x7e\x80-\xff]*$/.test(value);
}
