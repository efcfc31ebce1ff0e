import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { migrate } from '../src/db/migrate.ts';
import { findAgentBySecret } from '../src/identity/credentials/credentials.sql.ts';
import { findAgent } from '../src/identity/agents/agents.sql.ts';
import { isLive } from '../src/identity/agents/agent.ts';
import { loadSigningKeys } from '../src/identity/signing-keys/signing-keys.ts';
import { generateSealedKey } from '../src/identity/signing-keys/create-signing-key.ts';
import { sha256 } from '../src/kernel/crypto.ts';
import { isId, newAgentId } from '../src/kernel/ids.ts';
import { openTestDatabase, testContext } from './helpers/database.ts';

const all = new URL('../migrations/', import.meta.url);
const old = await mkdtemp(join(tmpdir(), 'credence-migrations-'));
afterAll(() => rm(old, { recursive: true, force: true }));

it('a database of 0.1 is upgraded with what is in it: agents, their secrets, and the key that signs', async () => {
  const { db } = await openTestDatabase({ empty: true });
  for (const name of await readdir(all))
    if (name < '0009') await copyFile(new URL(name, all), join(old, name));
  const now = new Date('2026-11-01T10:00:00Z');
  expect(await migrate(db, pathToFileURL(`${old}/`), now)).toEqual({ applied: 8 });

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
