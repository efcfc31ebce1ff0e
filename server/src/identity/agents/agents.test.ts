import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { listen } from '../../db/index.ts';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { addPublicKey, addSecret } from '../credentials/add-credential.ts';
import { rotateOwnSecret, rotateSecret } from '../credentials/rotate-secret.ts';
import { acceptsTokenOf, isFamilyBeforeEpoch } from './agent.ts';
import { codeOf, newKey, openAgents, self, start } from './agents.fixture.ts';
import { agentChangedChannel, findAgent, findAgentByClientId } from './agents.sql.ts';
import { findOpenEnvironments } from '../links/agent-links.sql.ts';
import { deactivateAgent, deactivateItself, startAgent, stopAgent } from './change-agent-state.ts';
import { deleteAgent } from './delete-agent.ts';
import { stopAllAgents } from './stop-all-agents.ts';
import { changeAgent } from './update-agent.ts';

const { db, home, other, at, newAgent, link, works } = await openAgents();

describe('every change of an agent', () => {
  const heard: string[] = [];
  let listener: ReturnType<typeof listen>;
  beforeAll(async () => {
    listener = listen(db, { [agentChangedChannel]: (payload) => heard.push(payload) }, () => undefined);
    await vi.waitUntil(() => heard.includes(''));
  });
  afterAll(() => listener.close());

  it.each<[string, (id: AgentId) => Promise<unknown>]>([
    ['stop', (id) => stopAgent(at(start), home.id, id)],
    ['deactivation', (id) => deactivateAgent(at(start), home.id, id)],
    ['own deactivation', (id) => deactivateItself(at(start), self(id))],
    ['update', (id) => changeAgent(at(start), home.id, id, { expiresAt: start })],
    ['rotation', (id) => rotateSecret(at(start), home.id, id, 0)],
    ['own rotation', (id) => rotateOwnSecret(at(start), self(id), 0)],
    ['deletion', (id) => deleteAgent(at(start), home.id, id)],
  ])('is told to every process: %s', async (_name, change) => {
    const { agent } = await newAgent();
    await change(agent.id);
    await expect.poll(() => heard).toContain(agent.id);
    const events = await db.query('SELECT action FROM audit_events WHERE resource = $1', [agent.id]);
    expect(events).toHaveLength(2);
  });

  it('is told once, and written down once, where it is made twice', async () => {
    const { agent } = await newAgent();
    for (let time = 0; time < 2; time += 1) await stopAgent(at(start), home.id, agent.id);
    const events = await db.query(
      "SELECT 1 FROM audit_events WHERE resource = $1 AND action = 'agent.stopped'",
      [agent.id],
    );
    expect(events).toHaveLength(1);
  });
});

describe('a change that waited for another, which began after it,', () => {
  it.each<[string, (id: AgentId) => Promise<unknown>]>([
    ['stop', (id) => stopAgent(at(start), home.id, id)],
    ['stop of all', () => stopAllAgents(at(start), home.id)],
    ['rotation', (id) => rotateSecret(at(start), home.id, id, 0)],
    ['new secret', (id) => addSecret(at(start), home.id, id)],
    ['new key', (id) => addPublicKey(at(start), home.id, id, newKey())],
    ['deletion', (id) => deleteAgent(at(start), home.id, id)],
  ])('is the later version: nobody who knows the other ignores this %s', async (_name, change) => {
    const { agent } = await newAgent();
    const later = await changeAgent(at(addSeconds(start, 1)), home.id, agent.id, { name: 'B' });
    await change(agent.id);
    const [row] = await db.query<{ updatedAt: Date }>('SELECT updated_at FROM agents WHERE id = $1', [
      agent.id,
    ]);
    expect(row?.updatedAt.getTime()).toBeGreaterThan(later.updatedAt.getTime());
  });
});

describe('an agent that is started again', () => {
  it('gets nothing back that was granted while it was being stopped', async () => {
    const { agent } = await newAgent();
    await stopAgent(at(start), home.id, agent.id);
    // The grant was dated before the stop's commit, and after the moment that the stop is dated with.
    const grantedAt = addSeconds(start, 2);
    const started = await startAgent(at(addSeconds(start, 5)), home.id, agent.id);
    expect(isFamilyBeforeEpoch(started, grantedAt)).toBe(true);
    expect(acceptsTokenOf(started, unixSeconds(grantedAt), addSeconds(start, 6))).toBe(false);
  });
});

describe('stopping all agents of an environment', () => {
  it('stops those that it is linked to and no others, tells of each, and raises their epoch', async () => {
    const [one, two] = [await newAgent(other), await newAgent(home)];
    const three = await newAgent(home);
    await link(two.agent.id, other);
    expect(await stopAllAgents(at(start, other), other.id)).toBeGreaterThanOrEqual(2);
    expect(await stopAllAgents(at(start, other), other.id)).toBe(0);
    const found = await Promise.all([one, two, three].map(({ agent }) => findAgent(db, agent.id)));
    expect(found.map((agent) => agent?.status)).toEqual(['suspended', 'active', 'active']);
    expect(await findOpenEnvironments(db, two.agent.id)).toEqual([home.id]);
    expect(found.map((agent) => agent?.tokensValidFrom)).toEqual([start, start, null]);
  });
});

describe('a deleted agent', () => {
  it('is found by nothing, and its secret opens nothing', async () => {
    const { agent, secret } = await newAgent();
    await deleteAgent(at(start), home.id, agent.id);
    expect(await findAgent(db, agent.id)).toBeUndefined();
    expect(await findAgentByClientId(db, agent.clientId)).toBeUndefined();
    expect(await works(agent.id, secret)).toBe(false);
    expect(await codeOf(startAgent(at(start), home.id, agent.id))).toBe('not_found');
  });
});
