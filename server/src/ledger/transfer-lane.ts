import {
  type AuditEvent,
  createLane,
  type Database,
  type Origin,
  type Transaction,
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
  alongside?: (
    sql: Transaction,
    batch: readonly (Decided<Extra> & Origin)[],
    now: Date,
  ) => Promise<AuditEvent[]>;
}): TransferLane<Extra> {
  const { db, clock, alongside = auditTransfers } = options;
  const lane = createLane<Job<Extra>, TransferResult>({
    batchMax: limits.transferBatch,
    run: (jobs) =>
      writeBatch({ db, clock }, async (sql, now) => {
        const results = await applyTransfers(
          sql,
          jobs.map(({ operation }) => operation),
          now,
        );
        const decided = jobs.map((job, index) => {
          const result = results[index];
          assert(result, 'each operation has a result');
          return { ...job, result };
        });
        return { result: results, audits: await alongside(sql, decided, now) };
      }),
  });
  return {
    async submit(operation, origin, extra) {
      assertOperation(operation);
      return lane.submit({ ...origin, operation, extra });
    },
    stop: () => lane.stop(),
  };
}

type Job<Extra> = Origin & { operation: Operation; extra: Extra };

const verbs = { transfer: 'posted', reserve: 'reserved', post: 'posted', void: 'voided' } as const;

async function auditTransfers(
  _sql: Transaction,
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
