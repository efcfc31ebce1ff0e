import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, testBox, testContext } from '../../test/helpers/database.ts';
import { sha256 } from '../kernel/crypto.ts';
import { newId } from '../kernel/ids.ts';
import type { Database, Sql } from './database.ts';
import type { Actor } from './evidence-rows.ts';
import { sweepIdempotencyKeys, write, type WriteContext } from './write.ts';

let db: Database;
beforeAll(async () => {
  ({ db } = await openTestDatabase());
  await db.query('CREATE TABLE things (id text PRIMARY KEY, value int NOT NULL DEFAULT 0)');
});

const alice: Actor = { kind: 'api_key', id: 'alice' };

/** What a request with this Idempotency-Key and body would write with. */
function keyed(key: string, body: string, actor = alice): WriteContext {
  const idempotency = { key, operation: 'thing.create', fingerprint: sha256(body) };
  return testContext(db, { actor, scope: 'env_1' as WriteContext['scope'], idempotency });
}

async function count(table: string, column: string, value: string): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM ${table} WHERE ${column} = $1`,
    [value],
  );
  return row?.n ?? -1;
}

/** A change that writes a row, an audit event and an outbox row, all of this name. */
async function createThing(context: WriteContext, name: string, payload: object = {}): Promise<string> {
  return write(context, async (sql) => {
    await sql.query('INSERT INTO things (id) VALUES ($1)', [name]);
    return {
      result: name,
      audit: { action: 'thing.created', resource: name },
      outbox: [{ topic: name, scope: context.scope, payload: payload as never }],
    };
  });
}

async function rowsOf(name: string): Promise<{ things: number; audit: number; outbox: number }> {
  return {
    things: await count('things', 'id', name),
    audit: await count('audit_events', 'resource', name),
    outbox: await count('outbox', 'topic', name),
  };
}

describe('write', () => {
  it('commits change, audit event and outbox row together', async () => {
    await createThing(testContext(db), 'together');
    expect(await rowsOf('together')).toEqual({ things: 1, audit: 1, outbox: 1 });
  });

  it('commits none of them when the last one fails', async () => {
    // PostgreSQL's jsonb has no U+0000, so that the outbox row is refused after all the others were written.
    await expect(createThing(testContext(db), 'apart', { text: '\0' })).rejects.toThrow(
      'unsupported Unicode',
    );
    expect(await rowsOf('apart')).toEqual({ things: 0, audit: 0, outbox: 0 });
  });

  it('names who, where and in which request in the audit event', async () => {
    const scope = newId('environment');
    const by = { actor: alice, scope, requestId: 'req_1', clientAddress: '127.0.0.1' };
    await createThing(testContext(db, by), 'signed');
    const [event] = await db.query("SELECT * FROM audit_events WHERE resource = 'signed'");
    expect(event).toMatchObject({
      environmentId: scope,
      action: 'thing.created',
      actorKind: 'api_key',
      actorId: 'alice',
      requestId: 'req_1',
      clientAddress: '127.0.0.1',
    });
  });

  it('retries a change that PostgreSQL gave up in a deadlock', async () => {
    await db.query("INSERT INTO things (id) VALUES ('left'), ('right')");
    const bothHoldOne = Promise.withResolvers<void>();
    let holding = 0;
    let runs = 0;
    const addInOrder = (first: string, second: string) =>
      write(testContext(db), async (sql) => {
        runs += 1;
        await increment(sql, first);
        holding += 1;
        if (holding === 2) bothHoldOne.resolve();
        await bothHoldOne.promise;
        await increment(sql, second);
        return { result: undefined, audit: null };
      });
    await Promise.all([addInOrder('left', 'right'), addInOrder('right', 'left')]);

    expect(runs, 'one of the two ran again').toBe(3);
    const rows = await db.query("SELECT id, value FROM things WHERE id IN ('left', 'right') ORDER BY id");
    expect(rows).toEqual([
      { id: 'left', value: 2 },
      { id: 'right', value: 2 },
    ]);
  });

  it('does not retry any other failure', async () => {
    let runs = 0;
    const failing = write(testContext(db), async (sql) => {
      runs += 1;
      await sql.query('SELECT 1 / 0');
      return { result: undefined, audit: null };
    });
    await expect(failing).rejects.toThrow('division by zero');
    expect(runs).toBe(1);
  });
});

describe('an Idempotency-Key', () => {
  it('gives the same result for the same request, bigints and dates included, and changes nothing', async () => {
    const key = randomUUID();
    const result = { amount: 2n ** 70n, at: new Date('2026-01-02T03:04:05.678Z'), list: [1, null, 'text'] };
    const first = await write(keyed(key, 'body'), async () => ({ result, audit: null }));
    const again = await write<typeof result>(keyed(key, 'body'), async () => {
      throw new Error('the change ran again');
    });
    expect(first).toEqual(result);
    expect(again).toEqual(result);
  });

  it('runs the change once for ten callers at once, and all get its result', async () => {
    const key = randomUUID();
    let runs = 0;
    const callers = Array.from({ length: 10 }, () =>
      write(keyed(key, 'body'), async (sql) => {
        runs += 1;
        await sql.query('INSERT INTO things (id) VALUES ($1)', [key]);
        await sleep(50);
        return { result: `made by run ${runs}`, audit: { action: 'thing.created', resource: key } };
      }),
    );
    expect(await Promise.all(callers)).toEqual(Array.from({ length: 10 }, () => 'made by run 1'));
    expect(runs).toBe(1);
    expect(await rowsOf(key)).toMatchObject({ things: 1, audit: 1 });
  });

  it.each([
    { of: 'another body', other: (key: string) => keyed(key, 'other body') },
    {
      of: 'another operation',
      other(key: string) {
        const context = keyed(key, 'body');
        return {
          ...context,
          idempotency: { ...context.idempotency, operation: 'thing.delete' },
        } as WriteContext;
      },
    },
  ])('is refused as idempotency_key_reused with $of', async ({ other }) => {
    const key = randomUUID();
    await createThing(keyed(key, 'body'), key);
    await expect(createThing(other(key), `${key} again`)).rejects.toMatchObject({
      code: 'idempotency_key_reused',
    });
    expect(await rowsOf(`${key} again`)).toEqual({ things: 0, audit: 0, outbox: 0 });
  });

  it('is each actor’s own, and each environment’s own', async () => {
    const key = randomUUID();
    const bob: Actor = { kind: 'api_key', id: 'bob' };
    const elsewhere = { ...keyed(key, 'body'), scope: 'env_2' as WriteContext['scope'] };
    const results = [
      await createThing(keyed(key, 'body'), `${key} alice`),
      await createThing(keyed(key, 'another', bob), `${key} bob`),
      await createThing(elsewhere, `${key} elsewhere`),
    ];
    expect(results).toEqual([`${key} alice`, `${key} bob`, `${key} elsewhere`]);
  });

  it('is free again after a failure', async () => {
    const key = randomUUID();
    const failing = write(keyed(key, 'body'), () => Promise.reject(new Error('no luck')));
    await expect(failing).rejects.toThrow('no luck');
    expect(await count('idempotency_keys', 'key', key)).toBe(0);
    expect(await createThing(keyed(key, 'a better body'), key)).toBe(key);
  });

  it('answers with a secret for ten minutes, and without it after that; then the row has it no more', async () => {
    const key = randomUUID();
    const at = (seconds: number) => {
      const context = keyed(key, 'body');
      return { ...context, clock: { now: () => new Date(1_800_000_000_000 + seconds * 1000) } };
    };
    const ask = (seconds: number) =>
      write<{ secret: string | null }>(at(seconds), async () => ({
        result: { secret: 'the secret' },
        laterResult: { secret: null },
        audit: null,
      }));
    expect(await ask(0)).toEqual({ secret: 'the secret' });
    expect(await ask(599)).toEqual({ secret: 'the secret' });
    expect(await ask(600)).toEqual({ secret: null });
    const resultOf = async () => {
      const [row] = await db.query<{ result: Buffer }>('SELECT result FROM idempotency_keys WHERE key = $1', [
        key,
      ]);
      return testBox.open(row?.result ?? Buffer.alloc(0), `idempotency_keys/env_1/alice/${key}`).toString();
    };
    await sweepIdempotencyKeys(at(599));
    expect(await resultOf()).toContain('the secret');
    await sweepIdempotencyKeys(at(600));
    expect(await resultOf()).not.toContain('the secret');
    expect(await ask(601)).toEqual({ secret: null });
  });

  it('keeps its result encrypted, and bound to its row', async () => {
    const [key, other] = [randomUUID(), randomUUID()];
    await createThing(keyed(key, 'body'), 'a-secret-payment');
    const [row] = await db.query<{ result: Buffer }>('SELECT result FROM idempotency_keys WHERE key = $1', [
      key,
    ]);
    expect(row?.result.toString('latin1')).not.toContain('a-secret-payment');

    await createThing(keyed(other, 'body'), 'another-payment');
    await db.query('UPDATE idempotency_keys SET result = $1 WHERE key = $2', [row?.result, other]);
    await expect(createThing(keyed(other, 'body'), 'a third')).rejects.toThrow('authenticate data');
  });
});

async function increment(sql: Sql, id: string): Promise<void> {
  await sql.query('UPDATE things SET value = value + 1 WHERE id = $1', [id]);
}
