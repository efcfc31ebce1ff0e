import type { Sql } from '../../db/index.ts';
import { type AgentId, type EnvironmentId, isAgentId, isId } from '../../kernel/ids.ts';
import type { Agent, LinkedAgent, StateChange } from './agent.ts';

/** Every process hears on it of an agent whose state, expiry, rights or epoch has changed: the payload is the agent's id. */
export const agentChangedChannel = 'agent_changed';

const columns =
  `id client_id name type description client_info email scopes tags metadata home_environment_id status
  suspended_at deactivated_at expires_at tokens_valid_from self_rotation refresh_without_client_auth sender_bound
  created_at updated_at`.split(/\s+/);
/** The members of `Agent`, of a table that the query calls `a`. */
export const agentColumns = columns.map((name) => `a.${name}`).join(', ');

export async function insertAgent(sql: Sql, agent: Agent): Promise<void> {
  const places = columns.map((_, index) => `$${index + 1}`).join(', ');
  await sql.query(`INSERT INTO agents (${columns.join(', ')}) VALUES (${places})`, [
    agent.id,
    agent.clientId,
    agent.name,
    agent.type,
    agent.description,
    agent.clientInfo,
    agent.email,
    agent.scopes,
    agent.tags,
    JSON.stringify(agent.metadata),
    agent.homeEnvironmentId,
    agent.status,
    agent.suspendedAt,
    agent.deactivatedAt,
    agent.expiresAt,
    agent.tokensValidFrom,
    agent.selfRotation,
    agent.refreshWithoutClientAuth,
    agent.senderBound,
    agent.createdAt,
    agent.updatedAt,
  ]);
}

/** Whatever its state, but not once it is deleted. */
export async function findAgent(sql: Sql, id: AgentId): Promise<Agent | undefined> {
  const [row] = await sql.query<Agent>(
    `SELECT ${agentColumns} FROM agents a WHERE a.id = $1 AND a.deleted_at IS NULL`,
    [id],
  );
  return row;
}

/** By what a client calls itself: `cid_…`, or the bare agent id. */
export async function findAgentByClientId(sql: Sql, clientId: string): Promise<Agent | undefined> {
  if (isAgentId(clientId)) return findAgent(sql, clientId);
  if (!isId('client', clientId)) return undefined;
  const [row] = await sql.query<Agent>(
    `SELECT ${agentColumns} FROM agents a WHERE a.client_id = $1 AND a.deleted_at IS NULL`,
    [clientId],
  );
  return row;
}

/**
 * As `findAgent`, holding the row: changes of an agent and of its credentials come one after another. None waits for what refers to the
 * agent by a foreign key, which it may write as often as it likes.
 */
export async function lockAgent(sql: Sql, id: AgentId): Promise<Agent | undefined> {
  const [row] = await sql.query<Agent>(
    `SELECT ${agentColumns} FROM agents a WHERE a.id = $1 AND a.deleted_at IS NULL FOR NO KEY UPDATE`,
    [id],
  );
  return row;
}

/** The agent, if the environment is linked to it; `lock` as in `lockAgent`, and the link is then what its last holder left. */
export async function findLinkedAgent(
  sql: Sql,
  environmentId: EnvironmentId,
  id: AgentId,
  lock = false,
): Promise<LinkedAgent | undefined> {
  const linked = `FROM agents a JOIN agent_links l ON l.agent_id = a.id
    WHERE l.environment_id = $1 AND a.id = $2 AND a.deleted_at IS NULL`;
  // Read again once the lock was got: a statement that waited for it has the link as it was before.
  if (lock) await sql.query(`SELECT a.id ${linked} FOR NO KEY UPDATE OF a`, [environmentId, id]);
  const [row] = await sql.query<LinkedAgent>(`SELECT ${agentColumns}, l.stopped_at ${linked}`, [
    environmentId,
    id,
  ]);
  return row;
}

