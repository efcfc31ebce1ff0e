import { write, type WriteContext } from '../../db/index.ts';
import { addSeconds } from '../../kernel/clock.ts';
import { AppError } from '../../kernel/errors.ts';
import { type EnvironmentId, type LinkId, newId } from '../../kernel/ids.ts';
import { limits } from '../../kernel/limits.ts';
import { findOpenEnvironments } from './agent-links.sql.ts';
import { type ActingAgent, lockActingAgent } from '../oauth/acting-agent.ts';
import { type LinkRequest, newUserCode } from './link-request.ts';
import { findLinkRequestOf, insertLinkRequest } from './links.sql.ts';

/**
 * The environments that the agent may act in. Throws `agent_not_linked` where there is none, with the `authorizationUrl` for a
 * person to open and the `user_code` that they will be asked for: the same ones for ten minutes, then new ones.
 */
export async function demandLink(
  context: WriteContext,
  acting: ActingAgent,
  authorizationUrl: (id: LinkId) => string,
): Promise<EnvironmentId[]> {
  const open = await findOpenEnvironments(context.db, acting.agentId);
  if (open.length > 0) return open;
  const { request, userCode } = await getLinkRequest(context, acting);
  const next = { authorizationUrl: authorizationUrl(request.id), user_code: userCode };
  throw new AppError(
    'agent_not_linked',
    `The agent is not linked to a wallet: ask your user to open ${next.authorizationUrl} and to type the code ${userCode}`,
    { next, extra: { ...next, expiresAt: request.expiresAt.toISOString() } },
  );
}

async function getLinkRequest(
  whole: WriteContext,
  acting: ActingAgent,
): Promise<{ request: LinkRequest; userCode: string }> {
  const { agentId } = acting;
  // A refusal is not the answer that an Idempotency-Key stands for.
  const { idempotency: _idempotency, ...context } = whole;
  const userCode = newUserCode();
  const id = newId('link');
  return write(context, async (sql, now) => {
    await lockActingAgent(sql, acting, now);
    const earlier = await findLinkRequestOf(sql, agentId);
    if (earlier && now < earlier.expiresAt && earlier.wrongCodes < limits.wrongUserCodes) {
      const plain = context.box.open(earlier.userCode, codeRow(earlier.id)).toString();
      return { result: { request: earlier, userCode: plain }, audit: null };
    }
    const request: LinkRequest = {
      id,
      agentId,
      wrongCodes: 0,
      clientAddress: context.clientAddress,
      createdAt: now,
      expiresAt: addSeconds(now, limits.linkRequestSeconds),
    };
    const sealed = context.box.seal(Buffer.from(userCode), codeRow(id));
    await insertLinkRequest(sql, { ...request, userCode: sealed });
    const audit = { action: 'agent.link_requested', resource: agentId, data: { link_id: id } };
    return { result: { request, userCode }, audit };
  });
}

/** What a code is sealed to. */
export function codeRow(id: LinkId): string {
  return `agent_link_requests/${id}/user_code`;
}
