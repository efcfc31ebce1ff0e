import type { Sql } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { waitForActing } from './agents.sql.ts';

/**
 * Waits for what these agents are doing, and has them do nothing until the transaction ends. Gives the time of that, for what ends with
 * it: whatever they were given while it waited is of before. Their rows are locked by the caller.
 */
export async function endActing(
  sql: Sql,
  { clock }: { clock: Clock },
  ids: readonly AgentId[],
): Promise<Date> {
  await waitForActing(sql, ids);
  return clock.now();
}
