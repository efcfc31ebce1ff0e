import { type Database, deleteInBatches, writeBatch } from '../../db/index.ts';
import { addSeconds, type Clock } from '../../kernel/clock.ts';
import { sha256 } from '../../kernel/crypto.ts';
import { limits } from '../../kernel/limits.ts';

/** Lets what may be used once be used once, on any number of processes. */
export interface ProofRegister {
  /** Whether this is the first use. Durable when it resolves. `owner` is the key or client whose `jti` it is. */
  use(kind: 'assertion' | 'dpop', owner: string, jti: string, expiresAt: Date): Promise<boolean>;
}

interface Waiting {
  id: Buffer;
  expiresAt: Date;
  resolve(isFirst: boolean): void;
  reject(error: unknown): void;
}

/** Concurrent uses share a transaction: a row each, no audit event of its own, as it is a step on the way to an answer. */
export function createProofRegister(context: { db: Database; clock: Clock }): ProofRegister {
  const queue: Waiting[] = [];
  let running = false;

  async function runBatch(batch: readonly Waiting[]): Promise<void> {
    try {
      const first = await insertProofs(context, batch);
      for (const one of batch) one.resolve(first.delete(one.id.toString('latin1')));
    } catch (error) {
      for (const one of batch) one.reject(error);
    }
  }

  async function drain(): Promise<void> {
    running = true;
    // Callers of the same turn of the event loop come along.
    await new Promise((resolve) => setImmediate(resolve));
    while (queue.length > 0) await runBatch(queue.splice(0, limits.tokenBatch));
    running = false;
  }

  return {
    use(kind, owner, jti, expiresAt) {
      const { promise, resolve, reject } = Promise.withResolvers<boolean>();
      queue.push({ id: sha256(JSON.stringify([kind, owner, jti])), expiresAt, resolve, reject });
      if (!running) void drain();
      return promise;
    },
  };
}

/** The ids that were not there. In one order, so that two processes never wait for each other. */
async function insertProofs(
  context: { db: Database; clock: Clock },
  batch: readonly Waiting[],
): Promise<Set<string>> {
  const sorted = batch.toSorted((left, right) => Buffer.compare(left.id, right.id));
  return writeBatch(context, async (sql) => {
    const rows = await sql.query<{ id: Buffer }>(
      `INSERT INTO used_proofs (id, expires_at) SELECT * FROM unnest($1::bytea[], $2::timestamptz[])
       ON CONFLICT DO NOTHING RETURNING id`,
      [sorted.map(({ id }) => id), sorted.map(({ expiresAt }) => expiresAt)],
    );
    return { result: new Set(rows.map(({ id }) => id.toString('latin1'))), audits: [] };
  });
}

/** Forgets what could not be used any more anyway, with room for clocks that differ. */
export async function sweepProofs(context: { db: Database; clock: Clock }): Promise<void> {
  const values = [addSeconds(context.clock.now(), -limits.clockSkewSeconds)];
  await deleteInBatches(context.db, { table: 'used_proofs', condition: 'expires_at < $1', values });
}
