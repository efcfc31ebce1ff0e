import type { ErrorCode } from '../kernel/errors.ts';
import { limits } from '../kernel/limits.ts';

/** A request target that may be forwarded: what is matched here is, byte for byte, what the upstream gets. */
export interface RequestTarget {
  readonly kind: 'target';
  readonly slug: string;
  /** What follows the slug, as sent: `''` (the catalogue, with or without a final slash) or `/` and at least one character. */
  readonly path: string;
  /** As sent, without its question mark; `''` without one. */
  readonly query: string;
}

/** Why a request target isn't forwarded. `detail` is for the caller. */
export interface RequestTargetRefusal {
  readonly kind: 'refused';
  readonly code: Extract<ErrorCode, 'invalid_path' | 'not_found'>;
  readonly detail: string;
}

/**
 * Reads the raw target of a request to `/api/{slug}/…`.
 * Whatever two parsers may read differently is refused: a price is looked up by the path, and must be that of the path the upstream sees.
 */
export function parseRequestTarget(rawUrl: string): RequestTarget | RequestTargetRefusal {
  if (rawUrl.length > limits.gatewayRequestTargetBytes) {
    return invalidPath(`The request target is longer than ${limits.gatewayRequestTargetBytes} bytes.`);
  }
  // RFC 9112 section 3.2.2: absolute-form is for proxies, and names a host that nobody here has checked.
  if (!rawUrl.startsWith('/')) return invalidPath('The request target must start with a slash.');
  if (/[^\x21-\x7e]/.test(rawUrl)) {
    return invalidPath('The request target holds a space, a control character or a character beyond ASCII.');
  }
  if (rawUrl.includes('#')) return invalidPath('The request target holds a fragment.');

  const question = rawUrl.indexOf('?');
  const wholePath = question === -1 ? rawUrl : rawUrl.slice(0, question);
  const query = question === -1 ? '' : rawUrl.slice(question + 1);
  const refusal = pathRefusal(wholePath);
  if (refusal !== undefined) return invalidPath(refusal);

  const [, slug, path = ''] = /^\/api\/([a-z0-9-]{1,63})(\/.*)?$/.exec(wholePath) ?? [];
  if (slug === undefined) return { kind: 'refused', code: 'not_found', detail: 'Call /api/{slug}/{path}.' };
  return { kind: 'target', slug, path: path === '/' ? '' : path, query };
}

function pathRefusal(path: string): string | undefined {
  if (path.includes('\\')) return 'The path holds a backslash.';
  if (path.includes('//')) return 'The path holds a double slash.';
  // RFC 3986's pchar, and the three that WHATWG URL parsers leave alone. They rewrite the others, so the path would change on its way.
  const unsafe = /[^A-Za-z0-9\-._~!$&'()*+,;=:@%/[\]|]/.exec(path);
  if (unsafe !== null) return `The path holds ${unsafe[0]}, which must be percent-encoded.`;
  if (/%(?![0-9A-Fa-f]{2})/.test(path)) return 'The path holds a % without two hexadecimal digits.';
  for (const segment of path.split('/')) {
    const refusal = segmentRefusal(segment);
    if (refusal !== undefined) return refusal;
  }
  return undefined;
}

function segmentRefusal(segment: string): string | undefined {
  let decoded: string;
  try {
    decoded = decodeURIComponent(segment);
  } catch {
    return 'The path holds percent-encoding that is not UTF-8.';
  }
  if (/[/\\]/.test(decoded)) return 'The path holds an encoded slash or backslash.';
  if (/\p{Cc}/u.test(decoded)) return 'The path holds an encoded control character.';
  // Servlet containers drop ";…" from a segment before they resolve dots and slashes, so `..;` climbs and `/;/` is `//`.
  const name = decoded.split(';', 1)[0];
  if (name === '.' || name === '..') return 'The path holds a dot segment.';
  if (name === '' && segment !== '') return 'The path holds a segment of parameters alone.';
  return undefined;
}

function invalidPath(detail: string): RequestTargetRefusal {
  return { kind: 'refused', code: 'invalid_path', detail };
}
