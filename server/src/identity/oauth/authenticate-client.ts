import type { Origin } from '../../db/index.ts';
import { equalDigests, sha256 } from '../../kernel/crypto.ts';
import type { AppError } from '../../kernel/errors.ts';
import type { CredentialId } from '../../kernel/ids.ts';
import { isLive } from '../agents/agent.ts';
import { looksLikeClientSecret } from '../credentials/client-secret.ts';
import type { Attempt } from '../credentials/guess-guard.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import { findAssertionKey, readClientAssertion } from './client-assertion.ts';
import { type ClientParameters, type ClientProof, invalidClient, readClientProof } from './client-proof.ts';
import type { Client } from './clients.sql.ts';

/** A client that showed who it is, and with which of its credentials. */
export interface AuthenticatedClient {
  client: Client;
  credentialId: CredentialId;
  method: ClientProof['method'];
}

/**
 * Authenticates the client of a request, in one of three ways. Every failure is in the audit log of the client's owner; unknown, wrong and inactive are one
 * answer to whoever guesses. Throws `invalid_client`, or `invalid_request` where it can't be told what is meant.
 */
export async function authenticateClient(
  server: AuthorizationServer,
  request: OAuthRequest,
  body: ClientParameters,
): Promise<AuthenticatedClient> {
  const proof = readClientProof(request.authorization, body);
  if (proof.method === 'none')
    throw invalidClient(
      'Authenticate the client: client_id with client_secret, or a client_assertion',
      false,
    );
  return proof.method === 'private_key_jwt'
    ? authenticateByAssertion(server, request, proof)
    : authenticateBySecret(server, request, proof);
}

/** The refusal of a client that was right by what a process remembered, and isn't any more. */
export function endedCredential(method: ClientProof['method']): AppError {
  return invalidClient(
    'The client is not active any more, or its credential is not good any more',
    method === 'client_secret_basic',
  );
}

async function authenticateBySecret(
  server: AuthorizationServer,
  { origin }: OAuthRequest,
  proof: Extract<ClientProof, { secret: string }>,
): Promise<AuthenticatedClient> {
  const now = server.clock.now();
  const attempt = { address: origin.clientAddress ?? '', clientId: proof.clientId };
  const hash = sha256(proof.secret);
  const shown = looksLikeClientSecret(proof.secret)
    ? await findShown(server, attempt, ({ secrets }) =>
        secrets.find((one) => equalDigests(one.hash, hash) && isInTime(one, now)),
      )
    : undefined;
  if (!shown) {
    const error = invalidClient(refusal, proof.method === 'client_secret_basic');
    throw await refuse(server, origin, { name: proof.clientId, method: proof.method }, error);
  }
  server.guessGuard.succeeded(attempt);
  return { ...shown, method: proof.method };
}

async function authenticateByAssertion(
  server: AuthorizationServer,
  { origin }: OAuthRequest,
  proof: Extract<ClientProof, { assertion: string }>,
): Promise<AuthenticatedClient> {
  const { method } = proof;
  const now = server.clock.now();
  // RFC 7523 section 3 lets the token endpoint's URL stand for us; current guidance is the issuer.
  const audiences = [server.issuer, `${server.issuer}/oauth/token`];
  const assertion = readClientAssertion(proof.assertion, { audiences, now });
  const name = typeof assertion === 'string' ? (proof.clientId ?? '') : assertion.clientId;
  const attempt = { address: origin.clientAddress ?? '', clientId: name };
  const fail = (message: string) => refuse(server, origin, { name, method }, invalidClient(message, false));
  if (typeof assertion === 'string') throw await fail(`The client_assertion is not good: ${assertion}`);
  if (proof.clientId !== undefined && proof.clientId !== assertion.clientId)
    throw await fail('The client_assertion is not good: it is not of the client_id');
  const shown = await findShown(server, attempt, ({ keys }) =>
    findAssertionKey(
      assertion,
      keys.filter((one) => isInTime(one, now)),
    ),
  );
  if (!shown) throw await fail(refusal);
  const { agentId } = shown.client;
  // Only now, so that nobody else can use up a client's ids.
  const isFirst = await server.proofs.use('assertion', agentId, assertion.jti, assertion.expiresAt);
  if (!isFirst) throw await fail('The client_assertion is not good: its jti was used before');
  server.guessGuard.succeeded(attempt);
  return { ...shown, method };
}

/**
 * The live client of that name with the credential that it has shown. What is remembered may be of before the credential was given,
 * or the agent started, on another process: what doesn't fit is looked up once more.
 */
async function findShown(
  { clients, clock, guessGuard }: AuthorizationServer,
  attempt: Attempt,
  find: (client: Client) => { credentialId: CredentialId } | undefined,
): Promise<{ client: Client; credentialId: CredentialId } | undefined> {
  const match = (client: Client | undefined) => {
    const credential = client && isLive(client, clock.now()) ? find(client) : undefined;
    return client && credential && { client, credentialId: credential.credentialId };
  };
  const remembered = match(clients.recall(attempt.clientId));
  if (remembered) return remembered;
  guessGuard.admit(attempt, clock.now());
  return match(await clients.look(attempt.clientId));
}

const refusal = 'The client is not known or not active, or its credential is not good';

function isInTime({ expiresAt }: { expiresAt: Date | null }, now: Date): boolean {
  return expiresAt === null || now < expiresAt;
}

async function refuse(
  server: AuthorizationServer,
  origin: Origin,
  client: { name: string; method: string },
  error: AppError,
): Promise<AppError> {
  const attempt = { address: origin.clientAddress ?? '', clientId: client.name };
  await server.guessGuard.failed(attempt, server.clock.now(), {
    origin,
    action: 'agent.token_refused',
    clientName: client.name,
    method: client.method,
  });
  return error;
}
