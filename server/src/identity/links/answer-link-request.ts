import { type Sql, write, type WriteContext } from '../../db/index.ts';
import { AppError } from '../../kernel/errors.ts';
import { type EnvironmentId, isId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import type { Agent } from '../agents/agent.ts';
import { findAgent, notifyAgentsChanged } from '../agents/agents.sql.ts';
import { codeRow } from './demand-link.ts';
import { isSameCode, type LinkRequest } from './link-request.ts';
import { linkAgent } from './link-agent.ts';
import { countWrongCode, deleteLinkRequest, findLinkRequest, type LinkRequestRow } from './links.sql.ts';

/** A request that still waits, with its agent. Throws `not_found` for one that was answered or came too late. */
export async function getLinkRequest(
  sql: Sql,
  id: string,
  now: Date,
): Promise<{ request: LinkRequest; agent: Agent }> {
  const { row, agent } = await getRow(sql, id, now, false);
  return { request: row, agent };
}

/**
 * A person links the agent to their environment. It may see its mandates and ask for more then, and spend nothing.
 * Throws `not_found`, `conflict` where the environment has stopped it, or `forbidden` where the code isn't the agent's; the fifth wrong one
 * ends the request.
 */
export async function approveLink(
  context: WriteContext,
  id: string,
  args: { environmentId: EnvironmentId; userCode: string },
): Promise<Agent> {
  const { environmentId } = args;
  const linked = await write<Agent | null>(context, async (sql, now) => {
    const { row, agent } = await getRow(sql, id, now, true);
    const code = context.box.open(row.userCode, codeRow(row.id)).toString();
    if (!isSameCode(code, args.userCode)) {
      await countWrongCode(sql, row.id);
      const audit = { action: 'agent.link_failed', resource: agent.id, data: { link_id: row.id } };
      return { result: null, audit };
    }
    await linkAgent(sql, { environmentId, agentId: agent.id, linkedBy: context.actor.id, now });
    await deleteLinkRequest(sql, row.id);
    await notifyAgentsChanged(sql, [agent.id]);
    return { result: agent, audit: { action: 'agent.linked', resource: agent.id } };
  });
  if (!linked) throw new AppError('forbidden', 'That is not the code which the agent shows; look again');
  return linked;
}

/** A person refuses: the address leads nowhere any more. */
export async function refuseLink(context: WriteContext, id: string): Promise<Agent> {
  return write(context, async (sql, now) => {
    const { row, agent } = await getRow(sql, id, now, true);
    await deleteLinkRequest(sql, row.id);
    return { result: agent, audit: { action: 'agent.link_refused', resource: agent.id } };
  });
}

async function getRow(
  sql: Sql,
  id: string,
  now: Date,
  lock: boolean,
): Promise<{ row: LinkRequestRow; agent: Agent }> {
  const row = isId('link', id) ? await findLinkRequest(sql, id, lock) : undefined;
  const waits = row && now < row.expiresAt && row.wrongCodes < limits.wrongUserCodes;
  const agent = waits ? await findAgent(sql, row.agentId) : undefined;
  if (!row || !agent) {
    throw new AppError(
      'not_found',
      'Nothing waits here: the request was answered, or is too old; the agent has to ask again',
    );
  }
  return { row, agent };
}
