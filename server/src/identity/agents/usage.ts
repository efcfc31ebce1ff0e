import { type Database, writeBatch } from '../../db/index.ts';
import type { Clock } from '../../kernel/clock.ts';
import type { AgentId } from '../../kernel/ids.ts';
import { addUsage, type UsageRow } from './usage.sql.ts';

/** What is counted: a request that a token let in, a token given for a credential, and one given for a refresh token. */
export type UsageKind = 'refresh' | 'request' | 'token';

/** Counts what agents do, in memory; nothing is written where it is counted. */
export interface AgentUsage {
  count(agentId: AgentId, kind: UsageKind): void;
  /** Writes what was counted since the last time, in one batch. What fails to be written is kept for the next. */
  flush(): Promise<void>;
}

const counterOf = { refresh: 'refreshes', request: 'requests', token: 'tokens' } as const;

/** The counter of this process. A process that is killed loses the counts of a few seconds. */
export function createAgentUsage(context: { db: Database; clock: Clock }): AgentUsage {
  let counted = new Map<string, UsageRow>();

  return {
    count(agentId, kind) {
      const now = context.clock.now();
      const row = rowOf(counted, agentId, now);
      row[counterOf[kind]] += 1;
      if (kind !== 'request') row.lastTokenAt = now;
      row.lastActiveAt = now;
    },

    async flush() {
      if (counted.size === 0) return;
      const taken = counted;
      counted = new Map();
      try {
        await writeBatch(context, async (sql) => {
          await addUsage(sql, [...taken.values()]);
          return { result: undefined, audits: [] };
        });
      } catch (error) {
        for (const row of taken.values()) giveBack(counted, row);
        throw error;
      }
    },
  };
}

function rowOf(counted: Map<string, UsageRow>, agentId: AgentId, now: Date): UsageRow {
  const day = now.toISOString().slice(0, 10);
  const key = `${agentId} ${day}`;
  let row = counted.get(key);
  if (!row) {
    row = { agentId, day, tokens: 0, refreshes: 0, requests: 0, lastTokenAt: null, lastActiveAt: now };
    counted.set(key, row);
  }
  return row;
}

function giveBack(counted: Map<string, UsageRow>, row: UsageRow): void {
  const key = `${row.agentId} ${row.day}`;
  const later = counted.get(key);
  if (!later) {
    counted.set(key, row);
    return;
  }
  later.tokens += row.tokens;
  later.refreshes += row.refreshes;
  later.requests += row.requests;
  later.lastTokenAt ??= row.lastTokenAt;
}
