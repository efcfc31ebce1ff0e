import { generateKeyPairSync, sign } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAgentLogin, type SharedLogin } from './agent-login.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const { publicKey, privateKey } = generateKeyPairSync('ed25519');
const jwks = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'EdDSA', use: 'sig' }] };
const demands = {
  issuer: 'https://id.example',
  audience: 'https://shop.example',
  algorithm: 'EdDSA',
  jwks,
} as const;
const login = createAgentLogin(demands);

/** The issuer's credential for a challenge. */
function credentialFor(challenge: string, aud: string = demands.audience): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { iss: demands.issuer, sub: 'agent', aud, challenge, iat, exp: iat + 300, jti: 'j' };
  const input = [{ alg: 'EdDSA', kid: 'k', typ: 'vc+jwt' }, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  return `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`;
}

/** What comes of answering a challenge, with the right credential unless told. */
const answer = (challenge: string, vc = credentialFor(challenge), at = login) =>
  at.verify({ challenge, vc }).then(
    ({ sub }) => sub,
    ({ code }: { code: string }) => code,
  );

describe('a challenge', () => {
  it('lets an agent in once, also of two that come at the same time', async () => {
    const [one, two] = [login.challenge(), login.challenge()];
    expect(one.challenge).not.toBe(two.challenge);
    expect(one.audience).toBe('https://shop.example');
    expect(await answer(one.challenge)).toBe('agent');
    expect(await answer(one.challenge)).toBe('unknown_challenge');
    const both = await Promise.all([answer(two.challenge), answer(two.challenge)]);
    expect(both.toSorted()).toEqual(['agent', 'unknown_challenge']);
  });

  it('is good for five minutes, and not again once its use is forgotten', async () => {
    const [one, two, used] = [login.challenge(), login.challenge(), login.challenge()];
    expect(await answer(used.challenge)).toBe('agent');
    vi.advanceTimersByTime(299_999);
    expect(await answer(one.challenge)).toBe('agent');
    expect(await answer(used.challenge)).toBe('unknown_challenge');
    vi.advanceTimersByTime(1);
    expect(await answer(two.challenge)).toBe('unknown_challenge');
    expect(await answer(used.challenge)).toBe('unknown_challenge');
  });

  it('isn’t used up by who may not come in', async () => {
    const { challenge } = login.challenge();
    expect(await answer(challenge, 'none')).toBe('malformed');
    expect(await answer(challenge, credentialFor(login.challenge().challenge))).toBe('wrong_challenge');
    expect(await answer(challenge)).toBe('agent');
  });

  it('isn’t forgotten for others, however many ask', async () => {
    const { challenge } = login.challenge();
    expect(await answer(challenge)).toBe('agent');
    const waiting = login.challenge();
    for (let index = 0; index < 20_000; index += 1) login.challenge();
    expect(await answer(waiting.challenge)).toBe('agent');
    expect(await answer(challenge)).toBe('unknown_challenge');
  });

  it.each<[string, (challenge: string) => unknown]>([
    ['another’s', () => createAgentLogin(demands).challenge().challenge],
    ['one for another audience', () => otherSite.challenge().challenge],
    ['one whose end was moved', moved],
    ['another spelling of ours', (challenge) => `${challenge}=`],
    ['a spelling with a space', (challenge) => `${challenge.slice(0, 8)} ${challenge.slice(8)}`],
    ['half of one', (challenge) => challenge.slice(0, 36)],
    ['an empty one', () => ''],
    ['none', () => undefined],
    ['a number', () => 7],
  ])('that is %s is unknown', async (_, make) => {
    const challenge = make(login.challenge().challenge) as string;
    expect(await answer(challenge, credentialFor(challenge))).toBe('unknown_challenge');
    expect(await answer(challenge, credentialFor(challenge), site)).toBe('unknown_challenge');
  });
});

it('an answer that is none is an unknown challenge, which is a 401', async () => {
  await expect(login.verify(undefined)).rejects.toMatchObject({ code: 'unknown_challenge', status: 401 });
});

const key = Buffer.alloc(32, 1);
const taken = new Set<string>();
const shared: SharedLogin = {
  key,
  takeOnce: async (challenge) => !taken.has(challenge) && taken.add(challenge) !== undefined,
};
const site = createAgentLogin({ ...demands, shared });
const otherSite = createAgentLogin({ ...demands, audience: 'https://other.example', shared });

/** Its end an hour later. */
function moved(challenge: string): string {
  const bytes = Buffer.from(challenge, 'base64url');
  bytes.writeUIntBE(bytes.readUIntBE(16, 6) + 3_600_000, 16, 6);
  return bytes.toString('base64url');
}

describe('processes that share a key', () => {
  it('take each other’s challenges, each once in all', async () => {
    const second = createAgentLogin({ ...demands, shared });
    const [one, two] = [site.challenge(), site.challenge()];
    expect(await answer(one.challenge, undefined, second)).toBe('agent');
    expect(await answer(one.challenge, undefined, site)).toBe('unknown_challenge');
    expect(await answer(two.challenge, undefined, site)).toBe('agent');
    expect(await answer(two.challenge, undefined, second)).toBe('unknown_challenge');
  });

  it('tell until when a use must be known', async () => {
    let until: Date | undefined;
    const takeOnce: SharedLogin['takeOnce'] = async (_, expiresAt) => Boolean((until = expiresAt));
    const one = createAgentLogin({ ...demands, challengeSeconds: 60, shared: { key, takeOnce } });
    const { challenge } = one.challenge();
    const end = Date.now() + 60_000;
    vi.advanceTimersByTime(1_000);
    expect(await answer(challenge, undefined, one)).toBe('agent');
    expect(until).toEqual(new Date(end));
  });

  it('need one of 32 bytes', () => {
    const short = { ...shared, key: Buffer.alloc(31) };
    expect(() => createAgentLogin({ ...demands, shared: short })).toThrow('key needs 32 bytes');
  });
});
