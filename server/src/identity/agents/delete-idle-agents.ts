import { type Origin, writeBatch, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { deleteEndedAgents, endIdleAgents } from './agents.sql.ts';
import { deleteUsageDays } from './usage.sql.ts';

/** No token of an agent lives longer than this: until then every process must find what ended it. */
const tokenSecondsMax = limits.accessTokenSeconds + 10 * limits.clockSkewSeconds;

/**
 * Ends self-registered agents that nobody has linked and that did nothing for thirty days, and deletes them once their last tokens have
 * expired: counts reach the database some seconds late, so that one of them may have been given a token a moment ago. Gives how
 * many were ended.
 */
export async function sweepIdleAgents(context: WriteContext): Promise<number> {
  await inBatches(limits.idleAgentBatch, () => deleteBatch(context));
  return inBatches(limits.idleAgentBatch, () => endBatch(context));
}

/** Forgets what agents did on days of more than a year ago; their totals stay. */
export async function sweepUsage(context: WriteContext): Promise<void> {
  await inBatches(limits.sweepBatch, () =>
    writeBatch(context, async (sql, now) => {
      const before = addSeconds(now, -limits.usageDaysKept * 24 * 60 * 60);
      return { result: await deleteUsageDays(sql, { before, limit: limits.sweepBatch }), audits: [] };
    }),
  );
}

async function inBatches(size: number, run: () => Promise<number>): Promise<number> {
  let total = 0;
  for (;;) {
    const count = await run();
    total += count;
    if (count < size) return total;
  }
}

async function endBatch(context: WriteContext & Origin): Promise<number> {
  return writeBatch(context, async (sql, now) => {
    const ids = await endIdleAgents(sql, {
      idleSince: addSeconds(now, -limits.idleAgentSeconds),
      limit: limits.idleAgentBatch,
      now,
    });
    return {
      result: ids.length,
      audits: ids.map((id) => ({
        ...context,
        action: 'agent.deleted',
        resource: id,
        data: { reason: 'idle' },
      })),
    };
  });
}

/** Its event was written when it ended. */
async function deleteBatch(context: WriteContext): Promise<number> {
  return writeBatch(context, async (sql, now) => {
    const endedBefore = addSeconds(now, -tokenSecondsMax);
    const count = await deleteEndedAgents(sql, { endedBefore, limit: limits.idleAgentBatch });
    return { result: count, audits: [] };
  });
}
