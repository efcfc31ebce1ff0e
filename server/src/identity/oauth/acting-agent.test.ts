import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { addSeconds, unixSeconds } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { codeOf, openAgents, self, start } from '../agents/agents.fixture.ts';
import { deactivateAgent, deactivateItself, startAgent, stopAgent } from '../agents/change-agent-state.ts';
import { deleteAgent } from '../agents/delete-agent.ts';
import { stopAllAgents } from '../agents/stop-all-agents.ts';
import { changeAgent } from '../agents/update-agent.ts';
import { rotateOwnSecret } from '../credentials/rotate-secret.ts';
import { demandLink } from '../links/demand-link.ts';
import { loadSigningKeys } from '../signing-keys/signing-keys.ts';
import { createTokens, type Tokens } from '../tokens/tokens.ts';
import { issueCredential } from '../verifiable-credentials/issue-credential.ts';
import { type ActingAgent, findActingAgent, findAgentActingIn } from './acting-agent.ts';
import { tokenIdOf } from './refresh-token.ts';
import { insertRevokedToken } from './revocations.sql.ts';

const { db, home, other, at, newAgent, link } = await openAgents();
const later = addSeconds(start, 5);
let tokens: Tokens;
beforeAll(async () => {
  const keys = await loadSigningKeys(at(start), ['ES256']);
  tokens = createTokens(keys, 'http://localhost', { 'at+jwt': 'ES256', 'vc+jwt': 'ES256' });
});

type Self = ReturnType<typeof self>;
const issue = (acting: Self, now = later, ttlSeconds = 300) =>
  issueCredential(at(now), tokens, { acting, challenge: 'c', audience: 'https://a.example', ttlSeconds });

/** What an agent may get for its token that lasts longer than the token. */
const gains: [string, (acting: Self) => Promise<unknown>][] = [
  ['a secret', (acting) => rotateOwnSecret(at(later), acting, 0)],
  ['a credential', issue],
  [
    'a link',
    async (acting) => {
      await db.query('DELETE FROM agent_links WHERE agent_id = $1', [acting.agentId]);
      await demandLink(at(later), acting, () => 'http://localhost');
    },
  ],
  ['a state', (acting) => deactivateItself(at(later), acting)],
];

const endings: [string, (id: AgentId, acting: ActingAgent) => Promise<unknown>][] = [
  ['stopped', (id) => stopAgent(at(addSeconds(start, 1)), home.id, id)],
  ['deactivated', (id) => deactivateAgent(at(addSeconds(start, 1)), home.id, id)],
  ['deleted', (id) => deleteAgent(at(addSeconds(start, 1)), home.id, id)],
  ['expired', (id) => changeAgent(at(start), home.id, id, { expiresAt: addSeconds(start, 4) })],
  [
    'stopped and started again',
    async (id) => {
      await stopAgent(at(addSeconds(start, 1)), home.id, id);
      await startAgent(at(addSeconds(start, 2)), home.id, id);
    },
  ],
  [
    'left without the token, which was revoked,',
    (agentId, { token }) =>
      insertRevokedToken(db, { jti: token.id, agentId, expiresAt: later, now: addSeconds(start, 1) }),
  ],
];

describe.each(endings)('an agent that was %s', (_state, end) => {
  it.each(gains)(
    'gets nothing that lasts for a token that a process still believes: %s',
    async (_what, gain) => {
      const { agent } = await newAgent();
      const acting = self(agent.id);
      await end(agent.id, acting);
      expect(await codeOf(gain(acting))).toBe('unauthorized');
    },
  );
});

it.each(gains)('an agent that runs gets it: %s', async (what, gain) => {
  const { agent } = await newAgent();
  expect(await codeOf(gain(self(agent.id)))).toBe(what === 'a link' ? 'agent_not_linked' : 'done');
});

it('a token of a family that was revoked is as dead as one that was revoked by itself', async () => {
  const { agent } = await newAgent();
  const family = crypto.randomUUID();
  const acting = { ...self(agent.id), token: { id: tokenIdOf(family, 3), iat: unixSeconds(start) } };
  await db.query(
    `INSERT INTO refresh_families (id, agent_id, credential_id, scope, resource, token_hash, generation, created_at, expires_at)
     VALUES ($1, $2, 'cred_1', '', 'http://localhost', $3, 3, $4, $5)`,
    [family, agent.id, Buffer.alloc(32), start, addSeconds(start, 3600)],
  );
  expect(await findActingAgent(db, acting, later)).toMatchObject({ id: agent.id });
  await db.query('UPDATE refresh_families SET revoked_at = $2 WHERE id = $1', [family, later]);
  expect(await findActingAgent(db, acting, later)).toBeUndefined();
});

it('whose stop is being committed waits for it, and gets nothing', async () => {
  const { agent } = await newAgent();
  let rotating: Promise<string> | undefined;
  await db.transaction(async (sql) => {
    await sql.query('SELECT 1 FROM agents WHERE id = $1 FOR UPDATE', [agent.id]);
    rotating = codeOf(rotateOwnSecret(at(later), self(agent.id), 0));
    await vi.waitUntil(async () => {
      const waiting = await db.query(
        "SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'",
      );
      return waiting.length > 0;
    });
    await sql.query("UPDATE agents SET status = 'suspended', suspended_at = $2 WHERE id = $1", [
      agent.id,
      later,
    ]);
  });
  expect(await rotating).toBe('unauthorized');
});

