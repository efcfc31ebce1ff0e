import { setTimeout as sleep } from 'node:timers/promises';
import { createLocalJWKSet, decodeProtectedHeader, type JSONWebKeySet, jwtVerify } from 'jose';
import { beforeEach, describe, expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { newAgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { createTokens } from '../tokens/tokens.ts';
import { replaceSigningKeys } from './replace-signing-key.ts';
import { rotateSigningKeys } from './rotate-signing-key.ts';
import type { Algorithm } from './signing-key.ts';
import { loadSigningKeys } from './signing-keys.ts';
import { tendSigningKeys } from './tend-signing-keys.ts';

const { db } = await openTestDatabase();
const start = new Date('2026-11-22T10:00:00Z');
const issuer = 'http://localhost:8080';
const agentId = newAgentId();
let elapsed = 0;
const now = () => addSeconds(start, elapsed);
const context = testContext(db, { clock: { now } });

beforeEach(async () => {
  elapsed = 0;
  await db.query('DELETE FROM signing_keys');
  await db.query('TRUNCATE audit_events');
});

/** A process whose settings ask for these. */
async function openProcess(tokenAlgorithm: Algorithm, credentialAlgorithm: Algorithm = 'RS256') {
  const keys = await loadSigningKeys(context, [tokenAlgorithm, credentialAlgorithm]);
  const tokens = createTokens(keys, issuer, { 'at+jwt': tokenAlgorithm, 'vc+jwt': credentialAlgorithm });
  return { keys, sign: () => tokens.issueAgentToken(agentId, now()) };
}
type Process = Awaited<ReturnType<typeof openProcess>>;

/** A verifier that keeps the JWKS for as long as it may, and never asks for an unknown key sooner. */
function openVerifier(processes: () => readonly Process[], offset: number) {
  let readAt = offset - limits.jwksCacheSeconds;
  let jwks: JSONWebKeySet = { keys: [] };
  return async (token: string): Promise<boolean> => {
    if (elapsed >= readAt + limits.jwksCacheSeconds || jwks.keys.length === 0) {
      const all = processes();
      jwks = structuredClone(all[offset % all.length]?.keys.jwks()) ?? { keys: [] };
      readAt = elapsed;
    }
    const checked = jwtVerify(token, createLocalJWKSet(jwks), { currentDate: now(), issuer });
    return checked.then(
      () => true,
      () => false,
    );
  };
}

const algorithmOf = (token: string) => decodeProtectedHeader(token).alg;
const kidsOf = ({ keys }: Process) => keys.jwks().keys.map(({ kid }) => kid);

describe('an algorithm that is set for the first time', () => {
  it('signs at once on an instance that never signed, however many processes begin', async () => {
    const processes = await Promise.all([1, 2, 3].map(() => openProcess('ES256')));
    for (const one of processes) expect(algorithmOf(await one.sign())).toBe('ES256');
    expect(new Set(processes.flatMap(kidsOf)).size).toBe(2);
  });

  it('signs once every verifier knows its key, and no verification fails under load at any moment', async () => {
    const before = await openProcess('RS256');
    await tendSigningKeys(context);
    await before.keys.reload();
    const old = await before.sign();
    // The one that still has the settings of before runs on beside them, as in a rolling restart.
    const processes: Process[] = [before];
    const verifiers = [0, 60, 137, 210, 299].map((offset) => openVerifier(() => processes, offset));
    for (const verify of verifiers) expect(await verify(old)).toBe(true);

    const refused: string[] = [];
    const seen: { at: number; by: number; alg: string | undefined }[] = [];
    const over = new AbortController();
    async function load(): Promise<void> {
      while (!over.signal.aborted) {
        for (const [by, signer] of processes.entries()) {
          const token = await signer.sign();
          seen.push({ at: elapsed, by, alg: algorithmOf(token) });
          for (const [index, verify] of verifiers.entries())
            if (!(await verify(token))) refused.push(`${algorithmOf(token)} at ${elapsed} s by ${index}`);
        }
        await sleep(0);
      }
    }
    const loads = [load(), load()];
    elapsed = 5;
    processes.push(await openProcess('ES256'), await openProcess('ES256'));
    while (elapsed < 840) {
      elapsed += 5;
      if (elapsed % 60 === 0) await tendSigningKeys(context);
      await Promise.all(processes.map(({ keys }) => keys.reload()));
      const count = seen.length;
      while (seen.length < count + processes.length) await sleep(1);
    }
    over.abort();
    await Promise.all(loads);

    expect(refused).toEqual([]);
    const first = seen.find(({ alg }) => alg === 'ES256')?.at ?? 0;
    expect(first).toBeGreaterThan(5 + limits.jwksCacheSeconds);
    expect(first).toBeLessThan(5 + limits.nextKeyPublishedSeconds + 2 * 60);
    for (const by of [1, 2]) expect(seen.findLast((one) => one.by === by)?.alg).toBe('ES256');
    expect(seen.findLast(({ by }) => by === 0)?.alg).toBe('RS256');
    expect(await verifiers[0]?.(old)).toBe(true);
  });

  it('has its key among the published ones at once, and the former algorithm signs until then', async () => {
    const before = await openProcess('ES256');
    const after = await openProcess('EdDSA');
    expect(after.keys.jwks().keys.map(({ alg }) => alg)).toContain('EdDSA');
    // Not RS256, which signs credentials.
    expect(algorithmOf(await after.sign())).toBe('ES256');
    expect(algorithmOf(await before.sign())).toBe('ES256');
    expect(() => before.keys.getSigner('EdDSA')).toThrow(/EdDSA/);
  });

  it('signs when a process begins late enough, though no worker runs; its next key is published then', async () => {
    await openProcess('RS256');
    const [one, other] = await Promise.all([openProcess('ES256'), openProcess('ES256')]);
    // The one that signs comes first.
    const [, kid] = kidsOf(one);
    expect(kidsOf(one)).toEqual(kidsOf(other));
    elapsed = limits.nextKeyPublishedSeconds - 1;
    expect(algorithmOf(await (await openProcess('ES256')).sign())).toBe('RS256');
    elapsed = limits.nextKeyPublishedSeconds;
    const [late, beside] = await Promise.all([openProcess('ES256'), openProcess('ES256')]);
    for (const each of [late, beside]) {
      await each.keys.reload();
      expect(decodeProtectedHeader(await each.sign())).toMatchObject({ alg: 'ES256', kid });
    }
    expect(kidsOf(late)).toHaveLength(3);
    const events = await db.query("SELECT 1 FROM audit_events WHERE action = 'signing_key.activated'");
    expect(events).toHaveLength(1);
  });

  it('waits no longer where it was set before: its key signs still', async () => {
    await openProcess('ES256');
    await openProcess('RS256');
    expect(algorithmOf(await (await openProcess('ES256')).sign())).toBe('ES256');
  });

  it('is not turned by a rotation, and its key is dropped with all others in an emergency', async () => {
    await openProcess('RS256');
    const { keys, sign } = await openProcess('ES256');
    await tendSigningKeys(context);
    elapsed = limits.nextKeyPublishedSeconds;
    await rotateSigningKeys(context);
    const before = (
      await db.query<{ kid: string }>("SELECT kid FROM signing_keys WHERE state <> 'gone'")
    ).map(({ kid }) => kid);
    elapsed += 1;
    const replaced = await replaceSigningKeys(context);
    expect(replaced.map(({ algorithm, signs }) => [algorithm, signs])).toEqual([
      ['RS256', true],
      ['ES256', false],
    ]);
    await keys.reload();
    const after = keys.jwks().keys.map(({ kid }) => kid);
    expect(after).toHaveLength(2);
    for (const kid of before) expect(after).not.toContain(kid);
    expect(algorithmOf(await sign())).toBe('RS256');
  });
});
