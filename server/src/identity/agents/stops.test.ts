import { describe, expect, it, vi } from 'vitest';
import { testContext } from '../../../test/helpers/database.ts';
import { createOrganisation } from '../../accounts/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { addPublicKey, addSecret } from '../credentials/add-credential.ts';
import { rotateSecret } from '../credentials/rotate-secret.ts';
import { findOpenEnvironments } from '../links/agent-links.sql.ts';
import { linkAgent } from '../links/link-agent.ts';
import { statusFor } from './agent.ts';
import { codeOf, newKey, openAgents, self, start } from './agents.fixture.ts';
import { findAgent } from './agents.sql.ts';
import { deactivateAgent, deactivateItself, startAgent, stopAgent } from './change-agent-state.ts';
import { deleteAgent } from './delete-agent.ts';
import { registerAgent } from './register-agent.ts';
import { stopAllAgents } from './stop-all-agents.ts';
import { changeAgent } from './update-agent.ts';

const { db, home, other, at, newAgent, link, works } = await openAgents();

/** The environments that have rows of this topic about the agent, in order. */
const rowsOf = (topic: string) => async (id: AgentId) => {
  const rows = await db.query<{ environmentId: string }>(
    "SELECT environment_id FROM outbox WHERE topic = $2 AND payload->>'agent_id' = $1",
    [id, topic],
  );
  return rows.map(({ environmentId }) => environmentId).toSorted();
};
const toldOf = rowsOf('agent.stopped');
const noticesOf = rowsOf('notice');

/** An agent without a home, that serves both. */
async function register(): Promise<AgentId> {
  const { agent } = await registerAgent(at(start), { name: 'Self', clientInfo: 'test', email: null });
  await link(agent.id, home);
  await link(agent.id, other);
  return agent.id;
}
/** Whether a transaction of this database waits for another one. */
const isAnyWaiting = async () =>
  (
    await db.query(
      'SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0',
    )
  ).length > 0;
const statusOf = async (id: AgentId) => (await findAgent(db, id))?.status;

describe('an environment that an agent is linked to, but not at home in,', () => {
  it('sees, stops and starts it, and gets no hold on its credentials', async () => {
    const { agent, secret } = await newAgent();
    const asOther = at(start, other);
    expect(await codeOf(stopAgent(asOther, other.id, agent.id))).toBe('not_found');
    await link(agent.id, other);
    for (const attempt of [
      () => rotateSecret(asOther, other.id, agent.id, 0),
      () => addSecret(asOther, other.id, agent.id),
      () => addPublicKey(asOther, other.id, agent.id, newKey()),
      () => changeAgent(asOther, other.id, agent.id, { name: 'Mine' }),
      () => deactivateAgent(asOther, other.id, agent.id),
      () => deleteAgent(asOther, other.id, agent.id),
    ])
      expect(await codeOf(attempt())).toBe('forbidden');
    expect(await works(agent.id, secret)).toBe(true);
    expect(statusFor(await stopAgent(asOther, other.id, agent.id))).toBe('suspended');
    expect(statusFor(await startAgent(asOther, other.id, agent.id))).toBe('active');
  });

  it('cannot lift what its owner did', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await deactivateAgent(at(start), home.id, agent.id);
    expect(await codeOf(startAgent(at(start, other), other.id, agent.id))).toBe('forbidden');
    expect((await findAgent(db, agent.id))?.status).toBe('inactive');
  });

  it('stops it for itself, and ends its tokens everywhere; its secret works, and home is told', async () => {
    const { agent, secret } = await newAgent();
    await link(agent.id, other);
    await stopAgent(at(start, other), other.id, agent.id);
    const found = await findAgent(db, agent.id);
    expect(found).toMatchObject({ status: 'active', tokensValidFrom: start });
    expect(await findOpenEnvironments(db, agent.id)).toEqual([home.id]);
    expect(await works(agent.id, secret)).toBe(true);
    expect(await toldOf(agent.id)).toEqual([other.id]);
    expect(await noticesOf(agent.id)).toEqual([home.id]);
  });

  it('alone lifts its stop, whatever home does', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await stopAgent(at(start, other), other.id, agent.id);
    await startAgent(at(start), home.id, agent.id);
    await stopAgent(at(start), home.id, agent.id);
    await startAgent(at(start), home.id, agent.id);
    await deactivateAgent(at(start), home.id, agent.id);
    const lifted = await startAgent(at(start), home.id, agent.id);
    expect(await findOpenEnvironments(db, agent.id)).toEqual([home.id]);
    expect(await toldOf(agent.id)).toEqual([home.id, home.id, other.id].toSorted());
    const { tokensValidFrom } = await startAgent(at(addSeconds(start, 9), other), other.id, agent.id);
    expect(tokensValidFrom, 'what others gave it meanwhile stays').toEqual(lifted.tokensValidFrom);
    expect(await findOpenEnvironments(db, agent.id)).toHaveLength(2);
  });

  it('lifts its own stop of what home has stopped too, and not more', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await stopAgent(at(start, other), other.id, agent.id);
    await stopAgent(at(start), home.id, agent.id);
    const seen = await startAgent(at(start, other), other.id, agent.id);
    expect(seen).toMatchObject({ stoppedAt: null, status: 'suspended' });
    expect(await codeOf(startAgent(at(start, other), other.id, agent.id))).toBe('forbidden');
  });

  it('stops once, and writes that down once, where it is asked twice at the same time', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await Promise.all([1, 2, 3].map(() => stopAgent(at(start, other), other.id, agent.id)));
    const events = await db.query(
      "SELECT 1 FROM audit_events WHERE resource = $1 AND action = 'agent.stopped'",
      [agent.id],
    );
    expect(events).toHaveLength(1);
    expect(await toldOf(agent.id)).toEqual([other.id]);
  });
});