/** Those that the environment is linked to, newest first; `before` is the id that the last page ended with. */
export async function listAgents(
  sql: Sql,
  args: {
    environmentId: EnvironmentId;
    before: AgentId | null;
    limit: number;
    /** Anywhere in name, description or client id, in whichever case. */
    search: string | null;
    /** All of them. */
    tags: readonly string[];
    /** As the environment sees it. */
    status: string | null;
  },
): Promise<LinkedAgent[]> {
  const pattern = args.search === null ? null : `%${args.search.replaceAll(/[\\%_]/g, '\\$&')}%`;
  return sql.query<LinkedAgent>(
    `SELECT ${agentColumns}, l.stopped_at FROM agent_links l JOIN agents a ON a.id = l.agent_id
     WHERE l.environment_id = $1 AND a.deleted_at IS NULL AND ($2::uuid IS NULL OR l.agent_id < $2)
       AND ($4::text IS NULL OR a.name ILIKE $4 OR a.description ILIKE $4 OR a.client_id ILIKE $4)
       AND a.tags @> $5::text[]
       AND ($6::text IS NULL OR $6 = CASE WHEN l.stopped_at IS NULL THEN a.status ELSE 'suspended' END)
     ORDER BY l.agent_id DESC LIMIT $3`,
    [args.environmentId, args.before, args.limit, pattern, args.tags, args.status],
  );
}

/**
 * The time of a change of a row, which is also its version: later than the one before, as a change may have waited for another that
 * began after it. Who knows a later version believes no earlier one.
 */
export const versionAt = (place: string) =>
  `greatest(updated_at + interval '1 millisecond', ${place}::timestamptz)`;

/** Writes what its owner may change, and gives when. The row is locked by the caller. */
export async function updateAgent(sql: Sql, agent: Agent, now: Date): Promise<Date> {
  const rows = await sql.query<{ updatedAt: Date }>(
    `UPDATE agents SET name = $2, type = $3, description = $4, scopes = $5, tags = $6, metadata = $7, expires_at = $8,
       self_rotation = $9, refresh_without_client_auth = $10, sender_bound = $11,
       tokens_valid_from = greatest(tokens_valid_from, $12), updated_at = ${versionAt('$13')} WHERE id = $1
     RETURNING updated_at`,
    [
      agent.id,
      agent.name,
      agent.type,
      agent.description,
      agent.scopes,
      agent.tags,
      JSON.stringify(agent.metadata),
      agent.expiresAt,
      agent.selfRotation,
      agent.refreshWithoutClientAuth,
      agent.senderBound,
      agent.tokensValidFrom,
      now,
    ],
  );
  await notifyAgentsChanged(sql, [agent.id]);
  return rows[0]?.updatedAt ?? now;
}

/** Writes a change of state, and gives when. Tokens and refresh families that began before it are dead for good. */
export async function updateAgentState(
  sql: Sql,
  id: AgentId,
  change: StateChange,
  now: Date,
): Promise<{ tokensValidFrom: Date; updatedAt: Date }> {
  const [row] = await sql.query<{ tokensValidFrom: Date; updatedAt: Date }>(
    `UPDATE agents SET status = $2, suspended_at = $3, deactivated_at = $4,
       tokens_valid_from = greatest(tokens_valid_from, $5), updated_at = ${versionAt('$5')} WHERE id = $1
     RETURNING tokens_valid_from, updated_at`,
    [id, change.status, change.suspendedAt, change.deactivatedAt, now],
  );
  await notifyAgentsChanged(sql, [id]);
  return row ?? { tokensValidFrom: now, updatedAt: now };
}

/** Says that what belongs to the agent has changed, though not its own row: its credentials. Gives when. */
export async function touchAgent(sql: Sql, id: AgentId, now: Date): Promise<Date> {
  const [row] = await sql.query<{ updatedAt: Date }>(
    `UPDATE agents SET updated_at = ${versionAt('$2')} WHERE id = $1 RETURNING updated_at`,
    [id, now],
  );
  await notifyAgentsChanged(sql, [id]);
  return row?.updatedAt ?? now;
}

