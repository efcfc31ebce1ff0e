import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, it } from 'vitest';
import { openTestDatabase, testContext } from '../../../test/helpers/database.ts';
import { openDatabase } from '../../db/index.ts';
import { addSeconds, systemClock, unixSeconds } from '../../kernel/clock.ts';
import { registerAgent } from '../agents/register-agent.ts';
import { tokenIdOf } from './refresh-token.ts';
import { openRevocations, type Revocations } from './revocations.ts';

const { db, url } = await openTestDatabase();
const context = testContext(db);
const open: Revocations[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.stop();
});

/** One that nobody notifies. */
async function openDeaf(over = db): Promise<Revocations> {
  const revocations = await openRevocations({ ...context, db: over, onError: () => undefined });
  open.push(revocations);
  return revocations;
}

const newAgent = () => registerAgent(context, { name: 'An agent', clientInfo: 'test', email: null });
const tokenOf = (agentId: Awaited<ReturnType<typeof newAgent>>['agent']['id'], jti = 'jti') => ({
  agentId,
  jti,
  iat: unixSeconds(new Date()) - 10,
});
const stop = (id: string) =>
  db.query(
    `UPDATE agents SET deactivated_at = now(), status = 'inactive', tokens_valid_from = now(), updated_at = now()
     WHERE id = $1`,
    [id],
  );

async function isDeadWithin5Seconds(revocations: Revocations, token: ReturnType<typeof tokenOf>) {
  for (const deadline = performance.now() + 5_000; performance.now() < deadline; await sleep(50))
    if (await revocations.isDead(token)) return true;
  return false;
}

it('a change that nobody was told of is known within 5 s', async () => {
  const { agent } = await newAgent();
  const revocations = await openDeaf();
  expect(await revocations.isDead(tokenOf(agent.id))).toBe(false);
  await stop(agent.id);
  expect(await isDeadWithin5Seconds(revocations, tokenOf(agent.id))).toBe(true);
});

it('what was ended before this process began is known from its first moment', async () => {
  const [stopped, single, family, other] = [
    await newAgent(),
    await newAgent(),
    crypto.randomUUID(),
    await newAgent(),
  ];
  await stop(stopped.agent.id);
  await db.query(
    `INSERT INTO revoked_access_tokens VALUES ('single', $1, now() + interval '1 hour', now())`,
    [single.agent.id],
  );
  await db.query(
    `INSERT INTO refresh_families VALUES ($1, $2, 'cred_1', '', '', NULL, sha256('x'), 3, now(), now(), now())`,
    [family, other.agent.id],
  );
  const revocations = await openDeaf();
  expect(await revocations.isDead(tokenOf(stopped.agent.id))).toBe(true);
  expect(await revocations.isDead(tokenOf(single.agent.id, 'single'))).toBe(true);
  expect(await revocations.isDead(tokenOf(other.agent.id, tokenIdOf(family, 2)))).toBe(true);
  expect(await revocations.isDead(tokenOf(other.agent.id, tokenIdOf(crypto.randomUUID(), 2)))).toBe(false);
});

it('a clock that was hours ahead for a moment makes it forget nothing', async () => {
  const { agent } = await newAgent();
  await stop(agent.id);
  let aheadSeconds = 0;
  const clock = { now: () => addSeconds(systemClock.now(), aheadSeconds) };
  const revocations = await openRevocations({ db, clock, onError: () => undefined });
  open.push(revocations);
  expect(await revocations.isDead(tokenOf(agent.id))).toBe(true);
  for (aheadSeconds of [2 * 3600, 0]) await revocations.catchUp();
  expect(await revocations.isDead(tokenOf(agent.id))).toBe(true);
});

it('reading nothing from the database for what it knows, it refuses what it can no longer know', async () => {
  const { agent } = await newAgent();
  const lost = openDatabase(url, { poolSize: 2, onError: () => undefined });
  const revocations = await openDeaf(lost);
  await lost.close();
  expect(await revocations.isDead(tokenOf(agent.id))).toBe(false);
  let outcome: unknown;
  for (const deadline = performance.now() + 10_000; performance.now() < deadline; await sleep(100)) {
    outcome = await revocations.isDead(tokenOf(agent.id)).catch((error: unknown) => error);
    if (outcome !== false) break;
  }
  expect(outcome).toMatchObject({ code: 'unavailable' });
});