const afterwards = addSeconds(later, 1);
const isActingIn = async (id: AgentId, acting: ActingAgent = self(id, later)) =>
  (await findAgentActingIn(db, other.id, acting, afterwards)) !== undefined;
/** How many transactions of this database wait for another one. */
const countWaiting = async () =>
  (
    await db.query(
      'SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0',
    )
  ).length;

let time = start;
beforeEach(() => (time = start));
/** A context whose clock is set while something goes on. */
const running = (environment: typeof home) => ({ ...at(start, environment), clock: { now: () => time } });

describe('an agent acts in an environment', () => {
  it('that is linked to it and has not stopped it, with a token that is good', async () => {
    const { agent } = await newAgent();
    expect(await isActingIn(agent.id)).toBe(false);
    await link(agent.id, other);
    expect(await isActingIn(agent.id)).toBe(true);
    await stopAgent(at(start, other), other.id, agent.id);
    expect(await isActingIn(agent.id)).toBe(false);
    await startAgent(at(start, other), other.id, agent.id);
    expect(await isActingIn(agent.id)).toBe(true);
    expect(await isActingIn(agent.id, self(agent.id)), 'a token of before the stop').toBe(false);
    await stopAgent(at(start), home.id, agent.id);
    expect(await isActingIn(agent.id)).toBe(false);
  });

  describe.each<[string, (id: AgentId) => Promise<unknown>]>([
    ['a stop by the environment', (id) => stopAgent(running(other), other.id, id)],
    ['a stop by home', (id) => stopAgent(running(home), home.id, id)],
    ['a stop of all', () => stopAllAgents(running(other), other.id)],
    ['a deactivation', (id) => deactivateAgent(running(home), home.id, id)],
    ['a deletion', (id) => deleteAgent(running(home), home.id, id)],
  ])('and %s', (_name, stop) => {
    it('waits for what is being decided', async () => {
      const { agent } = await newAgent();
      await link(agent.id, other);
      const order: string[] = [];
      let stopping: Promise<unknown> | undefined;
      await db.transaction(async (sql) => {
        await findAgentActingIn(sql, other.id, self(agent.id), later);
        stopping = stop(agent.id).then(() => order.push('stopped'));
        await vi.waitUntil(async () => order.length > 0 || (await countWaiting()) > 0);
        order.push('decided');
      });
      await stopping;
      expect(order).toEqual(['decided', 'stopped']);
    });

    it('ends the tokens that were given while it waited', async () => {
      const { agent } = await newAgent();
      await link(agent.id, other);
      let stopping: Promise<unknown> | undefined;
      await db.transaction(async (sql) => {
        await findAgentActingIn(sql, other.id, self(agent.id), start);
        stopping = stop(agent.id);
        await vi.waitUntil(async () => (await countWaiting()) > 0);
        time = later;
      });
      await stopping;
      const [row] = await db.query('SELECT tokens_valid_from FROM agents WHERE id = $1', [agent.id]);
      expect(row).toEqual({ tokensValidFrom: later });
    });

    it('waits for nothing that comes after it, and that gets nothing', async () => {
      const { agent } = await newAgent();
      await link(agent.id, other);
      let stopping: Promise<unknown> | undefined;
      let late: Promise<unknown> | undefined;
      await db.transaction(async (sql) => {
        await findAgentActingIn(sql, other.id, self(agent.id), later);
        stopping = stop(agent.id);
        await vi.waitUntil(async () => (await countWaiting()) === 1);
        let isOver = false;
        late = db
          .transaction((another) => findAgentActingIn(another, other.id, self(agent.id, later), afterwards))
          .finally(() => (isOver = true));
        await vi.waitUntil(async () => isOver || (await countWaiting()) === 2);
      });
      await stopping;
      expect(await late).toBeUndefined();
    });
  });
});

describe('a credential for a verifier', () => {
  it('ends with its agent', async () => {
    const { agent } = await newAgent();
    await changeAgent(at(start), home.id, agent.id, { expiresAt: addSeconds(start, 65) });
    expect((await issue(self(agent.id), later, 86_400)).expiresAt).toEqual(addSeconds(start, 65));
    expect((await issue(self(agent.id), later, 10)).expiresAt).toEqual(addSeconds(later, 10));
  });

  it('is given again for its Idempotency-Key, though its challenge is kept nowhere', async () => {
    const { agent } = await newAgent();
    const challenge = 'a challenge of 🦊 that "nobody" else\u2028has sent';
    const opened: string[] = [];
    const context = at(later);
    const box = {
      ...context.box,
      seal(plain: Buffer, binding: string) {
        opened.push(plain.toString());
        return context.box.seal(plain, binding);
      },
    };
    const run = () =>
      issueCredential(
        { ...context, box, idempotency: { key: 'k', operation: 'vc.issue', fingerprint: Buffer.alloc(32) } },
        tokens,
        { acting: self(agent.id), challenge, audience: 'https://a.example', ttlSeconds: 300 },
      );
    const first = await run();
    expect(await run()).toEqual(first);
    const check = { typ: 'vc+jwt', audience: 'https://a.example', now: later } as const;
    expect((await tokens.check(first.vc, check)).claims).toMatchObject({ challenge, nonce: challenge });
    // In the clear, as JSON or inside of a JWT.
    const kept = opened.flatMap((text) => [
      text,
      ...text.split(/[."]/).map((part) => Buffer.from(part, 'base64url').toString()),
    ]);
    expect(kept.length).toBeGreaterThan(1);
    for (const text of kept) expect(text).not.toContain('that \\"nobody');
  });
});
