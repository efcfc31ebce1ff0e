import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/index.ts';
import { openTestDatabase } from '../helpers/database.ts';
import type { Instance } from '../helpers/instance.ts';
import { askToken, createClient, type OAuthClient, postForm } from '../helpers/oauth.ts';
import { startPair } from '../helpers/pair.ts';
import { callApi } from '../helpers/seller.ts';

const kidOf = (token: string) => decodeProtectedHeader(token).kid ?? '';

describe('a rotation of the keys under load, with two processes', { timeout: 60_000 }, () => {
  const masterKey = randomBytes(32).toString('hex');
  let databaseUrl: string;
  let db: Database;
  let pair: [Instance, Instance];
  let clients: OAuthClient[];
  beforeAll(async () => {
    ({ url: databaseUrl, db } = await openTestDatabase());
    pair = await startPair(databaseUrl, masterKey);
    clients = await Promise.all([1, 2, 3, 4].map(() => createClient(pair[0])));
  }, 90_000);
  afterAll(() => Promise.all((pair ?? []).map((one) => one.stop())), 60_000);

  const nextKid = async () => {
    const rows = await db.query<{ kid: string }>("SELECT kid FROM signing_keys WHERE state = 'next'");
    return rows[0]?.kid;
  };
  /** `npm run rotate-keys`, once the next key has been published for long enough. */
  async function rotateKeys(): Promise<void> {
    await db.query(
      "UPDATE signing_keys SET created_at = created_at - interval '10 minutes' WHERE state = 'next'",
    );
    const program = new URL('../../src/rotate-keys.ts', import.meta.url).pathname;
    const { PATH = '', HOME = '' } = process.env;
    const env = { PATH, HOME, DATABASE_URL: databaseUrl, CREDENCE_MASTER_KEY: masterKey };
    await promisify(execFile)(process.execPath, [program], { env });
  }

  it('fails no verification at any moment: what either signs passes the other, and whoever reads the JWKS', async () => {
    await expect.poll(nextKid, { timeout: 10_000 }).toBeDefined();
    const signers = new Map(pair.map((one) => [one, new Set<string>()]));
    const readKeys = () => createRemoteJWKSet(new URL(`${pair[0].info.api_url}/.well-known/jwks.json`));
    const publishedKids = async () => {
      const answer = await callApi(pair[0], '/.well-known/jwks.json');
      return (answer.json().keys as { kid: string }[]).map(({ kid }) => kid);
    };
    let jwks = readKeys();
    const early = (await askToken(pair[0], clients[0] as OAuthClient)).json().access_token as string;
    const refused: string[] = [];
    let verified = 0;
    const over = new AbortController();

    async function passes(token: string, signer: string): Promise<void> {
      for (const verifier of pair) {
        const me = await callApi(verifier, '/v1/agents/me', { credential: token });
        const told = await postForm(
          verifier,
          '/oauth/introspect',
          { token },
          { 'x-api-key': pair[0].info.api_key },
        );
        if (me.status !== 200 || told.json().active !== true)
          refused.push(`${signer}: ${me.status} ${told.text}`);
        verified += 1;
      }
      await jwtVerify(token, jwks).catch((error: unknown) => refused.push(`${signer}: ${String(error)}`));
    }
    async function load(client: OAuthClient): Promise<void> {
      while (!over.signal.aborted) {
        for (const signer of pair) {
          const answer = await askToken(signer, client);
          if (answer.status !== 200) refused.push(answer.text);
          const token = answer.json().access_token as string;
          signers.get(signer)?.add(kidOf(token));
          await passes(token, signer.info.api_url);
        }
        await passes(early, 'of before');
      }
    }
    const loads = Promise.all(clients.map(load));
    try {
      for (let round = 0; round < 3; round += 1) {
        await expect.poll(nextKid, { timeout: 10_000 }).toBeDefined();
        const next = (await nextKid()) ?? '';
        // Whoever verifies has read the next key in the minutes before it signs, as `Cache-Control` has it.
        await expect.poll(() => publishedKids()).toContain(next);
        const read = readKeys();
        await jwtVerify(early, read);
        jwks = read;
        await rotateKeys();
        for (const one of pair)
          await expect.poll(() => signers.get(one)?.has(next), { timeout: 10_000 }).toBe(true);
      }
    } finally {
      over.abort();
      await loads;
    }
    expect(refused).toEqual([]);
    expect(verified).toBeGreaterThan(100);
    for (const kids of signers.values()) expect(kids.size).toBe(4);
  });
});
