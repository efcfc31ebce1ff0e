import type { FastifyRequest } from 'fastify';
import { AppError } from '../kernel/errors.ts';
import { findDevelopmentRefusal } from './development-principal.ts';
import type { Principal } from './principal.ts';
import type { Route } from './route.ts';

/** How credentials are checked: each looks one kind up, and gives nothing where it isn't good. */
export interface Authenticators {
  findApiKey(key: string): Promise<Principal | undefined>;
  findAgent(jwt: string): Promise<Principal | undefined>;
  /** Absent where there is none: in production mode, or switched off. */
  development?: {
    principal(environmentHeader: string | undefined): Promise<Principal | undefined>;
    port(): number;
  };
}

const apiKeyHeaders = ['x-api-key', 'x-affixio-key'] as const;

/** Who the request acts as on this route; `null` on a public one. Throws `unauthorized` or `forbidden`. */
export async function authenticate(
  authenticators: Authenticators,
  route: Route,
  request: FastifyRequest,
): Promise<Principal | null> {
  if (route.auth.length === 0) return null;
  const principal = await findPrincipal(authenticators, route, request);
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

async function findPrincipal(
  authenticators: Authenticators,
  route: Route,
  request: FastifyRequest,
): Promise<Principal> {
  const credential = readCredential(request);
  if (credential !== undefined) {
    const found = credential.includes('.')
      ? await authenticators.findAgent(credential)
      : await authenticators.findApiKey(credential);
    if (found) return found;
    throw new AppError(
      'unauthorized',
      'The credential is not valid: it may be mistyped, expired or revoked. An agent gets a fresh jwt from POST /refresh',
      {
        next: { refresh: '/refresh' },
      },
    );
  }
  if (!authenticators.development) {
    throw new AppError('unauthorized', 'Send a credential: "Authorization: Bearer …" or "X-API-Key: …"');
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

/** The one credential of the request. Two of them are refused, so that nothing depends on which one wins. */
function readCredential(request: FastifyRequest): string | undefined {
  const found: string[] = [];
  const { authorization } = request.headers;
  if (authorization !== undefined) {
    const bearer = /^Bearer +([^\s]+)$/i.exec(authorization)?.[1];
    if (bearer === undefined)
      throw new AppError('unauthorized', 'The Authorization header must be "Bearer <credential>"');
    found.push(bearer);
  }
  for (const name of apiKeyHeaders) {
    const value = request.headers[name];
    if (typeof value === 'string') found.push(value.trim());
  }
  if (found.length > 1) throw new AppError('unauthorized', 'Send one credential, not several');
  return found[0];
}

function describe(kinds: readonly string[]): string {
  const words: Record<string, string> = { agent: 'an agent', api_key: 'an API key', person: 'a person' };
  return kinds.map((kind) => words[kind] ?? kind).join(' or ');
}
