import { Type } from 'typebox';

const common = { kid: Type.String({ description: 'RFC 7638 thumbprint' }), use: Type.Literal('sig') };

const PublicJwk = Type.Union([
  Type.Object({
    ...common,
    kty: Type.Literal('RSA'),
    alg: Type.Literal('RS256'),
    n: Type.String(),
    e: Type.String(),
  }),
  Type.Object({
    ...common,
    kty: Type.Literal('EC'),
    alg: Type.Literal('ES256'),
    crv: Type.Literal('P-256'),
    x: Type.String(),
    y: Type.String(),
  }),
  Type.Object({
    ...common,
    kty: Type.Literal('OKP'),
    alg: Type.Literal('EdDSA'),
    crv: Type.Literal('Ed25519'),
    x: Type.String(),
  }),
]);

export const Jwks = Type.Object({ keys: Type.Array(PublicJwk) });
