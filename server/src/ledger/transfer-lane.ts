import {
  type AuditEvent,
  type Database,
  findSqlState,
  type Origin,
  type Sql,
  writeBatch,
} from '../db/index.ts';
import { assert } from '../kernel/assert.ts';
import type { Clock } from '../kernel/clock.ts';
import type { JsonObject } from '../kernel/json.ts';
import { limits } from '../kernel/limits.ts';
import { applyTransfers } from './apply-transfers.ts';
import { assertOperation, nameOf, type Operation, type TransferResult } from './transfer.ts';

/** One operation of a batch with what its caller gave beside it, and how it was decided. */
export interface Decided<Extra> {
  operation: Operation;
  extra: Extra;
  result: TransferResult;
}

export interface TransferLane<Extra> {
  /**
   * Resolves with the operation's own result once it is committed. Rejects where that failed or isn't known; the same
   * operation may then be given again, and is a `duplicate` if it had been committed after all.
   */
  submit(operation: Operation, origin: Origin, extra: Extra): Promise<TransferResult>;
  /** Refuses what comes from now on, and resolves when all that came before has its answer. */
  stop(): Promise<void>;
}

/**
 * Gathers the operations of concurrent callers into one transaction at a time, decided in the order of their arrival.
 * This is one of the hot batches (`writeBatch`): its audit events are its own, one for each operation that changed
 * something, unless `alongside` gives others.
 *
 * `alongside` is where another room's rows join the same commit, such as a claim with its reservation: it runs once for a
 * batch, after the transfers were written, for all their callers (so: `unnest`), and gives the audit events that stand in
 * place of the ledger's own. It sees refusals and duplicates too. What it throws fails the batch. It may run more than
 * once, and must do nothing outside `sql`.
 */
export function createTransferLane<Extra = undefined>(options: {
  db: Database;
  clock: Clock;
  alongside?: (sql: Sql, batch: readonly (Decided<Extra> & Origin)[], now: Date) => Promise<AuditEvent[]>;
}): TransferLane<Extra> {
  const { db, clock, alongside = auditTransfers } = options;
  const queue: Waiting<Extra>[] = [];
  let running: Promise<void> | undefined;
  let stopped = false;

  async function commit(batch: readonly Waiting<Extra>[]): Promise<TransferResult[]> {
    return writeBatch({ db, clock }, async (sql, now) => {
      const results = await applyTransfers(
        sql,
        batch.map(({ operation }) => operation),
        now,
      );
      const decided = batch.map(({ operation, extra, origin }, index) => {
        const result = results[index];
        assert(result, 'each operation has a result');
        return { ...origin, operation, extra, result };
      });
      return { result: results, audits: await alongside(sql, decided, now) };
    });
  }

  async function runBatch(batch: readonly Waiting<Extra>[]): Promise<void> {
    try {
      const results = await commit(batch);
      batch.forEach(({ resolve }, index) => resolve(results[index] as TransferResult));
    } catch (error) {
      // One operation that PostgreSQL refuses to store must not fail its neighbours.
      if (batch.length > 1 && isRefused(error)) for (const one of batch) await runBatch([one]);
      else for (const { reject } of batch) reject(error);
    }
  }

  async function drain(): Promise<void> {
    // Callers of the same turn of the event loop come along.
    await new Promise((resolve) => setImmediate(resolve));
    while (queue.length > 0) await runBatch(queue.splice(0, limits.transferBatch));
    running = undefined;
  }

  return {
    async submit(operation, origin, extra) {
      assert(!stopped, 'nothing is submitted to a lane that was stopped');
      assertOperation(operation);
      const { promise, resolve, reject } = Promise.withResolvers<TransferResult>();
      queue.push({ operation, origin, extra, resolve, reject });
      running ??= drain();
      return promise;
    },
    async stop() {
      stopped = true;
      await running;
    },
  };
}

interface Waiting<Extra> {
  operation: Operation;
  origin: Origin;
  extra: Extra;
  resolve: (result: TransferResult) => void;
  reject: (error: unknown) => void;
}

/** Data that can't be stored, or that another transaction stored first: SQLSTATE classes 22 and 23. */
function isRefused(error: unknown): boolean {
  return /^2[23]/.test(findSqlState(error) ?? '');
}

const verbs = { transfer: 'posted', reserve: 'reserved', post: 'posted', void: 'voided' } as const;

async function auditTransfers(
  _sql: Sql,
  batch: readonly (Decided<unknown> & Origin)[],
): Promise<AuditEvent[]> {
  return batch
    .filter(({ result }) => result.kind === 'ok')
    .map(({ operation, result, actor, requestId, clientAddress }) => {
      const { environmentId, key } = nameOf(operation);
      return {
        actor,
        requestId,
        clientAddress,
        scope: environmentId,
        action: `transfer.${verbs[operation.kind]}`,
        resource: key,
        data: describe(operation, result),
      };
    });
}

function describe(operation: Operation, result: TransferResult): JsonObject {
  const amount = 'amount' in result ? result.amount.toString() : '0';
  if (operation.kind === 'post' || operation.kind === 'void') return { amount };
  const { debit, credit, currency } = operation;
  return { amount, currency, debit: { ...debit }, credit: { ...credit } };
}
