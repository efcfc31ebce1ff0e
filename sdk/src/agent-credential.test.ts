import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type CredentialDemands, verifyAgentCredential } from './agent-credential.ts';
import type { PublicJwk } from './issuer-keys.ts';

const issuer = 'https://id.example';
const audience = 'https://shop.example';
const challenge = 'abc';
const now = Math.floor(Date.now() / 1000);

const pairs = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};
type Algorithm = keyof typeof pairs;
const other = generateKeyPairSync('rsa', { modulusLength: 2048 });
const jwkOf = (algorithm: Algorithm, members: object = {}): PublicJwk => ({
  ...pairs[algorithm].publicKey.export({ format: 'jwk' }),
  kid: algorithm,
  alg: algorithm,
  use: 'sig',
  ...members,
});
const jwks = { keys: [jwkOf('RS256'), jwkOf('ES256'), jwkOf('EdDSA')] };

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
const header = { alg: 'RS256', kid: 'RS256', typ: 'vc+jwt' };
const claims = {
  iss: issuer,
  sub: 'agent',
  aud: audience,
  challenge,
  iat: now,
  exp: now + 300,
  jti: 'j',
};

/** A credential of any header and claims, rightly signed. */
function forge(
  headers: object = {},
  claim: object = {},
  algorithm: Algorithm = 'RS256',
  key: KeyObject = pairs[algorithm].privateKey,
): string {
  const input = `${part({ ...header, ...headers })}.${part({ ...claims, ...claim })}`;
  const signature = sign(algorithm === 'EdDSA' ? null : 'sha256', Buffer.from(input), {
    key,
    dsaEncoding: 'ieee-p1363',
  });
  return `${input}.${signature.toString('base64url')}`;
}

const verify = (vc: string, demands: Partial<CredentialDemands> = {}) =>
  verifyAgentCredential(vc, { issuer, audience, challenge, jwks, ...demands });
const faultOf = async (vc: string, demands: Partial<CredentialDemands> = {}) =>
  verify(vc, demands).then(
    () => 'accepted',
    (error: { code?: string }) => error.code,
  );

describe('a credential', () => {
  it.each<Algorithm>(['RS256', 'ES256', 'EdDSA'])(
    'signed with %s is good where that is asked for',
    async (algorithm) => {
      const vc = forge({ alg: algorithm, kid: algorithm }, {}, algorithm);
      expect(await verify(vc, { algorithm })).toEqual(claims);
    },
  );

  it.each<[string, object, object, string]>([
    ['an access token', { typ: 'at+jwt' }, {}, 'wrong_type'],
    ['a receipt of a decision', { typ: 'decision+jwt' }, {}, 'wrong_type'],
    ['a DPoP proof', { typ: 'dpop+jwt' }, {}, 'wrong_type'],
    ['a token without a type', { typ: undefined }, {}, 'wrong_type'],
    ['another algorithm', { alg: 'RS512' }, {}, 'wrong_algorithm'],
    ['no algorithm', { alg: 'none' }, {}, 'wrong_algorithm'],
    ["another algorithm's key", { kid: 'ES256' }, {}, 'bad_signature'],
    ['an unknown key', { kid: 'gone' }, {}, 'unknown_key'],
    ['no key', { kid: undefined }, {}, 'unknown_key'],
    ['a critical extension', { crit: ['b64'], b64: false }, {}, 'malformed'],
    ['another issuer', {}, { iss: 'https://evil.example' }, 'wrong_issuer'],
    ['an issuer with a slash more', {}, { iss: `${issuer}/` }, 'wrong_issuer'],
    ['another audience', {}, { aud: 'https://other.example' }, 'wrong_audience'],
    ['two audiences', {}, { aud: [audience, 'https://other.example'] }, 'wrong_audience'],
    ['another challenge', {}, { challenge: 'abd' }, 'wrong_challenge'],
    ['no challenge', {}, { challenge: undefined }, 'wrong_challenge'],
    ['no subject', {}, { sub: undefined }, 'malformed'],
    ['no expiry', {}, { exp: undefined }, 'malformed'],
    ['a time that is no number', {}, { iat: `${now}` }, 'malformed'],
    ['an expiry 30 seconds ago', {}, { exp: now - 30 }, 'expired'],
    ['a time of issue a minute ahead', {}, { iat: now + 60 }, 'not_yet_valid'],
    ['a beginning a minute ahead', {}, { nbf: now + 60 }, 'not_yet_valid'],
  ])('with %s is refused, though its signature is right', async (_what, headers, claim, fault) => {
    expect(await faultOf(forge(headers, claim))).toBe(fault);
  });

  it('of another clock is good within the skew that is asked for', async () => {
    expect(await faultOf(forge({}, { exp: now - 20 }))).toBe('accepted');
    expect(await faultOf(forge({}, { iat: now + 20 }))).toBe('accepted');
    expect(await faultOf(forge({}, { exp: now - 20 }), { clockSkewSeconds: 0 })).toBe('expired');
    expect(await faultOf(forge({}, { exp: now - 60 }), { clockSkewSeconds: 600 })).toBe('accepted');
  });

  it('signed by another key, or with the public key for a secret, is refused', async () => {
    expect(await faultOf(forge({}, {}, 'RS256', other.privateKey))).toBe('bad_signature');
    const input = `${part({ ...header, alg: 'HS256' })}.${part(claims)}`;
    const pem = pairs.RS256.publicKey.export({ format: 'pem', type: 'spki' });
    const mac = createHmac('sha256', pem).update(input).digest('base64url');
    expect(await faultOf(`${input}.${mac}`)).toBe('wrong_algorithm');
  });

  it.each<[string, object]>([
    ['another algorithm', { alg: 'RS512' }],
    ['no algorithm', { alg: undefined }],
    ['encryption for its use', { use: 'enc' }],
  ])('whose key is published with %s is refused', async (_what, members) => {
    expect(await faultOf(forge(), { jwks: { keys: [jwkOf('RS256', members)] } })).toBe('bad_signature');
  });

  it('whose key is published twice is refused', async () => {
    expect(await faultOf(forge(), { jwks: { keys: [jwkOf('RS256'), jwkOf('RS256')] } })).toBe('unknown_key');
  });

  it('is refused with a part too many, an empty part, padding, or a second spelling', async () => {
    const vc = forge();
    const [head = '', body = '', signature = ''] = vc.split('.');
    // 256 bytes leave four bits over in the last character.
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const last = alphabet[alphabet.indexOf(vc.at(-1) ?? '') + 1] ?? '';
    const spoilt = [
      `${vc}.`,
      `${vc}.${signature}`,
      `${head}..${signature}`,
      `${head}.${body}.`,
      `${vc}=`,
      ` ${vc}`,
      '',
    ];
    for (const text of [...spoilt, vc.slice(0, -1) + last])
      expect(await faultOf(text), text).toBe('malformed');
  });

  it.each(['issuer', 'audience', 'challenge'])(
    'is not looked at by a verifier without its %s',
    async (name) => {
      await expect(verify(forge(), { [name]: '' })).rejects.toThrow(TypeError);
    },
  );
});
