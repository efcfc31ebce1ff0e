import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { listen, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { createSecretBox } from '../../kernel/crypto.ts';
import { newAgentId } from '../../kernel/ids.ts';
import { createTokens } from '../tokens/tokens.ts';
import { replaceSigningKeys } from './replace-signing-key.ts';
import { rotateSigningKeys } from './rotate-signing-key.ts';
import { stealPrivateKey } from './signing-keys.fixture.ts';
import { loadSigningKeys, type SigningKeys } from './signing-keys.ts';
import { signingKeysChannel } from './signing-keys.sql.ts';
import { tendSigningKeys } from './tend-signing-keys.ts';

const { db } = await openTestDatabase();
const start = new Date('2026-11-22T10:00:00Z');
const issuer = 'http://localhost:8080';
const agentId = newAgentId();
const at = (seconds: number): WriteContext =>
  testContext(db, { clock: { now: () => addSeconds(start, seconds) } });

const stateOf = async (kid: string) =>
  (
    await db.query<{
      state: string;
      hasPrivateKey: boolean;
      retiredAt: Date | null;
      verifiesUntil: Date | null;
    }>(
      'SELECT state, private_key IS NOT NULL AS has_private_key, retired_at, verifies_until FROM signing_keys WHERE kid = $1',
      [kid],
    )
  )[0];
const eventsOf = async (action: string) =>
  db.query<{ resource: string; data: object }>(
    'SELECT resource, data FROM audit_events WHERE action = $1 ORDER BY created_at',
    [action],
  );
const kidsOf = (keys: SigningKeys) => keys.jwks().keys.map(({ kid }) => kid);
const signWith = (keys: SigningKeys) => createTokens(keys, issuer, { 'at+jwt': 'ES256', 'vc+jwt': 'ES256' });

/** A process: its keys, and what it signs and verifies with them. */
async function openProcess(context = at(0)) {
  const keys = await loadSigningKeys(context, ['ES256']);
  const tokens = signWith(keys);
  return {
    keys,
    sign: () => tokens.issueAgentToken(agentId, start),
    isGood: async (token: string) => (await tokens.verifyAgentToken(token, start)) !== undefined,
  };
}

beforeEach(async () => {
  await db.query('DELETE FROM signing_keys');
  await db.query('TRUNCATE audit_events');
});

describe('the first key', () => {
  it('is one, however many processes start at once, with one event', async () => {
    const processes = await Promise.all(Array.from({ length: 6 }, () => openProcess()));
    const kids = new Set(processes.map(({ keys }) => keys.getSigner('ES256').kid));
    expect(kids.size).toBe(1);
    expect(await eventsOf('signing_key.created')).toHaveLength(1);
  });

  it('opens under the master key alone', async () => {
    await openProcess();
    const elsewhere = testContext(db, { box: createSecretBox(Buffer.alloc(32, 9)) });
    await expect(loadSigningKeys(elsewhere, ['ES256'])).rejects.toThrow(/authenticate/);
  });

  it('is of each algorithm that is asked for, and of no other', async () => {
    const keys = await loadSigningKeys(at(0), ['RS256', 'EdDSA', 'RS256']);
    expect(
      keys
        .jwks()
        .keys.map(({ alg, use }) => `${alg} ${use}`)
        .toSorted(),
    ).toEqual(['EdDSA sig', 'RS256 sig']);
    expect(() => keys.getSigner('ES256')).toThrow(/ES256/);
    expect(keys.getPem()).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
  });
});

describe('a rotation', () => {
  it('goes next, active, retiring, gone, and destroys the private half when a key signs no more', async () => {
    const { keys } = await openProcess();
    const first = keys.getSigner('ES256').kid;
    await tendSigningKeys(at(0));
    await keys.reload();
    const second = kidsOf(keys).find((kid) => kid !== first) ?? '';
    expect(await stateOf(second)).toMatchObject({ state: 'next', hasPrivateKey: true });
    expect(keys.getSigner('ES256').kid).toBe(first);

    const [rotation] = await rotateSigningKeys(at(360));
    const until = addSeconds(start, 360 + 86_400 + 300);
    expect(rotation).toEqual({ algorithm: 'ES256', kid: second, retired: first, verifiesUntil: until });
    expect(await stateOf(first)).toEqual({
      state: 'retiring',
      hasPrivateKey: false,
      retiredAt: addSeconds(start, 360),
      verifiesUntil: until,
    });
    await keys.reload();
    expect(keys.getSigner('ES256').kid).toBe(second);
    expect(kidsOf(keys)).toEqual([second, expect.any(String), first]);

    await tendSigningKeys(at(360 + 86_400 + 299));
    expect((await stateOf(first))?.state).toBe('retiring');
    await tendSigningKeys(at(360 + 86_400 + 300));
    expect((await stateOf(first))?.state).toBe('gone');
    await keys.reload();
    expect(kidsOf(keys)).not.toContain(first);
    expect((await eventsOf('signing_key.rotated')).map(({ resource }) => resource)).toEqual([second]);
    expect((await eventsOf('signing_key.ended')).map(({ resource }) => resource)).toEqual([first]);
  });

  it('waits until the next key has been published for longer than verifiers keep the JWKS', async () => {
    const { keys } = await openProcess();
    await expect(rotateSigningKeys(at(0))).rejects.toThrow('rotate again from 2026-11-22T10:06:00.000Z on');
    await expect(rotateSigningKeys(at(359))).rejects.toMatchObject({ code: 'conflict' });
    await keys.reload();
    expect(kidsOf(keys)).toHaveLength(2);
    await rotateSigningKeys(at(360));
  });

  it('of several algorithms turns all of them, or none', async () => {
    const keys = await loadSigningKeys(at(0), ['ES256', 'EdDSA']);
    await tendSigningKeys(at(0));
    await db.query("DELETE FROM signing_keys WHERE state = 'next' AND algorithm = 'EdDSA'");
    await expect(rotateSigningKeys(at(400))).rejects.toMatchObject({ code: 'conflict' });
    const signers = () => (['ES256', 'EdDSA'] as const).map((algorithm) => keys.getSigner(algorithm).kid);
    const before = signers();
    await keys.reload();
    expect(signers()).toEqual(before);
    expect(await rotateSigningKeys(at(1_000))).toHaveLength(2);
    await keys.reload();
    expect(new Set([...before, ...signers()]).size).toBe(4);
  });

  it('many times at once happens once', async () => {
    await openProcess();
    await tendSigningKeys(at(0));
    const results = await Promise.allSettled(Array.from({ length: 30 }, () => rotateSigningKeys(at(400))));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(await eventsOf('signing_key.rotated')).toHaveLength(1);
  });

  it('fails no verification at any moment, by whichever process a token was signed and verified', async () => {
    const processes = [await openProcess(), await openProcess()];
    await tendSigningKeys(at(0));
    const listeners = processes.map(({ keys }) =>
      listen(db, { [signingKeysChannel]: () => void keys.reload() }, (error) => {
        throw error;
      }),
    );
    const over = new AbortController();
    const bad: string[] = [];
    const old: string[] = [];
    let count = 0;
    const signers = new Set<string>();
    async function verifyAll(): Promise<void> {
      while (!over.signal.aborted) {
        for (const signer of processes) {
          const token = await signer.sign();
          signers.add(signer.keys.getSigner('ES256').kid);
          if (count % 50 === 0) old.push(token);
          for (const verifier of processes) if (!(await verifier.isGood(token))) bad.push(token);
        }
        for (const { isGood } of processes) {
          const token = old[count % old.length] ?? '';
          if (!(await isGood(token))) bad.push(token);
        }
        count += 1;
        await sleep(0);
      }
    }
    // The first token of a process waits for the thread that signs.
    await Promise.all(processes.map((one) => one.sign()));
    const verifying = Promise.all([verifyAll(), verifyAll()]);
    for (let round = 1; round <= 5; round += 1) {
      // Six minutes are enough for it.
      while (processes.some(({ keys }) => kidsOf(keys).length < round + 1)) await sleep(1);
      const [rotation] = await rotateSigningKeys(at(400 * round));
      // The next round begins when both processes sign with the new key.
      while (processes.some(({ keys }) => keys.getSigner('ES256').kid !== rotation?.kid)) await sleep(1);
      await tendSigningKeys(at(400 * round));
    }
    over.abort();
    await verifying;
    await Promise.all(listeners.map((listener) => listener.close()));
    expect(bad).toEqual([]);
    expect(signers.size).toBe(6);
    expect(count).toBeGreaterThan(20);
  });
});

describe('an emergency rotation', () => {
  it('drops every key at once, and all that they have signed; the next key, that lay beside them, as well', async () => {
    const { keys, sign, isGood } = await openProcess();
    await tendSigningKeys(at(0));
    await rotateSigningKeys(at(360));
    await keys.reload();
    const token = await sign();
    const before = kidsOf(keys);
    expect(before).toHaveLength(3);
    const [replacement] = await replaceSigningKeys(at(361));
    expect(replacement?.dropped.toSorted()).toEqual(before.toSorted());
    expect(await isGood(token)).toBe(true);
    await keys.reload();
    expect(await isGood(token)).toBe(false);
    expect(kidsOf(keys)).toEqual([replacement?.kid]);
    for (const kid of before)
      expect(await stateOf(kid)).toMatchObject({ state: 'gone', hasPrivateKey: false });
    expect(await eventsOf('signing_key.replaced')).toEqual([
      { resource: replacement?.kid, data: { algorithm: 'ES256', dropped: replacement?.dropped } },
    ]);
  });

  it('lets nobody sign with a key that was stolen before it', async () => {
    const { keys, isGood, sign } = await openProcess();
    const stolen = await stealPrivateKey(at(0), keys.getSigner('ES256').kid);
    const thief = signWith({
      ...keys,
      getSigner: (algorithm) => ({ ...keys.getSigner(algorithm), privateKey: stolen }),
    });
    const forged = await thief.issueAgentToken(agentId, start);
    expect(await isGood(forged)).toBe(true);
    await replaceSigningKeys(at(1));
    await keys.reload();
    expect(await isGood(forged)).toBe(false);
    expect(await isGood(await sign())).toBe(true);
  });
});

describe('a process that meets an unknown key', () => {
  it('reads the keys once, for all who ask at that moment', async () => {
    const [here, there] = [await openProcess(), await openProcess()];
    await replaceSigningKeys(at(1));
    await there.keys.reload();
    const token = await there.sign();
    expect(await Promise.all(Array.from({ length: 20 }, () => here.isGood(token)))).toEqual(
      Array.from({ length: 20 }, () => true),
    );
  });

  it('looks at most once a second, whatever it is sent', async () => {
    let reads = 0;
    const counting = {
      ...db,
      query: (async (text: string, values?: unknown[]) => {
        if (/FROM signing_keys WHERE state <> 'gone'/.test(text)) reads += 1;
        return db.query(text, values);
      }) as typeof db.query,
    };
    const { keys } = await openProcess(testContext(counting));
    reads = 0;
    for (let index = 0; index < 50; index += 1)
      expect(await keys.findNewKey(`made-up-${index}`)).toBeUndefined();
    expect(reads).toBeLessThanOrEqual(1);
  });

  it('learns of it by notification', async () => {
    const { keys } = await openProcess();
    const told = Promise.withResolvers<void>();
    const connected = Promise.withResolvers<void>();
    let calls = 0;
    const listener = listen(
      db,
      {
        // The first call says that the connection stands.
        [signingKeysChannel]: () => {
          calls += 1;
          (calls === 1 ? connected : told).resolve();
        },
      },
      told.reject,
    );
    try {
      await connected.promise;
      await replaceSigningKeys(at(1));
      await told.promise;
      await keys.reload();
      expect(kidsOf(keys)).toHaveLength(1);
    } finally {
      await listener.close();
    }
  });
});
