import { randomBytes } from 'node:crypto';
import { afterAll, inject } from 'vitest';
import { type Database, openDatabase, type WriteContext } from '../../src/db/index.ts';
import { systemClock } from '../../src/kernel/clock.ts';
import { createSecretBox, type SecretBox } from '../../src/kernel/crypto.ts';
import { templateName, withName } from './database-server.ts';

/** A database that only this test file uses: a clone of the migrated template, or an empty one. */
export interface TestDatabase {
  url: string;
  db: Database;
}

/** Under which every test seals; processes that a test starts open the same rows with it. */
const testMasterKey = Buffer.alloc(32, 7);
export const testBox: SecretBox = createSecretBox(testMasterKey);

const opened: { name: string; db: Database }[] = [];
afterAll(async () => {
  for (const { name, db } of opened.splice(0)) {
    await db.close();
    // Processes that a test killed may still be leaving.
    await onServer(`DROP DATABASE ${name} WITH (FORCE)`);
  }
});

/** Makes a database that is dropped after the test file. `empty` leaves out the migrations. */
export async function openTestDatabase(options: { empty?: boolean } = {}): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`;
  await onServer(`CREATE DATABASE ${name} TEMPLATE ${options.empty ? 'template0' : templateName}`);
  const url = withName(inject('databaseServerUrl'), name);
  const db = openDatabase(url, { poolSize: 12, onError: () => undefined });
  opened.push({ name, db });
  return { url, db };
}

/** A context for what a test itself writes; members that matter to it go into `overrides`. */
export function testContext(db: Database, overrides: Partial<WriteContext> = {}): WriteContext {
  return {
    db,
    clock: systemClock,
    box: testBox,
    actor: { kind: 'system', id: 'test' },
    scope: 'instance',
    requestId: null,
    clientAddress: null,
    ...overrides,
  };
}

async function onServer(statement: string): Promise<void> {
  const server = openDatabase(inject('databaseServerUrl'), { poolSize: 1, onError: () => undefined });
  try {
    await server.query(statement);
  } finally {
    await server.close();
  }
}
