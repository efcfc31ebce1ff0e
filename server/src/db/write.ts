import { addSeconds, type Clock } from '../kernel/clock.ts';
import { equalDigests, type SecretBox } from '../kernel/crypto.ts';
import { AppError } from '../kernel/errors.ts';
import { parseTyped, stringifyTyped } from '../kernel/json.ts';
import { limits } from '../kernel/limits.ts';
import type { Database, Sql, Transaction } from './database.ts';
import { deleteInBatches } from './delete-in-batches.ts';
import {
  type Actor,
  type AuditEntry,
  insertAuditEvents,
  insertOutboxEntries,
  type OutboxEntry,
  type Scope,
} from './evidence-rows.ts';
import { runRetrying } from './retry.ts';

/** What a change is made with, and on whose behalf. */
export interface WriteContext {
  db: Database;
  clock: Clock;
  box: SecretBox;
  actor: Actor;
  scope: Scope;
  requestId: string | null;
  clientAddress: string | null;
  /** Present where the request carries an `Idempotency-Key`. */
  idempotency?: { key: string; operation: string; fingerprint: Buffer };
}

/** What a change gives back, and what is written down with it. */
export interface Outcome<T> {
  result: T;
  /**
   * Where the result holds a secret: what a repeated `Idempotency-Key` is answered with after `limits.secretShownSeconds`. The secret
   * isn't kept for longer.
   */
  laterResult?: T;
  /**
   * One for each thing that was changed; `null` only for a step on a hot path whose outcome writes the event, or where nothing
   * changed.
   */
  audit: AuditEntry | readonly AuditEntry[] | null;
  outbox?: readonly OutboxEntry[];
}

/**
 * Makes a change: one transaction with the change itself, its audit event, its outbox rows and, where the request
 * has an `Idempotency-Key`, its answer. The only place that opens a write transaction, `writeBatch` of hot paths apart.
 * A repeated key with the same request answers as before and changes nothing; with another request it throws
 * `idempotency_key_reused`. Retries where PostgreSQL asks for it, so `change` must do nothing outside `sql`.
 */
export async function write<T>(
  context: WriteContext,
  change: (sql: Transaction, now: Date) => Promise<Outcome<T>>,
): Promise<T> {
  return runRetrying(context.db, (sql) => apply(context, sql, change));
}

async function apply<T>(
  context: WriteContext,
  sql: Transaction,
  change: (sql: Transaction, now: Date) => Promise<Outcome<T>>,
): Promise<T> {
  const now = context.clock.now();
  if (context.idempotency) {
    const earlier = await claimIdempotencyKey(context, context.idempotency, sql, now);
    if (earlier !== undefined) return earlier.result as T;
  }
  const outcome = await change(sql, now);
  const audits = [outcome.audit ?? []].flat();
  insertAuditEvents(
    sql,
    now,
    audits.map((audit) => ({ ...context, ...audit })),
  );
  insertOutboxEntries(sql, now, outcome.outbox ?? []);
  if (context.idempotency) storeResult(context, context.idempotency, sql, outcome);
  return outcome.result;
}

/**
 * For an operation whose `write()` comes last, after what can't be undone. Throws `idempotency_key_reused` where the request's key was
 * used for another request; `write()` itself still decides between requests that come at once.
 */
export async function refuseReusedKey(context: WriteContext): Promise<void> {
  if (context.idempotency) await findKept(context, context.idempotency, context.db);
}

/** Forgets answers that are a day old, and the secrets of those that are ten minutes old. Until then a repeated key gets the same one. */
export async function sweepIdempotencyKeys(context: { db: Database; clock: Clock }): Promise<void> {
  const now = context.clock.now();
  const before = addSeconds(now, -limits.idempotencySeconds);
  await deleteInBatches(context.db, {
    table: 'idempotency_keys',
    condition: 'created_at <= $1',
    values: [before],
  });
  for (;;) {
    const rows = await context.db.query(
      `UPDATE idempotency_keys SET result = later_result, later_result = NULL WHERE ctid = ANY(ARRAY(
         SELECT ctid FROM idempotency_keys WHERE later_result IS NOT NULL AND created_at <= $1
         LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1 AS one`,
      [addSeconds(now, -limits.secretShownSeconds), limits.sweepBatch],
    );
    if (rows.length < limits.sweepBatch) return;
  }
}

/** Waits on the unique index for a concurrent request with the same key, then gives its result. */
async function claimIdempotencyKey(
  context: WriteContext,
  idempotency: NonNullable<WriteContext['idempotency']>,
  sql: Transaction,
  now: Date,
): Promise<{ result: unknown } | undefined> {
  const key = [context.scope, context.actor.id, idempotency.key];
  const inserted = await sql.query(
    `INSERT INTO idempotency_keys (environment_id, actor_id, key, operation, fingerprint, created_at)
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING key`,
    [...key, idempotency.operation, idempotency.fingerprint, now],
  );
  if (inserted.length > 0) return undefined;

  const row = await findKept(context, idempotency, sql);
  if (!row)
    throw new AppError(
      'conflict',
      'The first request with this Idempotency-Key has just expired; send it again',
    );
  const isLate = addSeconds(row.createdAt, limits.secretShownSeconds) <= now;
  const kept = isLate ? (row.laterResult ?? row.result) : row.result;
  const plain = context.box.open(kept, idempotencyRow(context, idempotency.key));
  return parseTyped(plain.toString()) as { result: unknown };
}

interface Kept {
  operation: string;
  fingerprint: Buffer;
  result: Buffer;
  laterResult: Buffer | null;
  createdAt: Date;
}

/** What is kept under a key. Throws `idempotency_key_reused` where that is of another request. */
async function findKept(
  context: WriteContext,
  idempotency: NonNullable<WriteContext['idempotency']>,
  sql: Sql,
): Promise<Kept | undefined> {
  const [row] = await sql.query<Kept>(
    `SELECT operation, fingerprint, result, later_result, created_at FROM idempotency_keys
     WHERE environment_id = $1 AND actor_id = $2 AND key = $3`,
    [context.scope, context.actor.id, idempotency.key],
  );
  if (!row) return undefined;
  if (row.operation === idempotency.operation && equalDigests(row.fingerprint, idempotency.fingerprint))
    return row;
  throw new AppError(
    'idempotency_key_reused',
    'This Idempotency-Key was used for a request with another body or path; use a new key for a new request',
  );
}

function storeResult(
  context: WriteContext,
  idempotency: NonNullable<WriteContext['idempotency']>,
  sql: Transaction,
  { result, laterResult }: Outcome<unknown>,
): void {
  const seal = (value: unknown) =>
    context.box.seal(
      Buffer.from(stringifyTyped({ result: value })),
      idempotencyRow(context, idempotency.key),
    );
  sql.send(
    `UPDATE idempotency_keys SET result = $4, later_result = $5
     WHERE environment_id = $1 AND actor_id = $2 AND key = $3`,
    [
      context.scope,
      context.actor.id,
      idempotency.key,
      seal(result),
      laterResult === undefined ? null : seal(laterResult),
    ],
  );
}

/** What a stored answer is sealed to: it may hold a signed payment, and opens in its own row only. */
function idempotencyRow(context: WriteContext, key: string): string {
  return `idempotency_keys/${context.scope}/${context.actor.id}/${key}`;
}
