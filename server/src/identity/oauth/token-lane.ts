import { createLane, type Database, writeStatement } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { type Grant, grantTables, grantValues } from './refresh-families.sql.ts';

/**
 * Writes grants down: the concurrent ones in one transaction, with an audit event each. In that transaction the credential must still
 * be good and the agent the one that was decided on, so that memory makes it fast and never wrong.
 */
export interface TokenLane {
  /** Resolves once the grant is committed; with false where it isn't, because agent or credential have changed. */
  submit(grant: Grant): Promise<boolean>;
  /** Refuses what comes from now on, and resolves when all that came before has been written. */
  stop(): Promise<void>;
}

export function createTokenLane(context: { db: Database; clock: Clock }): TokenLane {
  const grants = createLane<Grant, boolean>({
    batchMax: limits.tokenBatch,
    intervalMs: limits.tokenBatchMs,
    // Grants don't touch each other's rows, so that one batch is written while another is on its way to the disk.
    underWayMax: 2,
    run: (jobs) => commitGrants(context, jobs),
  });
  return {
    submit: (grant) => grants.submit(grant),
    stop: () => grants.stop(),
  };
}

async function commitGrants(
  context: { db: Database; clock: Clock },
  grants: readonly Grant[],
): Promise<boolean[]> {
  const committed = await writeStatement(context, {
    name: 'grant_tokens',
    tables: grantTables,
    values: grantValues(grants),
  });
  return grants.map((_, index) => committed.has(index + 1));
}
