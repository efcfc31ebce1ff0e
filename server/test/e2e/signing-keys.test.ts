import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { createRemoteJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase } from '../../src/db/index.ts';
import { findRunningDatabase } from '../../src/embedded/index.ts';
import { type Agent, registerAgent } from '../helpers/agent.ts';
import { openTestDatabase } from '../helpers/database.ts';
import { type Instance, startInstance } from '../helpers/instance.ts';
import { send } from '../helpers/request.ts';
import { callApi } from '../helpers/seller.ts';

let instance: Instance;
let agent: Agent;
beforeAll(async () => {
  instance = await startInstance();
  agent = await registerAgent(instance);
});
afterAll(() => instance?.stop());

const jwksUrl = () => `${instance.info.api_url}/.well-known/jwks.json`;
const freshToken = async () => {
  const { agent_id, token } = agent;
  const answer = await callApi(instance, '/refresh', { body: { agent_id, token } });
  return (answer.json() as { jwt: string }).jwt;
};
const kidOf = (token: string) =>
  (JSON.parse(Buffer.from(token.split('.', 1)[0] ?? '', 'base64url').toString()) as { kid: string }).kid;
const publishedKids = async () =>
  ((await send(jwksUrl())).json() as JSONWebKeySet).keys.map(({ kid }) => kid);
/** Whether our own API lets the agent in with it. */
async function isLetIn(credential: string): Promise<boolean> {
  const body = { challenge: 'c', audience: 'a' };
  const { status } = await callApi(instance, '/agent/vc/issue', { body, credential });
  expect([200, 401]).toContain(status);
  return status === 200;
}

/** `npm run rotate-keys` with the settings of the instance. */
async function rotateKeys(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const program = new URL('../../src/rotate-keys.ts', import.meta.url).pathname;
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH, HOME, CREDENCE_DATA_DIR: instance.dataDirectory },
  });
  const [stdout, stderr, [code]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'exit') as Promise<[number]>,
  ]);
  return { code, stdout, stderr };
}

/** As if so much time had gone by since the next key was published. */
async function ageNextKeys(minutes: number): Promise<void> {
  const url = (await findRunningDatabase(instance.dataDirectory)) ?? '';
  const db = openDatabase(url, { poolSize: 1, onError: () => undefined });
  await db.query(
    "UPDATE signing_keys SET created_at = created_at - make_interval(mins => $1) WHERE state = 'next'",
    [minutes],
  );
  await db.close();
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(20);
}

