import type { Sql } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { holdAgent } from '../agents/agents.sql.ts';
import { findLink, insertLink } from './agent-links.sql.ts';

/**
 * Links an agent to the environment on behalf of a person; one that is linked stays so. Throws `not_found` where the agent was deleted, and `conflict` where the environment has stopped
 * it: whoever agrees to something else doesn't lift that by the way.
 */
export async function linkAgent(
  sql: Sql,
  row: { environmentId: EnvironmentId; agentId: AgentId; linkedBy: string; now: Date },
): Promise<void> {
  if (!(await holdAgent(sql, row.agentId)))
    throw new AppError('not_found', 'There is no such agent any more');
  await insertLink(sql, row);
  const link = await findLink(sql, row.environmentId, row.agentId);
  if (!link || link.stoppedAt === null) return;
  throw new AppError(
    'conflict',
    `You have stopped this agent: start it again first, with POST /v1/agents/${row.agentId}/reactivate`,
  );
}
