import { Type } from 'typebox';
import { defineRoute, type Route } from '../../http/index.ts';
import { limits } from '../../kernel/limits.ts';
import { Jwks } from './schemas.ts';
import type { SigningKeys } from './signing-keys.ts';

const open = {
  method: 'GET',
  auth: [],
  scopes: [],
  limit: 'open',
  status: 200,
  errors: [],
  cacheControl: `public, max-age=${limits.jwksCacheSeconds}`,
} as const;

/** The keys that verify what this instance signs. */
export function signingKeyRoutes({ keys }: { keys: SigningKeys }): Route[] {
  return [
    defineRoute({
      ...open,
      id: 'keys.list',
      summary: 'Public keys that verify our tokens (RFC 7517)',
      path: '/.well-known/jwks.json',
      schema: { response: Jwks },
      handler: async () => keys.jwks(),
    }),

    defineRoute({
      ...open,
      id: 'keys.get_pem',
      summary: 'The RSA key that signs now, for verifiers that read no JWKS: it changes with each rotation',
      path: '/public-key.pem',
      contentType: 'application/x-pem-file',
      schema: { response: Type.String() },
      errors: ['not_found'],
      handler: async () => keys.getPem(),
    }),
  ];
}
