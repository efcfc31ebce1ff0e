import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import * as fc from 'fast-check';
import { createLocalJWKSet, exportJWK, jwtVerify, SignJWT } from 'jose';
import { describe, expect, it } from 'vitest';
import { addSeconds, unixSeconds } from '../kernel/clock.ts';
import { newAgentId } from '../kernel/ids.ts';
import { parseJwt, signJwt } from './jwt.ts';
import type { SigningKeys } from './signing-keys.ts';
import { createTokens } from './tokens.ts';

const issuer = 'http://localhost:8080';
const now = new Date('2026-11-22T10:00:00Z');
const agentId = newAgentId();
const own = generateKeyPairSync('rsa', { modulusLength: 2048 });
const other = generateKeyPairSync('rsa', { modulusLength: 2048 });

const keys: SigningKeys = {
  active: { kid: 'key-1', privateKey: own.privateKey },
  findPublicKey: (kid) => (kid === 'key-1' ? own.publicKey : undefined),
  jwks: () => ({ keys: [] }),
};
const tokens = createTokens(keys, issuer);
const verify = (token: string, at = now) => tokens.verifyAgentToken(token, at);

const goodHeader = { alg: 'RS256', kid: 'key-1', typ: 'at+jwt' };
const goodClaims = {
  iss: issuer,
  aud: issuer,
  sub: agentId,
  iat: unixSeconds(now),
  exp: unixSeconds(now) + 900,
};

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
/** A token of any header and claims, rightly signed with RSA and SHA-256. */
function forge(header: object, claims: object, key: KeyObject = own.privateKey): string {
  const input = `${part(header)}.${part(claims)}`;
  return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`;
}

const ahead = (seconds: number) => forge(goodHeader, { ...goodClaims, iat: goodClaims.iat + seconds });

describe('an agent token', () => {
  it('of ours is one to another implementation, with its type, audience and life of 15 minutes', async () => {
    const token = await tokens.issueAgentToken(agentId, now);
    const jwks = createLocalJWKSet({
      keys: [{ ...(await exportJWK(own.publicKey)), kid: 'key-1', alg: 'RS256' }],
    });
    const { payload, protectedHeader } = await jwtVerify(token, jwks, {
      issuer,
      audience: issuer,
      typ: 'at+jwt',
      algorithms: ['RS256'],
      requiredClaims: ['jti', 'client_id', 'iat', 'exp'],
      currentDate: now,
    });
    expect(protectedHeader).toEqual(goodHeader);
    expect(payload).toMatchObject({ sub: agentId, agent_id: agentId });
    expect((payload.exp ?? 0) - (payload.iat ?? 0)).toBe(900);
  });

  it('of another implementation is one to us', async () => {
    const token = await new SignJWT(goodClaims).setProtectedHeader(goodHeader).sign(own.privateKey);
    expect(verify(token)).toBe(agentId);
  });

  it('of ours is accepted until it expires, and not from then on', async () => {
    const token = await tokens.issueAgentToken(agentId, now);
    expect(verify(token)).toBe(agentId);
    expect(verify(token, addSeconds(now, 899))).toBe(agentId);
    expect(verify(token, addSeconds(now, 900))).toBeUndefined();
  });

  it('is two tokens when it is issued twice', async () => {
    expect(await tokens.issueAgentToken(agentId, now)).not.toBe(await tokens.issueAgentToken(agentId, now));
  });

  it('may come from a clock half a minute ahead, and no more', () => {
    expect(verify(ahead(30))).toBe(agentId);
    expect(verify(ahead(31))).toBeUndefined();
  });

  it.each<[string, object, object]>([
    ['of another type', { ...goodHeader, typ: 'JWT' }, goodClaims],
    ['of a type that only begins alike', { ...goodHeader, typ: 'at+jwt2' }, goodClaims],
    ['without a type', { alg: 'RS256', kid: 'key-1' }, goodClaims],
    ['of a decision', { ...goodHeader, typ: 'decision+jwt' }, goodClaims],
    ['for another audience', goodHeader, { ...goodClaims, aud: 'http://localhost:8402' }],
    ['for several audiences', goodHeader, { ...goodClaims, aud: [issuer, 'https://evil.example'] }],
    ['for no audience', goodHeader, { ...goodClaims, aud: undefined }],
    ['of another issuer', goodHeader, { ...goodClaims, iss: 'https://evil.example' }],
    ['without an expiry', goodHeader, { ...goodClaims, exp: undefined }],
    ['with an expiry that is no number', goodHeader, { ...goodClaims, exp: '99999999999' }],
    ['without a time of issue', goodHeader, { ...goodClaims, iat: undefined }],
    ['that has expired', goodHeader, { ...goodClaims, exp: goodClaims.iat }],
    ['of nobody', goodHeader, { ...goodClaims, sub: undefined }],
    ['of somebody who is no agent', goodHeader, { ...goodClaims, sub: 'admin' }],
    ['of an unknown key', { ...goodHeader, kid: 'key-2' }, goodClaims],
    ['of no key', { alg: 'RS256', typ: 'at+jwt' }, goodClaims],
    ['with a critical extension', { ...goodHeader, crit: ['exp'] }, goodClaims],
    ['with an empty list of critical extensions', { ...goodHeader, crit: [] }, goodClaims],
    ['of another algorithm, though signed with ours', { ...goodHeader, alg: 'RS512' }, goodClaims],
    [
      'with its own key in the header',
      { ...goodHeader, kid: 'key-2', jwk: own.publicKey.export({ format: 'jwk' }) },
      goodClaims,
    ],
    ['whose claims are a list', goodHeader, [goodClaims]],
  ])('%s is refused, though its signature is right', (_what, header, claims) => {
    expect(verify(forge(header, claims))).toBeUndefined();
  });

  it('signed with another key is refused', () => {
    expect(verify(forge(goodHeader, goodClaims, other.privateKey))).toBeUndefined();
  });

  it('without a signature is refused (alg none)', () => {
    for (const alg of ['none', 'None', 'NONE', '']) {
      const input = `${part({ ...goodHeader, alg })}.${part(goodClaims)}`;
      expect(verify(`${input}.`)).toBeUndefined();
      expect(verify(`${input}.AA`)).toBeUndefined();
      expect(verify(input)).toBeUndefined();
    }
  });

  it('signed with HMAC over our public key is refused', () => {
    const pem = own.publicKey.export({ format: 'pem', type: 'spki' });
    const input = `${part({ ...goodHeader, alg: 'HS256' })}.${part(goodClaims)}`;
    expect(verify(`${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`)).toBeUndefined();
  });

  it('is refused cut short, at any place', () => {
    const token = forge(goodHeader, goodClaims);
    for (let length = 0; length < token.length; length += 1)
      expect(verify(token.slice(0, length)), `${length} characters`).toBeUndefined();
  });

  it('is refused with any character of its header, claims or signature changed', () => {
    const token = forge(goodHeader, goodClaims);
    // The last character of 256 signature bytes carries bits that mean nothing.
    fc.assert(
      fc.property(fc.nat(token.length - 2), fc.constantFrom(...'Aa0-_.=+ é'.split('')), (at, character) => {
        fc.pre(token[at] !== character);
        expect(verify(token.slice(0, at) + character + token.slice(at + 1))).toBeUndefined();
      }),
    );
  });
});

describe('parseJwt', () => {
  it('reads what signJwt wrote', async () => {
    const token = await signJwt({ alg: 'RS256', kid: 'k', typ: 't' }, { a: 1 }, own.privateKey);
    const jwt = parseJwt(token);
    expect(jwt).toMatchObject({ header: { alg: 'RS256', kid: 'k', typ: 't' }, claims: { a: 1 } });
    expect(jwt?.verify(own.publicKey)).toBe(true);
    expect(jwt?.verify(other.publicKey)).toBe(false);
  });

  it('throws at nothing', () => {
    const piece = fc.oneof(
      fc.string(),
      fc.json().map((text) => Buffer.from(text).toString('base64url')),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
        const jwt = parseJwt(pieces.join('.'));
        expect(jwt === undefined || jwt.header.alg === 'RS256').toBe(true);
      }),
    );
  });

  it.each(['isOurs', 'verifyAgentToken'] as const)('%s says no to what is no token', (name) => {
    for (const text of ['', '.', '..', 'a.b.c', 'awx_test_x', 'eyJhbGciOiJSUzI1NiJ9.e30.'])
      expect(tokens[name](text, now)).toBeFalsy();
  });

  it('isOurs knows our issuer on a bad token too, and no other issuer', () => {
    expect(tokens.isOurs(forge(goodHeader, { ...goodClaims, exp: 1 }, other.privateKey))).toBe(true);
    expect(tokens.isOurs(forge(goodHeader, { ...goodClaims, iss: 'https://other.example' }))).toBe(false);
  });
});
