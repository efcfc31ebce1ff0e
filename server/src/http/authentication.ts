import type { FastifyRequest } from 'fastify';
import { AppError } from '../kernel/errors.ts';
import { findDevelopmentRefusal } from './development-principal.ts';
import type { FailureLimit } from './failure-limit.ts';
import type { Principal } from './principal.ts';
import type { Route } from './route.ts';

/** How credentials are checked: each looks one kind up, and gives nothing where it isn't good. */
export interface Authenticators {
  findApiKey(key: string): Promise<Principal | undefined>;
  findAgent(presented: PresentedToken): Promise<Principal | undefined>;
  /** Where a client learns how to get a token (RFC 9728 section 5.1). */
  resourceMetadataUrl?: string;
  /** Whether a credential is the instance's operator key. */
  isOperatorKey(key: string): boolean;
  /** Absent where there is none: in production mode, or switched off. */
  development?: {
    principal(environmentHeader: string | undefined): Promise<Principal | undefined>;
    port(): number;
  };
}

/** A token as a request presented it, with the proof that a bound one needs (RFC 9449 section 7). */
export interface PresentedToken {
  token: string;
  scheme: 'Bearer' | 'DPoP';
  proof: string | undefined;
  method: string;
  /** As it was sent, without the query. */
  path: string;
}

/** Where an API key may stand besides `Authorization: Bearer`. */
export const apiKeyHeaders = ['x-api-key', 'x-affixio-key'] as const;

/** Who the request acts as on this route; `null` on a public one. Throws `unauthorized` or `forbidden`. */
export async function authenticate(
  authenticators: Authenticators,
  failures: FailureLimit,
  route: Route,
  request: FastifyRequest,
): Promise<Principal | null> {
  if (route.auth.length === 0) return null;
  const principal = asOperator(route, await findPrincipal(authenticators, failures, route, request));
  if (!route.auth.includes(principal.kind)) {
    throw new AppError(
      'forbidden',
      `This operation is for ${describe(route.auth)}; the request acts as ${describe([principal.kind])}`,
    );
  }
  if (principal.kind === 'api_key') {
    const missing = route.scopes.filter((scope) => !principal.scopes.includes(scope));
    if (missing.length > 0)
      throw new AppError('forbidden', `The API key lacks the scope ${missing.join(', ')}`);
  }
  return principal;
}

/** Whoever owns development's organisation also runs its instance; on other routes that is another part. */
function asOperator(route: Route, principal: Principal): Principal {
  const isAsked = route.auth.includes('operator') && !route.auth.includes('person');
  return isAsked && principal.kind === 'person' && principal.development
    ? { kind: 'operator', development: true }
    : principal;
}

async function findPrincipal(
  authenticators: Authenticators,
  failures: FailureLimit,
  route: Route,
  request: FastifyRequest,
): Promise<Principal> {
  const credential = readCredential(authenticators, request);
  if (credential !== undefined) {
    if (credential.scheme !== 'DPoP' && authenticators.isOperatorKey(credential.token))
      return { kind: 'operator', development: false };
    return lookUp(authenticators, failures, request.clientAddress, credential);
  }
  if (!authenticators.development) {
    throw new AppError(
      'unauthorized',
      'Send a credential: "Authorization: Bearer …" or "X-API-Key: …"',
      challenge(authenticators),
    );
  }
  const refusal = findDevelopmentRefusal({
    method: request.method,
    // Not what was sent: the router takes `/v1/%70ayments` for `/v1/payments`, and so must the rules.
    path: route.path,
    headers: request.headers,
    remoteAddress: request.socket.remoteAddress ?? '',
    port: authenticators.development.port(),
  });
  if (refusal !== undefined) {
    throw new AppError(
      'unauthorized',
      `No credential was sent, and the development principal does not answer here: ${refusal}`,
      challenge(authenticators),
    );
  }
  const header = request.headers['credence-environment'];
  const principal = await authenticators.development.principal(
    typeof header === 'string' ? header : undefined,
  );
  if (!principal)
    throw new AppError('not_found', 'The environment named by Credence-Environment does not exist');
  return principal;
}

/**
 * Who shows this. A wrong API key is counted for its address, and has to wait, as only it asks the database; a token gets its 401 always, from
 * which its client learns that it needs a fresh one, or a proof with a nonce.
 */
async function lookUp(
  authenticators: Authenticators,
  failures: FailureLimit,
  address: string,
  credential: PresentedToken,
): Promise<Principal> {
  const { token, scheme } = credential;
  if (token.includes('.') || scheme === 'DPoP') {
    const found = await authenticators.findAgent(credential);
    if (found) return found;
  } else {
    failures.admit(address, token);
    const found = await authenticators.findApiKey(token);
    if (found) {
      failures.succeeded(token);
      return found;
    }
    await failures.failed(address, token);
  }
  throw new AppError(
    'unauthorized',
    'The credential is not valid: it may be mistyped, expired or revoked. An agent gets a fresh jwt from POST /refresh',
    {
      next: { refresh: '/refresh' },
      ...challenge(authenticators, 'invalid_token'),
    },
  );
}

/** The one credential of the request. Two of them are refused, so that nothing depends on which one wins. */
function readCredential(authenticators: Authenticators, request: FastifyRequest): PresentedToken | undefined {
  const found: { token: string; scheme: PresentedToken['scheme'] }[] = [];
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    const [, scheme = '', token = ''] = /^(Bearer|DPoP) +([^\s]+)$/i.exec(authorization) ?? [];
    if (token === '')
      throw new AppError(
        'unauthorized',
        'The Authorization header must be "Bearer <credential>", or "DPoP <token>" for one that is bound to a key',
        challenge(authenticators),
      );
    found.push({ token, scheme: scheme.toLowerCase() === 'dpop' ? 'DPoP' : 'Bearer' });
  }
  for (const name of apiKeyHeaders) {
    const value = request.headers[name];
    if (typeof value === 'string') found.push({ token: value.trim(), scheme: 'Bearer' });
  }
  if (found.length > 1) throw new AppError('unauthorized', 'Send one credential, not several');
  const [credential] = found;
  const proof = request.headers['dpop'];
  return (
    credential && {
      ...credential,
      proof: typeof proof === 'string' ? proof : undefined,
      method: request.method,
      path: request.originalUrl.split('?', 1)[0] ?? '/',
    }
  );
}

/** RFC 6750 section 3, with the document that RFC 9728 section 5.1 adds. */
function challenge(
  { resourceMetadataUrl }: Authenticators,
  error?: 'invalid_token',
): { headers: Record<string, string> } {
  const parts = [
    'Bearer realm="credence"',
    ...(error ? [`error="${error}"`] : []),
    ...(resourceMetadataUrl === undefined ? [] : [`resource_metadata="${resourceMetadataUrl}"`]),
  ];
  return { headers: { 'www-authenticate': parts.join(', ') } };
}

function describe(kinds: readonly string[]): string {
  const words: Record<string, string> = {
    agent: 'an agent',
    api_key: 'an API key',
    operator: 'an operator',
    person: 'a person',
  };
  return kinds.map((kind) => words[kind] ?? kind).join(' or ');
}
