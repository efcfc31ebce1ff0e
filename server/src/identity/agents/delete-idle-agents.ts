import { type Origin, writeBatch, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { limits } from '../../kernel/limits.ts';
import { deleteIdleAgents } from './agents.sql.ts';

/** Deletes self-registered agents that nobody has linked and that did nothing for thirty days. Gives how many. */
export async function sweepIdleAgents(context: WriteContext): Promise<number> {
  let total = 0;
  for (;;) {
    const count = await sweepBatch(context);
    total += count;
    if (count < limits.idleAgentBatch) return total;
  }
}

async function sweepBatch(context: WriteContext & Origin): Promise<number> {
  return writeBatch(context, async (sql, now) => {
    const ids = await deleteIdleAgents(sql, {
      idleSince: addSeconds(now, -limits.idleAgentSeconds),
      limit: limits.idleAgentBatch,
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
