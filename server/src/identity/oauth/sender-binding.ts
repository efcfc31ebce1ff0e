import { AppError } from '../../kernel/errors.ts';
import type { AuthorizationServer, OAuthRequest } from './authorization-server.ts';
import type { Client } from './clients.sql.ts';

/**
 * The key that the tokens of this request are to be bound to (RFC 9449 section 5), if a proof came with it.
 * Throws `invalid_dpop_proof`, or `use_dpop_nonce` with the nonce to use.
 */
export async function readSenderKey(
  server: AuthorizationServer,
  request: OAuthRequest,
): Promise<string | null> {
  const { dpop, issuer } = server;
  if (dpop.nonces && request.dpop !== undefined) request.setHeader('dpop-nonce', dpop.newNonce());
  if (request.dpop === undefined) return null;
  const url = `${issuer}${request.path}`;
  const outcome = await dpop.use(request.dpop, { method: request.method, url });
  switch (outcome.kind) {
    case 'good':
      return outcome.thumbprint;
    case 'refused':
      throw new AppError('invalid_dpop_proof', `The DPoP proof is not good: ${outcome.reason}`);
    case 'nonce_needed':
      throw new AppError(
        'use_dpop_nonce',
        'Send the DPoP proof again with the nonce of the DPoP-Nonce header',
      );
  }
}

/** Throws `invalid_dpop_proof` where the agent's tokens must be bound to one of its registered keys, and these would not be. */
export function demandSenderKey(client: Client, keyThumbprint: string | null): void {
  if (!client.senderBound) return;
  const isRegistered = client.keys.some(({ thumbprint }) => thumbprint === keyThumbprint);
  if (!isRegistered)
    throw new AppError(
      'invalid_dpop_proof',
      'Tokens of this agent are bound to a key: send a DPoP proof made with one of its registered public keys',
    );
}
