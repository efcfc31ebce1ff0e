import { describe, expect, it } from 'vitest';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { openRevocations } from '../oauth/revocations.ts';
import { openAgents, start } from './agents.fixture.ts';
import { findAgent } from './agents.sql.ts';
import { sweepIdleAgents, sweepUsage } from './delete-idle-agents.ts';
import { registerAgent } from './register-agent.ts';
import { createAgentUsage } from './usage.ts';
import { findUsage, findUsageDays } from './usage.sql.ts';

const { db, home, at, newAgent, link } = await openAgents();

/** An agent that registered itself at the start. */
const register = () =>
  registerAgent(at(start), { name: 'Self', clientInfo: 'test', email: null }).then(({ agent }) => agent.id);

describe('usage', () => {
  it('is counted without a write, and written in one batch, by several processes at once', async () => {
    const ids = (await Promise.all([newAgent(), newAgent()])).map(({ agent }) => agent.id);
    const counters = [1, 2, 3, 4].map(() => createAgentUsage({ db, clock: { now: () => start } }));
    for (const counter of counters) {
      for (const id of [...ids, ...ids.toReversed()]) counter.count(id, 'request');
      counter.count(ids[0] as AgentId, 'refresh');
    }
    expect((await findUsage(db, ids[0] as AgentId)).requests).toBe(0n);
    await Promise.all(counters.map((counter) => counter.flush()));
    await Promise.all(counters.map((counter) => counter.flush()));
    expect(await findUsage(db, ids[0] as AgentId)).toEqual({
      tokens: 0n,
      refreshes: 4n,
      requests: 8n,
      lastTokenAt: start,
      lastActiveAt: start,
    });
    expect(await findUsage(db, ids[1] as AgentId)).toMatchObject({ requests: 8n, lastTokenAt: null });
  });

  it('is kept by day (UTC), and the last activity never goes back', async () => {
    const { agent } = await newAgent();
    for (const time of ['2026-11-23T00:00:01Z', '2026-11-22T23:59:59Z']) {
      const counter = createAgentUsage({ db, clock: { now: () => new Date(time) } });
      counter.count(agent.id, 'token');
      await counter.flush();
    }
    expect((await findUsage(db, agent.id)).lastActiveAt).toEqual(new Date('2026-11-23T00:00:01Z'));
    expect((await findUsageDays(db, agent.id, 9)).map(({ day, tokens }) => [day, tokens])).toEqual([
      ['2026-11-23', 1n],
      ['2026-11-22', 1n],
    ]);
  });

  it('by day is kept for a year and a month, and the totals for good', async () => {
    const { agent } = await newAgent();
    const { requests } = await findUsage(db, agent.id);
    const counter = createAgentUsage({ db, clock: { now: () => start } });
    counter.count(agent.id, 'request');
    await counter.flush();
    const daysAt = async (days: number) => {
      await sweepUsage(at(addSeconds(start, days * 86_400)));
      return findUsageDays(db, agent.id, 9);
    };
    expect(await daysAt(limits.usageDaysKept)).toHaveLength(1);
    expect(await daysAt(limits.usageDaysKept + 1)).toHaveLength(0);
    expect((await findUsage(db, agent.id)).requests).toBe(requests + 1n);
  });

  it('that fails to be written is written with the next batch, an agent deleted meanwhile left out', async () => {
    const { agent } = await newAgent();
    const counter = createAgentUsage({ db, clock: { now: () => start } });
    counter.count(agent.id, 'request');
    counter.count('00000000-0000-7000-8000-000000000000' as AgentId, 'request');
    await db.query('ALTER TABLE agent_usage RENAME TO agent_usage_away');
    await expect(counter.flush()).rejects.toThrow('agent_usage');
    await db.query('ALTER TABLE agent_usage_away RENAME TO agent_usage');
    counter.count(agent.id, 'request');
    await counter.flush();
    expect((await findUsage(db, agent.id)).requests).toBe(2n);
  });
});

describe('an idle agent', () => {
  const monthLater = addSeconds(start, limits.idleAgentSeconds + 1);
  it('is deleted after thirty days, if it registered itself and nobody linked it; with an event', async () => {
    const [idle, linked, busy] = [await register(), await register(), await register()];
    const owned = (await newAgent()).agent.id;
    await link(linked, home);
    await db.query('DELETE FROM agent_links WHERE agent_id = $1', [owned]);
    const usage = createAgentUsage({ db, clock: { now: () => addSeconds(start, 60) } });
    usage.count(busy, 'request');
    await usage.flush();
    await sweepIdleAgents(at(addSeconds(monthLater, -2)));
    expect(await findAgent(db, idle), 'a second too early').toBeDefined();

    expect(await sweepIdleAgents(at(monthLater))).toBe(1);
    const found = await Promise.all([idle, linked, busy, owned].map((id) => findAgent(db, id)));
    expect(found.map((agent) => agent !== undefined)).toEqual([false, true, true, true]);
    const events = await db.query(
      "SELECT data FROM audit_events WHERE resource = $1 AND action = 'agent.deleted'",
      [idle],
    );
    expect(events).toEqual([{ data: { reason: 'idle' } }]);
  });

  it('is deleted once, whichever of two workers comes first, in batches', async () => {
    for (let index = 0; index < 7; index += 1) await register();
    const before = addSeconds(monthLater, 120);
    const counts = await Promise.all([sweepIdleAgents(at(before)), sweepIdleAgents(at(before))]);
    // And the one that was busy a minute after the start.
    expect((counts[0] ?? 0) + (counts[1] ?? 0)).toBe(8);
  });

  it('leaves no token behind: every process hears of its end, and its row stays for as long', async () => {
    const id = await register();
    const ended = addSeconds(monthLater, 60);
    const clock = { now: () => ended };
    const revocations = await openRevocations({ db, clock, onError: () => undefined });
    try {
      // Given a moment ago, by a process that hasn't written its counts yet.
      const token = { agentId: id, jti: 'token', iat: unixSeconds(ended) };
      expect(await revocations.isDead(token)).toBe(false);
      await sweepIdleAgents(at(ended));
      await revocations.catchUp();
      expect(await revocations.isDead(token)).toBe(true);
    } finally {
      await revocations.stop();
    }
    const rowsAt = async (seconds: number) => {
      await sweepIdleAgents(at(addSeconds(ended, seconds)));
      return db.query('SELECT 1 FROM agents WHERE id = $1', [id]);
    };
    expect(await rowsAt(limits.accessTokenSeconds)).toHaveLength(1);
    expect(await rowsAt(2 * limits.accessTokenSeconds)).toHaveLength(0);
  });
});
