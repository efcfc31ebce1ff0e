import { beforeEach, describe, expect, it } from 'vitest';
import { openAgents, start } from '../agents/agents.fixture.ts';
import { registerAgent } from '../agents/register-agent.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { createGuessGuard } from './guess-guard.ts';
import { hasEvent, lastWithEvent, sweepRefusals } from './refusals.ts';

const { db, home, other, at, newAgent, link } = await openAgents();
const guard = createGuessGuard({ db, clock: { now: () => start } });
/** Of another process. */
const otherGuard = createGuessGuard({ db, clock: { now: () => start } });
let callers = 0;
beforeEach(async () => {
  callers = 0;
  await db.query('TRUNCATE failed_attempts, counted_refusals, audit_events');
});

/** Refuses one who says to be this client, each time from an address of its own. */
function refuse(clientName: string, times = 1, by = guard): Promise<unknown> {
  const actor = { kind: 'anonymous', id: 'anonymous' } as const;
  return Promise.all(
    Array.from({ length: times }, () => {
      const index = (callers += 1);
      const clientAddress = `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`;
      return by.failed({ address: clientAddress, clientId: clientName }, start, {
        origin: { actor, requestId: 'req_1', clientAddress },
        action: 'agent.token_refused',
        clientName,
        method: 'client_secret_basic',
      });
    }),
  );
}

const register = async () =>
  (await registerAgent(at(start), { name: 'Itself', clientInfo: 'test', email: null })).agent;

const eventsOf = (resource: string) =>
  db.query<{ environmentId: string; clientAddress: string | null; data: { refusals: number } }>(
    `SELECT environment_id, client_address, data FROM audit_events
     WHERE resource = $1 AND action = 'agent.token_refused' ORDER BY id`,
    [resource],
  );

describe('a refusal', () => {
  it.each(['id', 'clientId'] as const)(
    'is in the log of the agent’s home, by whichever name (%s)',
    async (name) => {
      const { agent } = await newAgent();
      await link(agent.id, other);
      await refuse(agent[name]);
      expect(await eventsOf(agent.id)).toEqual([
        {
          environmentId: home.id,
          clientAddress: '10.0.0.1',
          data: { method: 'client_secret_basic', refusals: 1 },
        },
      ]);
    },
  );

  it('of an agent without a home is in the log of who linked it first, and of the instance where nobody has', async () => {
    const [linked, alone] = [await register(), await register()];
    await link(linked.id, other);
    await refuse(linked.id);
    await refuse(alone.id);
    expect(await eventsOf(linked.id)).toMatchObject([{ environmentId: other.id }]);
    expect(await eventsOf(alone.id)).toMatchObject([{ environmentId: 'instance' }]);
  });

  it('of nobody is in the log of the instance, without what was sent unless that is a name', async () => {
    const name = newId('client');
    await refuse(name);
    await refuse('cs_a-misplaced-secret\0');
    expect(await eventsOf(name)).toMatchObject([{ environmentId: 'instance' }]);
    expect(await eventsOf('unknown')).toMatchObject([{ environmentId: 'instance' }]);
    expect(await db.query('SELECT 1 FROM audit_events')).toHaveLength(2);
  });
});

describe('a flood of refusals', () => {
  it('is counted whole in few events of the owner, from however many addresses it comes', async () => {
    const { agent } = await newAgent();
    await Promise.all([refuse(agent.clientId, 1_500), refuse(agent.id, 1_500, otherGuard)]);
    expect((await eventsOf(agent.id)).length).toBeLessThan(limits.refusalsWithEvent + 12);
    const context = at(addSeconds(start, limits.guessMemorySeconds));
    await Promise.all([sweepRefusals(context), sweepRefusals(context)]);
    const events = await eventsOf(agent.id);
    expect(events.length).toBeLessThan(limits.refusalsWithEvent + 12);
    expect(new Set(events.map(({ environmentId }) => environmentId))).toEqual(new Set([home.id]));
    expect(events.map(({ data }) => data.refusals).reduce((sum, count) => sum + count)).toBe(3_000);
    expect(await db.query('SELECT 1 FROM failed_attempts')).toEqual([]);
  });

  it('of unknown names fills the log of the instance no more', async () => {
    await Promise.all(Array.from({ length: 300 }, () => refuse(newId('client'))));
    const events = await db.query('SELECT 1 FROM audit_events');
    expect(events.length).toBeLessThan(limits.refusalsWithEvent + 6);
  });

  it('is swept not before its quarter of an hour is over', async () => {
    const { agent } = await newAgent();
    await refuse(agent.id, 25);
    await sweepRefusals(at(addSeconds(start, limits.guessMemorySeconds - 1)));
    expect(await eventsOf(agent.id)).toHaveLength(20);
    await sweepRefusals(at(addSeconds(start, limits.guessMemorySeconds)));
    expect((await eventsOf(agent.id)).at(-1)).toMatchObject({ clientAddress: null, data: { refusals: 5 } });
  });
});

it.each([
  [1, true, 1],
  [20, true, 20],
  [21, false, 20],
  [31, false, 20],
  [32, true, 32],
  [33, false, 32],
  [1_048_575, false, 524_288],
  [1_048_576, true, 1_048_576],
])('the refusal of number %i has an event: %s; the last one up to it that has is %i', (number, has, last) => {
  expect([hasEvent(number), lastWithEvent(number)]).toEqual([has, last]);
});