/** Ends them: nothing finds them any more, and what refers to them stays. Their links and credentials end with them. */
export async function markAgentsDeleted(sql: Sql, ids: readonly AgentId[], now: Date): Promise<void> {
  await sql.query(
    `UPDATE agents SET deleted_at = $2, tokens_valid_from = $2, updated_at = ${versionAt('$2')},
       status = CASE WHEN suspended_at IS NOT NULL THEN 'suspended' ELSE 'inactive' END WHERE id = ANY($1)`,
    [ids, now],
  );
  await sql.query(
    'UPDATE agent_credentials SET revoked_at = $2 WHERE agent_id = ANY($1) AND revoked_at IS NULL',
    [ids, now],
  );
  await sql.query('DELETE FROM agent_links WHERE agent_id = ANY($1)', [ids]);
  await notifyAgentsChanged(sql, ids);
}

/** Ends agents without a home and without links that did nothing since then; gives their ids. */
export async function endIdleAgents(
  sql: Sql,
  args: { idleSince: Date; limit: number; now: Date },
): Promise<AgentId[]> {
  // One that is being linked at this moment is held by the link's foreign key, and skipped.
  const rows = await sql.query<{ id: AgentId }>(
    `SELECT a.id FROM agents a
     WHERE a.home_environment_id IS NULL AND a.deleted_at IS NULL AND a.updated_at < $1
       AND NOT EXISTS (SELECT 1 FROM agent_links l WHERE l.agent_id = a.id)
       AND NOT EXISTS (SELECT 1 FROM agent_usage u WHERE u.agent_id = a.id AND u.last_active_at >= $1)
     ORDER BY a.id LIMIT $2 FOR UPDATE OF a SKIP LOCKED`,
    [args.idleSince, args.limit],
  );
  const ids = rows.map((row) => row.id);
  await markAgentsDeleted(sql, ids, args.now);
  return ids;
}

/** Deletes agents that were idle and ended before then. Of others, what they did stays in the books. */
export async function deleteEndedAgents(
  sql: Sql,
  args: { endedBefore: Date; limit: number },
): Promise<number> {
  const rows = await sql.query(
    `DELETE FROM agents WHERE id IN (
       SELECT a.id FROM agents a WHERE a.home_environment_id IS NULL AND a.deleted_at < $1
         AND NOT EXISTS (SELECT 1 FROM agent_links l WHERE l.agent_id = a.id)
       ORDER BY a.deleted_at LIMIT $2 FOR UPDATE OF a SKIP LOCKED)
     RETURNING id`,
    [args.endedBefore, args.limit],
  );
  return rows.length;
}

/** Tells every process that what it knows of the agents is old. Delivered at commit. */
export async function notifyAgentsChanged(sql: Sql, ids: readonly AgentId[]): Promise<void> {
  await sql.query('SELECT pg_notify($1, id) FROM unnest($2::text[]) AS id', [agentChangedChannel, ids]);
}

/** Has changes of the agent's state wait until the transaction ends; false where there is no such agent any more. */
export async function holdAgent(sql: Sql, id: AgentId): Promise<boolean> {
  const rows = await sql.query('SELECT 1 AS one FROM agents WHERE id = $1 AND deleted_at IS NULL FOR SHARE', [
    id,
  ]);
  return rows.length > 0;
}

/** Of advisory locks. Agents share 256 of them, so that a stop of all agents of an environment takes no more of the database's room for locks. */
const actingLock = 402_002;
const actingLockOf = (id: string) => `hashtext(${id}::text) & 255`;

/**
 * Has stops of the agent wait until the transaction ends, and waits for those that wait already: each in turn. A lock of the row lets in
 * whoever shares it, so that an agent which is always acting would never be stopped.
 */
export async function beginActing(sql: Sql, id: AgentId): Promise<void> {
  await sql.query(`SELECT pg_advisory_xact_lock_shared($1, ${actingLockOf('$2')})`, [actingLock, id]);
}

/** Waits for what these agents are doing, see `beginActing`, and has them do nothing until the transaction ends. Their rows are locked by the caller. */
export async function waitForActing(sql: Sql, ids: readonly AgentId[]): Promise<void> {
  await sql.query(
    // In one order, so that two of them don't wait for each other in a ring.
    `SELECT pg_advisory_xact_lock($1, place) FROM (
       SELECT DISTINCT ${actingLockOf('id')} AS place FROM unnest($2::text[]) AS id ORDER BY place) AS places`,
    [actingLock, ids],
  );
}
