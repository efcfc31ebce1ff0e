import { describe, expect, it } from 'vitest';
import { codeOf, newKey, openAgents, self, start } from '../agents/agents.fixture.ts';
import { changeAgent } from '../agents/update-agent.ts';
import { registerAgent } from '../agents/register-agent.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { addPublicKey, addSecret } from './add-credential.ts';
import { findLiveCredentials, findRotations, listCredentials, sweepCredentials } from './credentials.sql.ts';
import { thumbprintOf } from './public-key.ts';
import { revokeCredential } from './revoke-credential.ts';
import { rotateOwnSecret, rotateSecret } from './rotate-secret.ts';

const { db, home, other, at, newAgent, link, works } = await openAgents();

describe('rotation', () => {
  it('by the owner stops every old secret at once, and the new one names whom it follows', async () => {
    const { agent, secret } = await newAgent();
    const second = await addSecret(at(start), home.id, agent.id);
    const rotated = await rotateSecret(at(start), home.id, agent.id, 0);
    expect(await works(agent.id, secret)).toBe(false);
    expect(await works(agent.id, second.secret)).toBe(false);
    expect(await works(agent.clientId, rotated.secret)).toBe(true);
    expect(rotated.credential).toMatchObject({ rotatedFrom: second.credential.id, createdBy: 'owner' });
  });

  it('with grace lets the newest old secret work until then, and no third one beside', async () => {
    const { agent, secret } = await newAgent();
    const first = await rotateSecret(at(start), home.id, agent.id, 100);
    const second = await rotateSecret(at(addSeconds(start, 10)), home.id, agent.id, 1000);
    expect(await works(agent.id, secret, addSeconds(start, 10))).toBe(false);
    expect(await works(agent.id, first.secret, addSeconds(start, 1009))).toBe(true);
    expect(await works(agent.id, first.secret, addSeconds(start, 1010))).toBe(false);
    expect(await works(agent.id, second.secret, addSeconds(start, 1010))).toBe(true);
  });

  it('twice at the same time leaves one secret, whichever', async () => {
    const { agent } = await newAgent();
    await Promise.all([1, 2, 3].map(() => rotateSecret(at(start), home.id, agent.id, 0)));
    expect(await findLiveCredentials(db, agent.id, start)).toHaveLength(1);
  });

  it('by an agent that registered itself is bounded by the hour, by one with an owner is not', async () => {
    const { agent: own } = await registerAgent(at(start), {
      name: 'Itself',
      clientInfo: 'test',
      email: null,
    });
    const { agent } = await newAgent();
    const rotate = async (id: typeof own.id, time = start) => codeOf(rotateOwnSecret(at(time), self(id), 0));
    for (let index = 0; index < limits.homelessRotationsPerHour; index += 1) {
      expect(await rotate(own.id)).toBe('done');
      expect(await rotate(agent.id)).toBe('done');
    }
    expect(await rotate(own.id)).toBe('rate_limited');
    expect(await rotate(agent.id)).toBe('done');
    expect(await rotate(own.id, addSeconds(start, 60 * 60 + 1))).toBe('done');
  });

  it('leaves the old secrets of an agent that registered itself in its history for 90 days after their end, of others for good', async () => {
    const { agent: own } = await registerAgent(at(start), { name: 'Own', clientInfo: 'x', email: null });
    const { agent } = await newAgent();
    const [first, second] = [addSeconds(start, 1), addSeconds(start, 100)];
    for (const { id } of [own, agent]) {
      await rotateOwnSecret(at(first), self(id), 0);
      await rotateOwnSecret(at(second), self(id), 3600);
    }
    const keptAt = async (seconds: number) => {
      await sweepCredentials(db, addSeconds(start, seconds));
      const kept = [own, agent].map(({ id }) => listCredentials(db, { agentId: id, before: null, limit: 9 }));
      return (await Promise.all(kept)).map((rows) => rows.length);
    };
    const days = 90 * 24 * 60 * 60;
    expect(await keptAt(days)).toEqual([3, 3]);
    expect(await keptAt(days + 1)).toEqual([2, 3]);
    expect(await keptAt(days + 3600 + 99)).toEqual([2, 3]);
    expect(await keptAt(days + 3600 + 100)).toEqual([1, 3]);
    expect(await keptAt(9 * days), 'the secret that is good stays').toEqual([1, 3]);
    expect(await findRotations(db, own.id, 9), 'and says whom it follows').toHaveLength(1);
  });

  it('by the agent leaves a notice to every environment that it is linked to', async () => {
    const { agent } = await newAgent();
    await link(agent.id, other);
    await rotateOwnSecret(at(start), self(agent.id), 0);
    const rows = await db.query<{ environmentId: string }>(
      "SELECT environment_id FROM outbox WHERE topic = 'notice' AND payload->>'agent_id' = $1",
      [agent.id],
    );
    expect(rows.map((row) => row.environmentId).toSorted()).toEqual([home.id, other.id].toSorted());
  });

  it('by the agent is refused with a token that somebody acts for it with', async () => {
    const { agent, secret } = await newAgent();
    const delegated = { ...self(agent.id), delegated: true };
    expect(await codeOf(rotateOwnSecret(at(start), delegated, 0))).toBe('forbidden');
    expect(await works(agent.id, secret)).toBe(true);
  });

  it('by the agent is refused where the owner has switched it off, until it is on again', async () => {
    const { agent } = await newAgent();
    await changeAgent(at(start), home.id, agent.id, { selfRotation: false });
    expect(await codeOf(rotateOwnSecret(at(start), self(agent.id), 0))).toBe('forbidden');
    await changeAgent(at(start), home.id, agent.id, { selfRotation: true });
    expect(await codeOf(rotateOwnSecret(at(start), self(agent.id), 0))).toBe('done');
  });

  it('by an agent that has a key needs no proof of it, unless its tokens are bound to its keys', async () => {
    const { agent } = await newAgent();
    await addPublicKey(at(start), home.id, agent.id, newKey());
    expect(await codeOf(rotateOwnSecret(at(start), self(agent.id), 0))).toBe('done');
  });

  it('by an agent whose tokens are bound to its keys asks for the proof of one of them that is good now', async () => {
    const { agent } = await newAgent();
    const [jwk, ended] = [newKey(), newKey()];
    await addPublicKey(at(start), home.id, agent.id, jwk);
    const { id } = await addPublicKey(at(start), home.id, agent.id, ended);
    await changeAgent(at(start), home.id, agent.id, { senderBound: true });
    await revokeCredential(at(start), home.id, agent.id, id);
    const proving = (keyThumbprint: string | null) =>
      codeOf(rotateOwnSecret(at(start), { ...self(agent.id, addSeconds(start, 1)), keyThumbprint }, 0));
    expect(await proving(null)).toBe('forbidden');
    expect(await proving(thumbprintOf(newKey()))).toBe('forbidden');
    expect(await proving(thumbprintOf(ended))).toBe('forbidden');
    expect(await proving(thumbprintOf(jwk))).toBe('done');
  });

  it('gives no secret to an agent that has keys alone', async () => {
    const { agent } = await newAgent();
    const [secret] = await findLiveCredentials(db, agent.id, start);
    await revokeCredential(at(start), home.id, agent.id, secret?.id ?? '');
    await addPublicKey(at(start), home.id, agent.id, newKey());
    expect(await codeOf(rotateSecret(at(start), home.id, agent.id, 0))).toBe('conflict');
  });
});
