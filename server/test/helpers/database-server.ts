import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { migrate, openDatabase } from '../../src/db/index.ts';
import { openDataDirectory, startPostgres } from '../../src/embedded/index.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The run's PostgreSQL; its own database holds nothing. */
    databaseServerUrl: string;
  }
}

/** The migrated database that test files clone. Nothing stays connected to it: PostgreSQL copies only what nobody uses. */
export const templateName = 'credence_template';

/** Vitest's global set-up: one real PostgreSQL for the run, migrated once. Gives what ends it. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const path = await mkdtemp(join(tmpdir(), 'credence-test-database-'));
  const directory = await openDataDirectory(path);
  const postgres = await startPostgres({ directory, log: () => undefined });
  await makeTemplate(postgres.url);
  project.provide('databaseServerUrl', postgres.url);
  return async () => {
    await postgres.stop();
    await directory.release();
    await rm(path, { recursive: true, force: true });
  };
}

async function makeTemplate(serverUrl: string): Promise<void> {
  const server = openDatabase(serverUrl, { poolSize: 1, onError: rethrow });
  await server.query(`CREATE DATABASE ${templateName}`);
  await server.close();
  const template = openDatabase(withName(serverUrl, templateName), { poolSize: 1, onError: rethrow });
  await migrate(template, new URL('../../migrations/', import.meta.url), new Date());
  await template.close();
}

/** The URL of another database on the same server. */
export function withName(serverUrl: string, name: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  return url.href;
}

function rethrow(error: Error): never {
  throw error;
}
