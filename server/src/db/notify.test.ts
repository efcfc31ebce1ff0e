import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { openTestDatabase, testContext } from '../../test/helpers/database.ts';
import type { Database } from './database.ts';
import { listen, type Listener } from './notify.ts';
import { write } from './write.ts';

let db: Database;
beforeAll(async () => {
  ({ db } = await openTestDatabase());
});

const listeners: Listener[] = [];
afterEach(async () => {
  for (const listener of listeners.splice(0)) await listener.close();
});

/** Listens, and waits for the call with the empty payload that says that it does. */
async function startListening() {
  const heard = { outbox: [] as string[], other_channel: [] as string[] };
  const onError = vi.fn<(error: Error) => void>();
  const listener = listen(
    db,
    {
      outbox: (payload) => heard.outbox.push(payload),
      other_channel: (payload) => heard.other_channel.push(payload),
    },
    onError,
  );
  listeners.push(listener);
  await expect.poll(() => heard).toEqual({ outbox: [''], other_channel: [''] });
  return { heard, onError, listener };
}

/** Ends every connection that listens, as a database that restarts does. */
async function cutListeners(): Promise<number> {
  const rows = await db.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE datname = current_database() AND query LIKE 'LISTEN %'`,
  );
  return rows.length;
}

describe('listen', () => {
  it('calls back for a notification, on its channel and with its payload', async () => {
    const { heard } = await startListening();
    await db.query("SELECT pg_notify('other_channel', 'hello')");
    await expect.poll(() => heard.other_channel).toEqual(['', 'hello']);
    expect(heard.outbox).toEqual(['']);
  });

  it('hears of an outbox row when it is committed, and never of one that is rolled back', async () => {
    const { heard } = await startListening();
    const rolledBack = write(testContext(db), async (sql) => {
      await sql.query("SELECT pg_notify('outbox', 'lost')");
      throw new Error('rolled back');
    });
    await expect(rolledBack).rejects.toThrow('rolled back');
    const outbox = [{ topic: 'kept', scope: 'instance' as const, payload: {} }];
    await write(testContext(db), async () => ({ result: undefined, audit: null, outbox }));
    await expect.poll(() => heard.outbox).toEqual(['', 'kept']);
  });

  it('connects again after its connection was killed, calls each channel once, and hears what comes then', async () => {
    const { heard, onError } = await startListening();
    expect(await cutListeners()).toBe(1);
    await expect.poll(() => heard, { timeout: 5_000 }).toEqual({ outbox: ['', ''], other_channel: ['', ''] });
    expect(onError).toHaveBeenCalled();

    await db.query("SELECT pg_notify('outbox', 'again')");
    await expect.poll(() => heard.outbox).toEqual(['', '', 'again']);
  });

  it('stays away once it is closed', async () => {
    const { heard, listener } = await startListening();
    await listener.close();
    expect(await cutListeners()).toBe(0);
    await db.query("SELECT pg_notify('outbox', 'unheard')");
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(heard.outbox).toEqual(['']);
  });
});
