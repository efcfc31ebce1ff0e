import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parsePublicKey, thumbprintOf } from './public-key.ts';

const pairs = {
  'EC on P-256': generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  Ed25519: generateKeyPairSync('ed25519'),
  RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
};
type Sent = Record<string, unknown>;
const jwkOf = (pair: { publicKey: { export(options: { format: 'jwk' }): object } }): Sent => ({
  ...pair.publicKey.export({ format: 'jwk' }),
});

const pemOf = ({ publicKey }: { publicKey: KeyObject }) => publicKey.export({ format: 'pem', type: 'spki' });
const rsaOf = (e: string): Sent => ({ ...jwkOf(pairs.RSA), e });

describe('a public key of an agent', () => {
  it.each(Object.entries(pairs))('may be %s, as a JWK or as PEM, and is kept bare', (_kind, pair) => {
    const jwk = jwkOf(pair);
    const kept = parsePublicKey({ ...jwk, kid: 'mine', alg: 'X', use: 'sig', x5u: 'https://evil.example' });
    expect(kept).toEqual(jwk);
    expect(parsePublicKey(pair.publicKey.export({ format: 'pem', type: 'spki' }))).toEqual(jwk);
  });

  it('has the thumbprint of RFC 7638 section 3.1', () => {
    const n =
      '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw';
    expect(thumbprintOf(parsePublicKey({ kty: 'RSA', n, e: 'AQAB' }))).toBe(
      'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs',
    );
  });

  it.each([
    ['a private JWK', { ...generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' }) }],
    ['a private PEM', pairs.RSA.privateKey.export({ format: 'pem', type: 'pkcs8' })],
    ['a shared secret', { ...createSecretKey(Buffer.alloc(32)).export({ format: 'jwk' }) }],
    ['RSA of 1024 bits', jwkOf(generateKeyPairSync('rsa', { modulusLength: 1024 }))],
    ['another curve', jwkOf(generateKeyPairSync('ec', { namedCurve: 'P-384' }))],
    ['a key for encryption', jwkOf(generateKeyPairSync('x25519'))],
    [
      'a point off the curve',
      { ...jwkOf(pairs['EC on P-256']), y: Buffer.alloc(32, 1).toString('base64url') },
    ],
    ['RSA with the exponent 1, for which a signature is its own message', rsaOf('AQ')],
    ['RSA with an even exponent', rsaOf('BA')],
    ['RSA with an exponent that takes long to verify', rsaOf(Buffer.alloc(200, 1).toString('base64url'))],
    ['RSA-PSS', pemOf(generateKeyPairSync('rsa-pss', { modulusLength: 2048 }))],
    ['DSA', pemOf(generateKeyPairSync('dsa', { modulusLength: 2048, divisorLength: 256 }))],
    ['Diffie-Hellman', pemOf(generateKeyPairSync('dh' as 'ed25519', { group: 'modp14' } as object))],
    ['a curve without a name in JOSE', pemOf(generateKeyPairSync('ec', { namedCurve: 'brainpoolP256r1' }))],
    ['secp256k1', pemOf(generateKeyPairSync('ec', { namedCurve: 'secp256k1' }))],
    ['Ed448', pemOf(generateKeyPairSync('ed448'))],
    ['an empty object', {}],
    ['any text', 'ssh-ed25519 AAAA'],
  ])('is never %s', (_kind, sent) => {
    expect(() => parsePublicKey(sent)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });
});
