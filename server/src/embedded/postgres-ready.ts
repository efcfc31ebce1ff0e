import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { StartupError } from '../kernel/startup-error.ts';
import { hasCode } from './atomic-file.ts';
import type { Child, ChildExit } from './child-process.ts';
import { databaseRole } from './postgres-cluster.ts';

const databaseName = 'credence';
const pollMs = 15;
/** Replaying the log of a large database after a crash takes time; longer than this is a fault. */
const readyMsMax = 120_000;
const connectMsMax = 3_000;

/** Where a database of ours is reached; `credence` unless told. */
export function connectionUrl(port: number, password: string, database: string = databaseName): string {
  return `postgres://${databaseRole}:${password}@127.0.0.1:${port}/${database}`;
}

/**
 * Waits until the database `credence` answers, creating it the first time. Resolves with how the process ended if it ends
 * before that.
 */
export async function waitUntilReady(
  child: Child,
  port: number,
  password: string,
): Promise<ChildExit | undefined> {
  const deadline = Date.now() + readyMsMax;
  try {
    while (!child.exit) {
      if (await isAnswering(port, password)) return undefined;
      if (Date.now() > deadline)
        throw new StartupError('PostgreSQL is still not ready after 2 minutes: see its log.');
      await Promise.race([sleep(pollMs), child.ended]);
    }
    return child.exit;
  } catch (error) {
    await child.stop();
    throw error;
  }
}

async function isAnswering(port: number, password: string): Promise<boolean> {
  const client = new Client({
    connectionString: connectionUrl(port, password, 'postgres'),
    connectionTimeoutMillis: connectMsMax,
  });
  client.on('error', () => undefined); // A connection that breaks also fails the query.
  try {
    await client.connect();
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [databaseName]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${databaseName}`);
    return true;
  } catch (error) {
    if (hasCode(error, '28P01')) {
      throw new StartupError(
        'The embedded PostgreSQL refuses its password: restore postgres-password from a copy.',
      );
    }
    return false; // Not listening yet (ECONNREFUSED), or still starting up (57P03).
  } finally {
    await client.end().catch(() => undefined);
  }
}
