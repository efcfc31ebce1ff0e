import type { ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { openTestDatabase, type TestDatabase } from '../helpers/database.ts';
import { openChain, sendPaid } from '../helpers/payer.ts';
import { openScenes } from '../helpers/scenes.ts';
import { price } from '../helpers/seller.ts';

/** Has the database refuse to write down that a stream has begun, so often. */
const refuseTwice = [
  'CREATE SEQUENCE refusals',
  `CREATE FUNCTION refuse_begun() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
     IF nextval('refusals') <= 2 THEN RAISE 'not now'; END IF;
     RETURN NEW;
   END $$`,
  `CREATE TRIGGER refuse_begun BEFORE UPDATE ON payments FOR EACH ROW
     WHEN (OLD.delivery = 'running' AND NEW.delivery = 'done') EXECUTE FUNCTION refuse_begun()`,
];

const stream = (response: ServerResponse) =>
  response.writeHead(200, { 'content-type': 'text/event-stream' }).end('data: 1\n\n');

describe('a stream that has begun to reach its client', { timeout: 60_000 }, () => {
  let database: TestDatabase;
  const env: Record<string, string> = {};
  beforeAll(async () => {
    database = await openTestDatabase();
    env['DATABASE_URL'] = database.url;
  });
  const scenes = openScenes(env);

  async function rowOf(payTo: string): Promise<{ state: string; delivery: string | null } | undefined> {
    const query = 'SELECT state, delivery FROM payments WHERE pay_to = $1 AND refund_of IS NULL';
    const [row] = await database.db.query<{ state: string; delivery: string | null }>(query, [payTo]);
    return row;
  }

  it('is written down as delivered, though the database refuses that at first', async () => {
    const { sold, url, payment, upstream } = await scenes.set('refused', (_, response) => stream(response));
    for (const statement of refuseTwice) await database.db.query(statement);
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: 1\n\n' });
    const done = { state: 'settled', delivery: 'done' };
    await expect.poll(() => rowOf(sold.payTo), { timeout: 20_000 }).toEqual(done);
    expect((await sendPaid(url, payment)).json().code).toBe('response_not_replayable');
    expect(upstream.requests).toHaveLength(1);
  });

  it('is delivered, though the chain has forgotten its settlement meanwhile, and isn’t given back', async () => {
    const { client } = openChain(scenes.instance);
    const { sold, url, payment, spent } = await scenes.set(
      'forgotten',
      (_, response) => {
        void (async () => {
          await scenes.setMining(false);
          await client.request({ method: 'anvil_reorg', params: [1, []] } as never);
          await expect
            .poll(() => rowOf(sold.payTo), { timeout: 20_000 })
            .toEqual({ state: 'settling', delivery: 'running' });
          stream(response);
        })();
      },
      { settlement: 'upfront', hosted: true },
    );
    expect(await sendPaid(url, payment)).toMatchObject({ status: 200, text: 'data: 1\n\n' });
    const begun = { state: 'settling', delivery: 'done' };
    await expect.poll(() => rowOf(sold.payTo), { timeout: 20_000 }).toEqual(begun);
    await scenes.setMining(true);
    await expect.poll(() => rowOf(sold.payTo), { timeout: 20_000 }).toMatchObject({ state: 'settled' });
    expect(await spent()).toBe(price);
  });
});
