import { createHmac, type KeyObject } from 'node:crypto';
import * as fc from 'fast-check';
import { calculateJwkThumbprint, createLocalJWKSet, jwtVerify, SignJWT } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import { newAgentId } from '../../kernel/ids.ts';
import { type Algorithm, algorithms, generateSigningKey } from '../signing-keys/signing-key.ts';
import { loadSigningKeys, type SigningKeys } from '../signing-keys/signing-keys.ts';
import { stealPrivateKey } from '../signing-keys/signing-keys.fixture.ts';
import { encodeHeader, type JwtClaims, parseJws, signByCurve, signByRsa, writeSigningInput } from './jws.ts';
import { createTokens, type Tokens } from './tokens.ts';

const issuer = 'http://localhost:8080';
const now = new Date('2026-11-22T10:00:00Z');
const agentId = newAgentId();
const { db } = await openTestDatabase();
const context = testContext(db);

const goodClaims = {
  iss: issuer,
  aud: issuer,
  sub: agentId,
  iat: unixSeconds(now),
  exp: unixSeconds(now) + 900,
};

const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

// Of an instance that has them from its beginning: a later one would sign only once it has been published for a while.
await loadSigningKeys(context, algorithms);

describe.each(algorithms)('a token signed with %s', (algorithm) => {
  let keys: SigningKeys;
  let tokens: Tokens;
  let own: KeyObject;
  let other: KeyObject;
  let goodHeader: { alg: string; kid: string; typ: string };

  beforeAll(async () => {
    keys = await loadSigningKeys(context, [algorithm]);
    tokens = createTokens(keys, issuer, { 'at+jwt': algorithm, 'vc+jwt': algorithm });
    const { kid } = keys.getSigner(algorithm);
    own = await stealPrivateKey(context, kid);
    other = (await generateSigningKey(algorithm)).privateKey;
    goodHeader = { alg: algorithm, kid, typ: 'at+jwt' };
  });

  /** A token of any header and claims, rightly signed. */
  const forge = async (header: object, claims: object, privateKey: KeyObject = own) => {
    const input = writeSigningInput(encodeHeader({ alg: algorithm, ...header }), claims as JwtClaims);
    const signature =
      algorithm === 'RS256'
        ? await signByRsa(input, privateKey)
        : signByCurve(input, { algorithm, privateKey });
    return `${input}.${signature}`;
  };
  const verify = (token: string, at = now) =>
    tokens.verify(token, { typ: 'at+jwt', audience: issuer, now: at });

  it('is one to another implementation, with the claims of RFC 9068', async () => {
    const { token, jti, kid, issuedAt, expiresAt } = await tokens.issueAccessToken({
      agentId,
      clientId: 'cid_1',
      email: 'owner@example.com',
      scope: 'read write',
      audience: 'https://api.example',
      ttlSeconds: 3600,
      cnf: { jkt: 'thumb' },
      now,
    });
    const jwks = createLocalJWKSet(keys.jwks());
    const { payload, protectedHeader } = await jwtVerify(token, jwks, {
      issuer,
      audience: 'https://api.example',
      typ: 'at+jwt',
      algorithms: [algorithm],
      currentDate: now,
    });
    expect(protectedHeader).toEqual(goodHeader);
    expect(payload).toEqual({
      iss: issuer,
      aud: 'https://api.example',
      sub: agentId,
      agent_id: agentId,
      client_id: 'cid_1',
      email: 'owner@example.com',
      scope: 'read write',
      cnf: { jkt: 'thumb' },
      iat: unixSeconds(now),
      exp: unixSeconds(now) + 3600,
      jti,
    });
    expect({ kid, issuedAt, expiresAt }).toEqual({
      kid: goodHeader.kid,
      issuedAt: now,
      expiresAt: addSeconds(now, 3600),
    });
  });

  it('of another implementation is one to us', async () => {
    const token = await new SignJWT(goodClaims).setProtectedHeader(goodHeader).sign(own);
    expect(await verify(token)).toEqual(goodClaims);
  });

  it("names the agent, where it is an agent's for this server, for 15 minutes", async () => {
    const token = await tokens.issueAgentToken(agentId, now);
    expect(await tokens.verifyAgentToken(token, now)).toBe(agentId);
    expect(await tokens.verifyAgentToken(token, addSeconds(now, 899))).toBe(agentId);
    expect(await tokens.verifyAgentToken(token, addSeconds(now, 900))).toBeUndefined();
    const nobody = await forge(goodHeader, { ...goodClaims, sub: 'admin' });
    expect(await verify(nobody)).toBeDefined();
    expect(await tokens.verifyAgentToken(nobody, now)).toBeUndefined();
  });

  it('is two tokens when it is issued twice', async () => {
    expect(await tokens.issueAgentToken(agentId, now)).not.toBe(await tokens.issueAgentToken(agentId, now));
  });

  it.each(['iat', 'nbf'])(
    'may come from a clock half a minute ahead by its %s, and no more',
    async (claim) => {
      const ahead = (seconds: number) =>
        forge(goodHeader, { ...goodClaims, [claim]: goodClaims.iat + seconds });
      expect(await verify(await ahead(30))).toBeDefined();
      expect(await verify(await ahead(31))).toBeUndefined();
    },
  );

  it('is for each of its audiences, and for no other', async () => {
    const both = await forge(goodHeader, { ...goodClaims, aud: ['https://a.example', 'https://b.example'] });
    const check = (audience: string | string[]) => tokens.verify(both, { typ: 'at+jwt', audience, now });
    expect(await check('https://b.example')).toBeDefined();
    expect(await check([issuer, 'https://a.example'])).toBeDefined();
    expect(await check(issuer)).toBeUndefined();
    expect(await check(['https://c.example', issuer])).toBeUndefined();
    expect(await check([])).toBeUndefined();
  });

  it.each<[string, object, object]>([
    ['of another type', { typ: 'JWT' }, {}],
    ['of a type that only begins alike', { typ: 'at+jwt2' }, {}],
    ['without a type', { typ: undefined }, {}],
    ['that is a credential', { typ: 'vc+jwt' }, {}],
    ['that is a receipt of a decision', { typ: 'decision+jwt' }, {}],
    ['that is a DPoP proof', { typ: 'dpop+jwt' }, {}],
    ['for another audience', {}, { aud: 'http://localhost:8402' }],
    ['for no audience', {}, { aud: undefined }],
    ['for an empty list of audiences', {}, { aud: [] }],
    ['for an audience within a list within a list', {}, { aud: [[issuer]] }],
    ['of another issuer', {}, { iss: 'https://evil.example' }],
    ['of a list of issuers', {}, { iss: [issuer] }],
    ['without an expiry', {}, { exp: undefined }],
    ['with an expiry that is no number', {}, { exp: '99999999999' }],
    ['without a time of issue', {}, { iat: undefined }],
    ['with a beginning that is no number', {}, { nbf: '0' }],
    ['that has expired', {}, { exp: goodClaims.iat }],
    ['of an unknown key', { kid: 'key-2' }, {}],
    ['of no key', { kid: undefined }, {}],
    ['of a key that is no text', { kid: 1 }, {}],
    ['with a critical extension', { crit: ['exp'] }, {}],
    ['with an empty list of critical extensions', { crit: [] }, {}],
    ['of another algorithm, though signed with ours', { alg: 'RS512' }, {}],
    ['of another algorithm of ours', { alg: algorithms.find((each) => each !== algorithm) }, {}],
  ])('%s is refused, though its signature is right', async (_what, header, claims) => {
    const token = await forge({ ...goodHeader, ...header }, { ...goodClaims, ...claims });
    expect(await verify(token)).toBeUndefined();
  });

  it('whose claims are a list is refused', async () => {
    expect(await verify(await forge(goodHeader, [goodClaims]))).toBeUndefined();
  });

  it('is refused as a credential', async () => {
    const token = await forge(goodHeader, goodClaims);
    expect(await tokens.verify(token, { typ: 'vc+jwt', audience: issuer, now })).toBeUndefined();
  });

  it('made with another key is refused, and so is one that brings its key', async () => {
    expect(await verify(await forge(goodHeader, goodClaims, other))).toBeUndefined();
    const { jwk, privateKey } = await generateSigningKey(algorithm);
    for (const kid of [goodHeader.kid, jwk.kid])
      expect(await verify(await forge({ ...goodHeader, kid, jwk }, goodClaims, privateKey))).toBeUndefined();
  });

  it("of one algorithm is refused under the id of another one's key", async () => {
    const strangers = algorithms.filter((each) => each !== algorithm);
    const all = await loadSigningKeys(context, algorithms);
    const verifier = createTokens(all, issuer, { 'at+jwt': algorithm, 'vc+jwt': algorithm });
    for (const { kid } of strangers.map((each: Algorithm) => all.getSigner(each))) {
      const token = await forge({ ...goodHeader, kid }, goodClaims);
      expect(await verifier.verify(token, { typ: 'at+jwt', audience: issuer, now })).toBeUndefined();
    }
  });

  it('without a signature is refused (alg none)', async () => {
    for (const alg of ['none', 'None', 'NONE', '', undefined]) {
      const input = `${part({ ...goodHeader, alg })}.${part(goodClaims)}`;
      for (const token of [`${input}.`, `${input}.AA`, input]) expect(await verify(token)).toBeUndefined();
    }
  });

  it('signed with HMAC over our public key is refused', async () => {
    const jwk = keys.jwks().keys.find(({ kid }) => kid === goodHeader.kid);
    const pem = keys.findKey(goodHeader.kid)?.publicKey.export({ format: 'pem', type: 'spki' }) ?? '';
    const input = `${part({ ...goodHeader, alg: 'HS256' })}.${part(goodClaims)}`;
    for (const secret of [pem, pem.trim(), JSON.stringify(jwk)]) {
      const mac = createHmac('sha256', secret).update(input).digest('base64url');
      expect(await verify(`${input}.${mac}`)).toBeUndefined();
    }
  });

  it('is refused with a part too many, an empty part, padding or white space', async () => {
    const token = await forge(goodHeader, goodClaims);
    const [head = '', body = '', signature = ''] = token.split('.');
    const spoilt = [
      `${token}.`,
      `${token}.${signature}`,
      `.${token}`,
      `${head}..${body}.${signature}`,
      `${head}..${signature}`,
      `${token}=`,
      `${token}==`,
      ` ${token}`,
      `${token}\n`,
      token.replaceAll('.', '. '),
    ];
    for (const text of spoilt) expect(await verify(text), text).toBeUndefined();
  });

  it('is refused with any character changed: no part has a second spelling', async () => {
    const token = await forge(goodHeader, goodClaims);
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(fc.nat(token.length - 1), fc.constant(token.length - 1)),
        fc.constantFrom(...'ABab01-_.=+/ é'.split('')),
        async (at, character) => {
          fc.pre(token[at] !== character);
          expect(await verify(token.slice(0, at) + character + token.slice(at + 1))).toBeUndefined();
        },
      ),
      { numRuns: 300 },
    );
  });

  it('is refused cut short, at any place', async () => {
    const token = await forge(goodHeader, goodClaims);
    for (let length = 0; length < token.length; length += 1)
      expect(await verify(token.slice(0, length)), `${length} characters`).toBeUndefined();
  });

  it('lives no longer than its key is kept', async () => {
    await expect(tokens.sign('at+jwt', {}, { ttlSeconds: 86_401, now })).rejects.toThrow('outlives');
    await expect(tokens.sign('at+jwt', {}, { ttlSeconds: 0, now })).rejects.toThrow('outlives');
  });

  it('of ours is known as ours on a bad signature too, and one of another issuer is not', async () => {
    expect(tokens.isOurs(await forge(goodHeader, { ...goodClaims, exp: 1 }, other))).toBe(true);
    expect(tokens.isOurs(await forge(goodHeader, { ...goodClaims, iss: 'https://other.example' }))).toBe(
      false,
    );
  });

  it('has the thumbprint of RFC 7638 for the id of its key', async () => {
    for (const jwk of keys.jwks().keys) expect(await calculateJwkThumbprint(jwk)).toBe(jwk.kid);
  });
});

describe('parseJws', () => {
  it('throws at nothing', () => {
    const piece = fc.oneof(
      fc.string(),
      fc.json().map((text) => Buffer.from(text).toString('base64url')),
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 5 }), (pieces) => {
        const jws = parseJws(pieces.join('.'));
        expect(jws === undefined || pieces.join('.').split('.').length === 3).toBe(true);
      }),
    );
  });
});
