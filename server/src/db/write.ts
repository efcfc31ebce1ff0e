import type { Clock } from '../kernel/clock.ts';
import { equalDigests, type SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import { type JsonObject, parseTyped, stringifyTyped } from '../kernel/json.ts';
import { type AuditEvent, insertAuditEvents, type Origin, type Scope } from './audit-events.ts';
import { type Database, retryTransaction, type Sql } from './database.ts';

export interface WriteContext extends Origin {
  db: Database;
  clock: Clock;
  box: SecretBox;
  scope: Scope;
  /** Present where the request carries an `Idempotency-Key`. */
  idempotency?: { key: string; operation: string; fingerprint: Buffer };
}

export interface AuditEntry {
  /** `noun.verb`, such as `server.published`. */
  action: string;
  resource: string;
  /** Facts for whoever reads the log; never a secret. */
  data?: JsonObject;
  /** Where the row isn't in the context's scope, such as the environment that a signature linked. */
  scope?: Scope;
}

export interface OutboxEntry {
  /** Names the consumer: one worker takes the row and deletes it with its own change. */
  topic: string;
  scope: Scope;
  payload: JsonObject;
}

export interface Outcome<T> {
  result: T;
  /** `null` only for a step on a hot path whose outcome writes the event, or where nothing changed. */
  audit: AuditEntry | null;
  outbox?: readonly OutboxEntry[];
}

/**
 * Makes a change: one transaction with the change itself, its audit event, its outbox rows and, where the request
 * has an `Idempotency-Key`, its answer. The only place that opens a write transaction.
 * A repeated key with the same request answers as before and changes nothing; with another request it throws
 * `idempotency_key_reused`. Retries where PostgreSQL asks for it, so `change` must do nothing outside `sql`.
 */
export async function write<T>(
  context: WriteContext,
  change: (sql: Sql, now: Date) => Promise<Outcome<T>>,
): Promise<T> {
  return retryTransaction(context.db, (sql) => apply(context, sql, change));
}

async function apply<T>(
  context: WriteContext,
  sql: Sql,
  change: (sql: Sql, now: Date) => Promise<Outcome<T>>,
): Promise<T> {
  const now = context.clock.now();
  if (context.idempotency) {
    const earlier = await claimIdempotencyKey(context, context.idempotency, sql, now);
    if (earlier !== undefined) return earlier.result as T;
  }
  const outcome = await change(sql, now);
  if (outcome.audit) await insertAuditEvents(sql, now, [toAuditEvent(context, outcome.audit)]);
  for (const entry of outcome.outbox ?? []) await insertOutboxEntry(sql, now, entry);
  if (context.idempotency) await storeResult(context, context.idempotency, sql, outcome.result);
  return outcome.result;
}

/** Waits on the unique index for a concurrent request with the same key, then gives its result. */
async function claimIdempotencyKey(
  context: WriteContext,
  idempotency: NonNullable<WriteContext['idempotency']>,
  sql: Sql,
  now: Date,
): Promise<{ result: unknown } | undefined> {
  const key = [context.scope, context.actor.id, idempotency.key];
  const inserted = await sql.query(
    `INSERT INTO idempotency_keys (environment_id, actor_id, key, operation, fingerprint, created_at)
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING key`,
    [...key, idempotency.operation, idempotency.fingerprint, now],
  );
  if (inserted.length > 0) return undefined;

  const [row] = await sql.query<{ operation: string; fingerprint: Buffer; result: Buffer }>(
    `SELECT operation, fingerprint, result FROM idempotency_keys
     WHERE environment_id = $1 AND actor_id = $2 AND key = $3`,
    key,
  );
  if (!row)
    throw new AppError(
      'conflict',
      'The first request with this Idempotency-Key has just expired; send it again',
    );
  if (row.operation !== idempotency.operation || !equalDigests(row.fingerprint, idempotency.fingerprint)) {
    throw new AppError(
      'idempotency_key_reused',
      'This Idempotency-Key was used for a request with another body or path; use a new key for a new request',
    );
  }
  const plain = context.box.open(row.result, idempotencyRow(context, idempotency.key));
  return parseTyped(plain.toString()) as { result: unknown };
}

async function storeResult(
  context: WriteContext,
  idempotency: NonNullable<WriteContext['idempotency']>,
  sql: Sql,
  result: unknown,
): Promise<void> {
  const sealed = context.box.seal(
    Buffer.from(stringifyTyped({ result })),
    idempotencyRow(context, idempotency.key),
  );
  await sql.query(
    'UPDATE idempotency_keys SET result = $4 WHERE environment_id = $1 AND actor_id = $2 AND key = $3',
    [context.scope, context.actor.id, idempotency.key, sealed],
  );
}

/** What a stored answer is sealed to: it may hold a signed payment, and opens in its own row only. */
function idempotencyRow(context: WriteContext, key: string): string {
  return `idempotency_keys/${context.scope}/${context.actor.id}/${key}`;
}

function toAuditEvent(context: WriteContext, entry: AuditEntry): AuditEvent {
  const { actor, requestId, clientAddress } = context;
  const { action, resource, scope = context.scope, data = {} } = entry;
  return { actor, requestId, clientAddress, scope, action, resource, data };
}

async function insertOutboxEntry(sql: Sql, now: Date, entry: OutboxEntry): Promise<void> {
  await sql.query('INSERT INTO outbox (environment_id, topic, payload, created_at) VALUES ($1, $2, $3, $4)', [
    entry.scope,
    entry.topic,
    JSON.stringify(entry.payload),
    now,
  ]);
  // Delivered at commit; a worker that misses it finds the row at its next poll.
  await sql.query("SELECT pg_notify('outbox', $1)", [entry.topic]);
}
