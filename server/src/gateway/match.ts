/** The parts of an endpoint by which a call is matched to it. */
export interface MatchableEndpoint {
  /** A path prefix such as `/users`; `/` or `''` takes every path. A final slash has no meaning. */
  readonly publicPath: string;
  /** Upper-case methods; null takes any. */
  readonly methods: readonly string[] | null;
  /** A disabled one still stands in the way of shorter paths, and answers nothing. */
  readonly enabled: boolean;
}

export type EndpointMatch<E> =
  /** `rest` is what follows the public path, as sent: `''`, or from its slash on. */
  | { readonly kind: 'matched'; readonly endpoint: E; readonly rest: string }
  | { readonly kind: 'not_found' }
  | { readonly kind: 'method_not_allowed'; readonly allow: string[] };

/**
 * Finds the endpoint with the longest public path that begins `path` on segment boundaries.
 *
 * Segments are compared as the upstream will understand them, decoded and without `;parameters`, so that another
 * spelling of `/premium` isn't served by a cheaper endpoint above it. A final slash in `path` belongs to `rest`.
 * A method is looked for only among the longest: a shorter path never stands in for it. HEAD is matched as GET.
 * Nor does a shorter one stand in for the longest while that is disabled: its calls may have another price.
 */
export function matchEndpoint<E extends MatchableEndpoint>(
  endpoints: readonly E[],
  method: string,
  path: string,
): EndpointMatch<E> {
  const segments = path.split('/').slice(1);
  const names = segments.map(segmentName);

  let longest = -1;
  let candidates: E[] = [];
  for (const endpoint of endpoints) {
    const prefix = prefixNames(endpoint.publicPath);
    if (prefix.length < longest || !beginsWith(names, prefix)) continue;
    if (prefix.length > longest) candidates = [];
    longest = prefix.length;
    candidates.push(endpoint);
  }

  const enabled = candidates.filter((candidate) => candidate.enabled);
  const wanted = method === 'HEAD' ? ['HEAD', 'GET'] : [method];
  const endpoint =
    enabled.find(({ methods }) => methods !== null && wanted.some((name) => methods.includes(name))) ??
    enabled.find(({ methods }) => methods === null);
  if (endpoint !== undefined) {
    const rest = segments.slice(longest);
    return { kind: 'matched', endpoint, rest: rest.length === 0 ? '' : `/${rest.join('/')}` };
  }
  if (enabled.length === 0) return { kind: 'not_found' };
  const allow = new Set(enabled.flatMap(({ methods }) => methods ?? []));
  if (allow.has('GET')) allow.add('HEAD');
  return { kind: 'method_not_allowed', allow: [...allow].sort() };
}

/**
 * Builds where a matched call goes: the base URL's path, the private path and `rest`; then the private path's own parameters and the client's.
 * A client's parameter that the private path names is dropped. `rest` and what is kept of `query` go out byte for byte.
 * The base URL's own query isn't used. Throws TypeError if the base URL isn't one.
 */
export function upstreamTarget(parts: {
  baseUrl: string;
  privatePath: string;
  rest: string;
  query: string;
}): { origin: string; target: string } {
  const { pathname: basePath, origin } = new URL(parts.baseUrl);
  const question = parts.privatePath.indexOf('?');
  const privatePath = question === -1 ? parts.privatePath : parts.privatePath.slice(0, question);
  const privateQuery = question === -1 ? '' : parts.privatePath.slice(question + 1);

  // Through the URL parser, so that a seller's spaces and letters beyond ASCII are encoded, once and for all callers alike.
  const own = new URL(origin);
  own.pathname = joinPaths(basePath, privatePath);
  own.search = privateQuery;

  const path = joinPaths(own.pathname, parts.rest);
  const query = [own.search.slice(1), withoutParameters(parts.query, parameterNames(privateQuery))];
  const search = query.filter((text) => text !== '').join('&');
  return { origin, target: search === '' ? path : `${path}?${search}` };
}

function joinPaths(base: string, appended: string): string {
  if (appended === '') return base;
  return `${base.replace(/\/$/, '')}${appended.startsWith('/') ? '' : '/'}${appended}`;
}

function parameterNames(query: string): Set<string> {
  return new Set(new URLSearchParams(query).keys());
}

function withoutParameters(query: string, names: ReadonlySet<string>): string {
  if (names.size === 0) return query;
  // Some servers still split at ";" too, so a name after one counts as well.
  const namesOwn = (pair: string) =>
    pair.split(';').some((piece) => [...parameterNames(piece)].some((name) => names.has(name)));
  return query
    .split('&')
    .filter((pair) => !namesOwn(pair))
    .join('&');
}

function beginsWith(names: readonly string[], prefix: readonly string[]): boolean {
  return prefix.length <= names.length && prefix.every((name, index) => name === names[index]);
}

function prefixNames(publicPath: string): string[] {
  return publicPath
    .split('/')
    .filter((segment) => segment !== '')
    .map(segmentName);
}

function segmentName(segment: string): string {
  if (!segment.includes('%') && !segment.includes(';')) return segment;
  try {
    return decodeURIComponent(segment).split(';', 1)[0] ?? '';
  } catch {
    return segment;
  }
}
