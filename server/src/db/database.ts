import type { Socket } from 'node:net';
import { Client, type ClientConfig, Pool, type PoolClient, types } from 'pg';
import { assert } from '../kernel/assert.ts';
import { arrayText } from './array-text.ts';
import { camelCase } from './tables.ts';

export interface QueryOptions {
  /** A name for the text: each connection then parses and plans it once. Worth it for a statement that runs all the time. */
  prepared?: string;
}

/** Runs statements: the pool itself, or one transaction of it. Rows come back with camelCase keys. */
export interface Sql {
  query<Row extends object>(
    text: string,
    values?: readonly unknown[],
    options?: QueryOptions,
  ): Promise<Row[]>;
}

/** A transaction that is open. */
export interface Transaction extends Sql {
  /** Runs a statement whose rows nobody needs: it goes out with what comes next, the COMMIT at last, which fails where it has failed. */
  send(text: string, values?: readonly unknown[]): void;
}

export interface Database extends Sql {
  /** READ COMMITTED; rolls back on a throw. Writes go through `write()`, not here. */
  transaction<T>(run: (sql: Transaction) => Promise<T>): Promise<T>;
  /** A connection outside the pool, for LISTEN and advisory locks. The caller ends it. */
  connect(): Promise<Client>;
  close(): Promise<void>;
}

/** Says how a statement runs where its caller has not. */
type Naming = (text: string, how: QueryOptions | undefined) => QueryOptions | undefined;

const connectTimeoutMs = 5_000;

/** Opens a pool. `int8` and whole `numeric` arrive as bigint, `timestamptz` as Date, `bytea` as Buffer. */
export function openDatabase(
  url: string,
  options: {
    poolSize: number;
    onError: (error: Error) => void;
    /**
     * For hot batches: each statement is planned once for each connection, whatever its values. Each finds its rows by key, and is
     * kept from reading a table that is small when it is planned, as it will be large soon.
     */
    planOnce?: true;
  },
): Database {
  const settings: ClientConfig = {
    connectionString: url,
    connectionTimeoutMillis: connectTimeoutMs,
    types: { getTypeParser },
  };
  // Statements that don't need each other's rows are given together (`Promise.all`), and go out without waiting for one another.
  const pool = new Pool({ ...settings, max: options.poolSize, pipeline: true });
  pool.on('connect', (client) => {
    client.on('error', heardAtItsUse);
    if (options.planOnce) void planOnce(client);
  });
  const naming: Naming = (text, how) => (options.planOnce && !how ? { prepared: nameOf(text) } : how);
  // An idle connection that breaks is replaced at its next use; without a listener it would end the process.
  let closed = false;
  pool.on('error', (error) => {
    // A server that stops right behind us may still say goodbye to a connection that is closing.
    if (!closed) options.onError(error);
  });

  return {
    query: (text, values, how) => run(pool, text, values, naming(text, how)),
    transaction: (body) => runTransaction(pool, body, naming),
    async connect() {
      const client = new Client(settings);
      client.on('error', heardAtItsUse);
      await client.connect();
      return client;
    },
    close() {
      closed = true;
      return pool.end();
    },
  };
}

/**
 * An error that nothing listens to ends the process, and a connection may break before whoever asked for it can: readiness and
 * goodbye come in one packet, and a promise is told of the first after both are read. Each statement fails on it from then on.
 */
function heardAtItsUse(): void {}

/** One transaction, on a connection of its own; a connection that was lost leaves the pool. */
async function runTransaction<T>(
  pool: Pool,
  body: (sql: Transaction) => Promise<T>,
  naming: Naming,
): Promise<T> {
  const client = await pool.connect();
  let failure: Error | undefined;
  let over = false;
  // Between two statements nothing else hears that the connection is lost, and an unheard error ends the process.
  const onLost = (error: Error) => {
    failure = error;
  };
  client.on('error', onLost);
  try {
    const gather = gatherWrites(client);
    const give = <Row extends object>(text: string, values?: readonly unknown[], how?: QueryOptions) => {
      // Of statements that are given together one may fail, and the body with it, while another's sequel is still to come.
      if (over) throw new Error('a transaction takes no statement once it has ended');
      gather();
      return run<Row>(client, text, values, naming(text, how));
    };
    gather();
    const sent: Promise<unknown>[] = [handled(client.query('BEGIN'))];
    const result = await body({
      query: give,
      send: (text, values) => void sent.push(handled(give(text, values))),
    });
    over = true;
    gather();
    const committing = handled(client.query('COMMIT'));
    await Promise.all(sent);
    // After a statement that has failed, COMMIT rolls back, and calls that no error.
    const { command } = await committing;
    assert(command === 'COMMIT', 'a transaction in which a statement has failed throws');
    return result;
  } catch (error) {
    over = true;
    await client.query('ROLLBACK').catch((rollbackError: Error) => {
      failure = rollbackError;
    });
    throw error;
  } finally {
    client.off('error', onLost);
    client.release(failure);
  }
}

/** What fails here is heard where it is waited for, which may be later. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/** Lets what is given to a connection in one turn go out in one system call: each of them costs as much as a short statement. */
function gatherWrites(client: PoolClient): () => void {
  const { stream } = (client as unknown as { connection: { stream: Socket } }).connection;
  let gathering = false;
  return () => {
    if (gathering) return;
    gathering = true;
    stream.cork();
    process.nextTick(() => {
      gathering = false;
      stream.uncork();
    });
  };
}

async function run<Row extends object>(
  client: Pool | PoolClient,
  text: string,
  values: readonly unknown[] = [],
  { prepared }: QueryOptions = {},
): Promise<Row[]> {
  const result = await client.query<Record<string, unknown>>({
    text,
    values: values.map(arrayText),
    ...(prepared === undefined ? {} : { name: prepared }),
  });
  return result.rows.map((row) => camelCase(row) as Row);
}

async function planOnce(client: PoolClient): Promise<void> {
  // A connection that is lost here is so at its first use as well.
  await client
    .query('SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off')
    .catch(() => undefined);
}

const names = new Map<string, string>();

/** What a connection knows a prepared statement by. Statements are constants, so that there are few. */
function nameOf(text: string): string {
  let name = names.get(text);
  if (name === undefined) names.set(text, (name = `s${names.size}`));
  return name;
}

const oid = { int8: 20, numeric: 1700 } as const;

function getTypeParser(type: number, format?: 'text' | 'binary'): unknown {
  if (type === oid.int8) return BigInt;
  if (type === oid.numeric) return (text: string) => (/^-?\d+$/.test(text) ? BigInt(text) : text);
  return types.getTypeParser(type, format ?? 'text');
}