describe('the published keys', () => {
  it('may be kept for five minutes, and are not sent again to whoever has them', async () => {
    // The next one comes a moment after the start, and makes them others.
    await until(async () => (await publishedKids()).length === 2);
    const first = await send(jwksUrl());
    expect(first.headers).toMatchObject({
      'cache-control': 'public, max-age=300',
      'content-type': expect.stringContaining('application/json'),
    });
    const { etag = '' } = first.headers;
    expect(etag).toMatch(/^"[\w-]{43}"$/);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
      const again = await send(jwksUrl(), { headers: { 'if-none-match': known } });
      expect(again).toMatchObject({ status: 304, text: '', headers: { etag } });
    }
    expect((await send(jwksUrl(), { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
  });

  it('have the next one among them, which signs nothing yet', async () => {
    await until(async () => (await publishedKids()).length === 2);
    const { keys } = (await send(jwksUrl())).json() as JSONWebKeySet;
    for (const key of keys) {
      expect(key).toMatchObject({ kty: 'RSA', alg: 'RS256', use: 'sig' });
      expect(key).not.toHaveProperty('d');
    }
    expect(kidOf(await freshToken())).toBe(keys[0]?.kid);
  });
});

describe('npm run rotate-keys', () => {
  it('refuses a rotation that verifiers are not ready for, and says when they will be', async () => {
    await until(async () => (await publishedKids()).length === 2);
    const before = await publishedKids();
    const { code, stderr } = await rotateKeys();
    expect(code).toBe(1);
    expect(stderr).toMatch(/^credence: the next key was published at \S+Z, .*rotate again from \S+Z on\n$/);
    expect(await publishedKids()).toEqual(before);
  });

  it('refuses what it does not know', async () => {
    const { code, stderr } = await rotateKeys('--nwo');
    expect(code).toBe(1);
    expect(stderr).toContain('npm run rotate-keys -- --now');
  });

  it('makes the next key sign, without a restart and without one refusal', async () => {
    await until(async () => (await publishedKids()).length === 2);
    const [old = '', next = ''] = await publishedKids();
    await ageNextKeys(10);
    const before = await freshToken();
    const jwks = createRemoteJWKSet(new URL(jwksUrl()));
    const over = new AbortController();
    const refused: string[] = [];
    const signers = new Set<string>();
    async function verify(): Promise<void> {
      while (!over.signal.aborted) {
        const token = await freshToken();
        signers.add(kidOf(token));
        for (const each of [before, token]) {
          if (!(await isLetIn(each))) refused.push(each);
          await jwtVerify(each, jwks).catch(() => refused.push(each));
        }
        // Below the rate limit of fresh tokens.
        await sleep(40);
      }
    }
    const verifying = Promise.all([verify(), verify()]);
    expect(await rotateKeys()).toMatchObject({
      code: 0,
      stdout: expect.stringContaining(`RS256: ${next} signs`),
    });
    await until(async () => signers.has(next));
    over.abort();
    await verifying;
    expect(refused).toEqual([]);
    expect([...signers]).toEqual([old, next]);
    const published = await publishedKids();
    expect(published).toHaveLength(3);
    expect(published).toEqual(expect.arrayContaining([old, next]));
  });

  it('--now drops every key: what they have signed is refused at once', async () => {
    const before = await freshToken();
    const known = await publishedKids();
    expect(await isLetIn(before)).toBe(true);
    const { code, stdout } = await rotateKeys('--now');
    expect(code).toBe(0);
    for (const kid of known) expect(stdout).toContain(kid);
    await until(async () => !(await isLetIn(before)));
    const after = await freshToken();
    expect(known).not.toContain(kidOf(after));
    expect(await isLetIn(after)).toBe(true);
    const published = await publishedKids();
    for (const kid of known) expect(published).not.toContain(kid);
    await expect(jwtVerify(before, createRemoteJWKSet(new URL(jwksUrl())))).rejects.toMatchObject({
      code: 'ERR_JWKS_NO_MATCHING_KEY',
    });
  });
});

describe('an instance that signs tokens with ES256', () => {
  it('has a key of each algorithm in use: its tokens are ES256, its credentials RS256, and both verify', async () => {
    const other = await startInstance({ env: { CREDENCE_TOKEN_ALGORITHM: 'ES256' } });
    try {
      const { jwt } = await registerAgent(other);
      const body = { challenge: 'c', audience: 'a' };
      const { vc } = (await callApi(other, '/agent/vc/issue', { body, credential: jwt })).json() as {
        vc: string;
      };
      const jwks = createRemoteJWKSet(new URL(`${other.info.api_url}/.well-known/jwks.json`));
      const issuer = other.info.api_url;
      const token = await jwtVerify(jwt, jwks, { issuer, typ: 'at+jwt', algorithms: ['ES256'] });
      const credential = await jwtVerify(vc, jwks, { issuer, typ: 'vc+jwt', algorithms: ['RS256'] });
      expect(credential.payload.sub).toBe(token.payload.sub);
    } finally {
      await other.stop();
    }
  });

  it('signs with RS256 as before where it has signed with that, until its new key has been published for long enough', async () => {
    const { db, url } = await openTestDatabase();
    const directory = await mkdtemp(join(tmpdir(), 'credence-test-'));
    const env = { DATABASE_URL: url, CREDENCE_MASTER_KEY: randomBytes(32).toString('hex') };
    const run = async (settings: Record<string, string>) => {
      const one = await startInstance({ dataDirectory: directory, env: { ...env, ...settings } });
      try {
        const { jwt } = await registerAgent(one);
        const { keys } = (await send(`${one.info.api_url}/.well-known/jwks.json`)).json() as JSONWebKeySet;
        return { signer: decodeProtectedHeader(jwt).alg, published: keys.map(({ alg }) => alg) };
      } finally {
        await one.stop();
      }
    };
    try {
      expect(await run({})).toMatchObject({ signer: 'RS256' });
      const changed = { CREDENCE_TOKEN_ALGORITHM: 'ES256' };
      const before = await run(changed);
      expect(before).toMatchObject({ signer: 'RS256', published: expect.arrayContaining(['ES256']) });
      await db.query("UPDATE signing_keys SET created_at = created_at - interval '6 minutes'");
      expect(await run(changed)).toMatchObject({ signer: 'ES256' });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }, 90_000);
});