describe('an agent without a home', () => {
  it.each<[string, (by: typeof home, id: AgentId) => Promise<unknown>]>([
    ['a stop', (by, id) => stopAgent(at(start, by), by.id, id)],
    ['a stop of all', (by) => stopAllAgents(at(start, by), by.id)],
  ])('runs as long as somebody has not stopped it: %s', async (_what, stop) => {
    const id = await register();
    await stop(home, id);
    expect(await statusOf(id)).toBe('active');
    expect(await findOpenEnvironments(db, id)).toEqual([other.id]);
    await stop(other, id);
    expect(await statusOf(id)).toBe('suspended');
    expect(await toldOf(id)).toEqual([home.id, other.id].toSorted());
    await startAgent(at(start), home.id, id);
    expect(await statusOf(id)).toBe('active');
    expect(await findOpenEnvironments(db, id), 'the stop of the other stands').toEqual([home.id]);
  });

  it('and stopped by all is not started by a new link, but by who is linked', async () => {
    const id = await register();
    await stopAgent(at(start), home.id, id);
    await stopAgent(at(start, other), other.id, id);
    const third = await createOrganisation(testContext(db), 'Third');
    await link(id, third);
    expect(await statusOf(id)).toBe('suspended');
    await startAgent(at(start, third), third.id, id);
    expect(await statusOf(id)).toBe('active');
    expect(await findOpenEnvironments(db, id)).toEqual([third.id]);
  });

  it('is stopped for everybody where the two who are linked stop it at once', async () => {
    const id = await register();
    await Promise.all([stopAgent(at(start), home.id, id), stopAllAgents(at(start, other), other.id)]);
    expect(await statusOf(id)).toBe('suspended');
  });
});

describe('that an agent was stopped', () => {
  const both = [home.id, other.id].toSorted();

  it.each<[string, (id: AgentId) => Promise<unknown>]>([
    ['stop', (id) => stopAgent(at(start), home.id, id)],
    ['stop of all', () => stopAllAgents(at(start), home.id)],
    ['deletion', (id) => deleteAgent(at(start), home.id, id)],
    ['deactivation', (id) => deactivateAgent(at(start), home.id, id)],
    ['own deactivation', (id) => deactivateItself(at(start), self(id))],
  ])('every environment that it was linked to is told, once: %s', async (_name, end) => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await end(agent.id);
    expect(await toldOf(agent.id)).toEqual(both);
  });

  it('nobody is told again when what was deactivated is stopped or deleted', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await deactivateAgent(at(start), home.id, agent.id);
    await stopAgent(at(start), home.id, agent.id);
    await stopAllAgents(at(start, other), other.id);
    await deleteAgent(at(start), home.id, agent.id);
    expect(await toldOf(agent.id)).toEqual(both);
  });

  it('nobody is told again when the others stop it too, or when it is deleted', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await stopAgent(at(start), home.id, agent.id);
    await stopAgent(at(start, other), other.id, agent.id);
    await stopAllAgents(at(start, other), other.id);
    await deleteAgent(at(start), home.id, agent.id);
    expect(await toldOf(agent.id)).toEqual(both);
  });

  it('everybody is told again where it was started in between', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await stopAgent(at(start), home.id, agent.id);
    await startAgent(at(start), home.id, agent.id);
    await stopAllAgents(at(start), home.id);
    expect(await toldOf(agent.id)).toEqual([...both, ...both].toSorted());
  });

  it('who is linking it at that moment is told as well: the stop waits for the link', async () => {
    const { agent } = await newAgent();
    let stopping: Promise<unknown> | undefined;
    await db.transaction(async (sql) => {
      await linkAgent(sql, { environmentId: other.id, agentId: agent.id, linkedBy: 'test', now: start });
      stopping = stopAgent(at(start), home.id, agent.id);
      await vi.waitUntil(isAnyWaiting);
    });
    await stopping;
    expect(await toldOf(agent.id)).toEqual(both);
  });
});

it.each<[string, (id: AgentId) => Promise<unknown>]>([
  ['a stop', (id) => stopAgent(at(start), home.id, id)],
  ['a stop of all', () => stopAllAgents(at(start), home.id)],
  ['a deactivation', (id) => deactivateAgent(at(start), home.id, id)],
  ['a deactivation by itself', (id) => deactivateItself(at(start), self(id))],
  ['a deletion', (id) => deleteAgent(at(start), home.id, id)],
])(
  '%s waits for no row that is written about the agent, such as a mandate that it asks for',
  async (_name, end) => {
    const { agent } = await newAgent();
    let ending: Promise<unknown> | undefined;
    await db.transaction(async (sql) => {
      // As a foreign key does.
      await sql.query('SELECT 1 FROM agents WHERE id = $1 FOR KEY SHARE', [agent.id]);
      let isOver = false;
      ending = end(agent.id).finally(() => (isOver = true));
      await vi.waitUntil(async () => isOver || (await isAnyWaiting()), 10_000);
      expect(isOver).toBe(true);
    });
    await ending;
    expect(await statusOf(agent.id)).not.toBe('active');
  },
);

it('nobody links an agent that was deleted while they looked at it', async () => {
  const { agent } = await newAgent();
  await deleteAgent(at(start), home.id, agent.id);
  const row = { environmentId: other.id, agentId: agent.id, linkedBy: 'test', now: start };
  expect(await codeOf(db.transaction((sql) => linkAgent(sql, row)))).toBe('not_found');
  expect(await findOpenEnvironments(db, agent.id)).toEqual([]);
});
