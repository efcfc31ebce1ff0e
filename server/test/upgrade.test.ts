import { copyFile, mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { createOrganisation } from '../src/accounts/index.ts';
import { migrate } from '../src/db/migrate.ts';
import { findAgentBySecret } from '../src/identity/credentials/credentials.sql.ts';
import { findAgent } from '../src/identity/agents/agents.sql.ts';
import { findLinksOf } from '../src/identity/links/agent-links.sql.ts';
import { isLive } from '../src/identity/agents/agent.ts';
import { loadSigningKeys } from '../src/identity/signing-keys/signing-keys.ts';
import { generateSealedKey } from '../src/identity/signing-keys/create-signing-key.ts';
import { sha256 } from '../src/kernel/crypto.ts';
import { isId, newAgentId } from '../src/kernel/ids.ts';
import { openTestDatabase, testContext } from './helpers/database.ts';

const all = new URL('../migrations/', import.meta.url);
const folder = await mkdtemp(join(tmpdir(), 'credence-migrations-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The migrations before that one, in a folder of their own. */
async function migrationsBefore(end: string): Promise<URL> {
  const old = join(folder, end);
  await mkdir(old);
  for (const name of await readdir(all)) if (name < end) await copyFile(new URL(name, all), join(old, name));
  return pathToFileURL(`${old}/`);
}

it('a database of 0.1 is upgraded with what is in it: agents, their secrets, and the key that signs', async () => {
  const { db } = await openTestDatabase({ empty: true });
  const now = new Date('2026-11-01T10:00:00Z');
  expect(await migrate(db, await migrationsBefore('0009'), now)).toEqual({ applied: 8 });

  const context = testContext(db);
  const { jwk, sealed } = await generateSealedKey(context, 'RS256');
  await db.query(
    `INSERT INTO signing_keys (kid, algorithm, state, public_jwk, private_key, created_at) VALUES ($1, 'RS256', 'active', $2, $3, $4)`,
    [jwk.kid, JSON.stringify(jwk), sealed, now],
  );
  const retired = await generateSealedKey(context, 'RS256');
  await db.query(
    `INSERT INTO signing_keys (kid, algorithm, state, public_jwk, private_key, created_at) VALUES ($1, 'RS256', 'retiring', $2, $3, $4)`,
    [retired.jwk.kid, JSON.stringify(retired.jwk), retired.sealed, now],
  );
  const [agentId, ended, secret] = [newAgentId(), newAgentId(), `cs_${'a-_Z0'.repeat(8)}abc`];
  await db.query(
    `INSERT INTO agents (id, name, client_info, status, created_at)
     VALUES ($1, 'Old', 'x', 'active', $2), ($3, 'Ended', 'x', 'inactive', $2)`,
    [agentId, now, ended],
  );
  await db.query('INSERT INTO agent_credentials (agent_id, secret_hash, created_at) VALUES ($1, $2, $3)', [
    agentId,
    sha256(secret),
    now,
  ]);

  await migrate(db, all, new Date());
  const found = await findAgentBySecret(db, {
    clientId: agentId,
    secretHash: sha256(secret),
    now: new Date(),
  });
  expect(found && isLive(found.agent, new Date())).toBe(true);
  expect(isId('client', found?.agent.clientId ?? '')).toBe(true);
  expect(isId('credential', found?.credentialId ?? '')).toBe(true);
  expect(
    await findAgentBySecret(db, {
      clientId: found?.agent.clientId ?? '',
      secretHash: sha256(secret),
      now: new Date(),
    }),
  ).toMatchObject({ agent: { id: agentId } });
  expect(await findAgent(db, ended)).toMatchObject({ status: 'inactive', deactivatedAt: expect.any(Date) });
  const keys = await loadSigningKeys(context, ['RS256']);
  expect(keys.getSigner('RS256').kid).toBe(jwk.kid);
  expect(keys.findKey(retired.jwk.kid), 'goes on verifying what it has signed').toBeDefined();
});

it('stops of before hold as those of after: for who made them, and for everybody where that is home or all', async () => {
  const { db } = await openTestDatabase({ empty: true });
  const now = new Date('2026-11-01T10:00:00Z');
  await migrate(db, await migrationsBefore('0025'), now);
  const [home, other] = [
    (await createOrganisation(testContext(db), 'Home')).id,
    (await createOrganisation(testContext(db), 'Other')).id,
  ];
  const insert = async (homeId: string | null, suspendedBy: string[], deactivatedAt: Date | null = null) => {
    const id = newAgentId();
    const standing = deactivatedAt === null ? 'active' : 'inactive';
    await db.query(
      `INSERT INTO agents (id, client_id, name, client_info, status, home_environment_id, suspended_by, deactivated_at, created_at, updated_at)
       VALUES ($1, $1::uuid::text, 'A', '', $2, $3, $4, $5, $6, $6)`,
      [id, suspendedBy.length > 0 ? 'suspended' : standing, homeId, suspendedBy, deactivatedAt, now],
    );
    await db.query(
      `INSERT INTO agent_links (environment_id, agent_id, linked_by, created_at)
       SELECT unnest($2::text[]), $1, 'test', $3`,
      [id, [home, other], now],
    );
    return id;
  };
  const agents = [
    [await insert(home, [home]), 'suspended', [home]],
    [await insert(home, [other]), 'active', [other]],
    [await insert(home, [other], now), 'inactive', [other]],
    [await insert(home, [home, other]), 'suspended', [home, other]],
    [await insert(null, [other]), 'active', [other]],
    [await insert(null, [home, other]), 'suspended', [home, other]],
    [await insert(null, []), 'active', []],
  ] as const;
  const rotated = agents.map(([id]) => `cred_${id}`);
  await db.query(
    `INSERT INTO agent_credentials (id, agent_id, secret_hash, created_at, rotated_from, revoked_at)
     SELECT 'cred_' || id, id, sha256(convert_to('old' || id, 'UTF8')), $1, NULL, $1::timestamptz FROM agents
     UNION ALL SELECT 'new_' || id, id, sha256(convert_to('new' || id, 'UTF8')), $1, 'cred_' || id, NULL FROM agents`,
    [now],
  );

  await migrate(db, all, new Date());
  for (const [id, status, stoppedBy] of agents) {
    expect((await findAgent(db, id))?.status).toBe(status);
    const links = await findLinksOf(db, [id]);
    const stops = links.filter(({ stoppedAt }) => stoppedAt !== null).map((link) => link.environmentId);
    expect(stops.toSorted()).toEqual([...stoppedBy].toSorted());
  }
  const kept = await db.query<{ id: string; keptUntil: Date }>(
    'SELECT id, kept_until FROM agent_credentials WHERE kept_until IS NOT NULL ORDER BY id',
  );
  const keptUntil = new Date('2027-01-30T10:00:00Z');
  expect(kept, 'history of agents without a home').toEqual(rotated.slice(4).map((id) => ({ id, keptUntil })));
});
