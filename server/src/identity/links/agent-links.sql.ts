import type { Sql } from '../../db/index.ts';
import type { AgentId, EnvironmentId } from '../../kernel/ids.ts';
import { notifyAgentsChanged, versionAt } from '../agents/agents.sql.ts';

/** Makes the agent one of the environment's. Linking twice is linking once. */
export async function insertLink(
  sql: Sql,
  row: { environmentId: EnvironmentId; agentId: AgentId; linkedBy: string; now: Date },
): Promise<void> {
  await sql.query(
    `INSERT INTO agent_links (environment_id, agent_id, linked_by, created_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING`,
    [row.environmentId, row.agentId, row.linkedBy, row.now],
  );
}

/** A link, with since when its environment has stopped the agent. */
export interface Link {
  agentId: AgentId;
  environmentId: EnvironmentId;
  stoppedAt: Date | null;
}

/** Every link of these agents. */
export async function findLinksOf(sql: Sql, agentIds: readonly AgentId[]): Promise<Link[]> {
  return sql.query<Link>(
    `SELECT agent_id, environment_id, stopped_at FROM agent_links WHERE agent_id = ANY($1)
     ORDER BY agent_id, environment_id`,
    [agentIds],
  );
}

/** The link between the two, if there is one. */
export async function findLink(
  sql: Sql,
  environmentId: EnvironmentId,
  agentId: AgentId,
): Promise<Link | undefined> {
  const [row] = await sql.query<Link>(
    'SELECT agent_id, environment_id, stopped_at FROM agent_links WHERE environment_id = $1 AND agent_id = $2',
    [environmentId, agentId],
  );
  return row;
}

/** The environments that an agent may act in: those that are linked to it and haven't stopped it. */
export async function findOpenEnvironments(sql: Sql, agentId: AgentId): Promise<EnvironmentId[]> {
  const rows = await sql.query<{ environmentId: EnvironmentId }>(
    `SELECT environment_id FROM agent_links WHERE agent_id = $1 AND stopped_at IS NULL
     ORDER BY created_at, environment_id`,
    [agentId],
  );
  return rows.map((row) => row.environmentId);
}

/** What a stop has made of an agent. */
export interface StoppedAgent {
  id: AgentId;
  /** Whether it ran for anybody until then. */
  wasRunning: boolean;
  /** Whether it is stopped for everybody by it, and not for the environment alone. */
  forAll: boolean;
}

/** Holds the agents that the environment is linked to and hasn't stopped, and gives them. */
export async function lockStoppableAgents(sql: Sql, environmentId: EnvironmentId): Promise<AgentId[]> {
  // In the order of ids, so that two such stops don't wait for each other in a ring.
  const rows = await sql.query<{ id: AgentId }>(
    `SELECT a.id FROM agents a JOIN agent_links l ON l.agent_id = a.id
     WHERE l.environment_id = $1 AND a.deleted_at IS NULL AND l.stopped_at IS NULL ORDER BY a.id FOR NO KEY UPDATE OF a`,
    [environmentId],
  );
  return rows.map(({ id }) => id);
}

/**
 * Stops these agents for the environment, and for everybody where it is their home, or the last that had not stopped one without a
 * home. The tokens and refresh families that they have are dead everywhere. The agents are locked by the caller; gives those that the
 * environment had not stopped before.
 */
export async function stopLinkedAgents(
  sql: Sql,
  environmentId: EnvironmentId,
  ids: readonly AgentId[],
  now: Date,
): Promise<StoppedAgent[]> {
  const links = await sql.query<{ agentId: AgentId }>(
    `UPDATE agent_links SET stopped_at = $3 WHERE environment_id = $1 AND agent_id = ANY($2) AND stopped_at IS NULL
     RETURNING agent_id`,
    [environmentId, ids, now],
  );
  const stopped = links.map(({ agentId }) => agentId);
  const rows = await sql.query<StoppedAgent>(
    `WITH ending AS (
       SELECT a.id, a.status = 'active' AS was_running, a.home_environment_id = $1 OR (a.home_environment_id IS NULL
         AND NOT EXISTS (SELECT 1 FROM agent_links l WHERE l.agent_id = a.id AND l.stopped_at IS NULL)) AS for_all
       FROM agents a WHERE a.id = ANY($2))
     UPDATE agents a SET suspended_at = CASE WHEN e.for_all THEN coalesce(a.suspended_at, $3) ELSE a.suspended_at END,
       status = CASE WHEN e.for_all THEN 'suspended' ELSE a.status END,
       tokens_valid_from = greatest(tokens_valid_from, $3), updated_at = ${versionAt('$3')}
     FROM ending e WHERE a.id = e.id RETURNING a.id, e.was_running, e.for_all`,
    [environmentId, stopped, now],
  );
  await notifyAgentsChanged(sql, stopped);
  return rows;
}

/** Lifts the environment's own stop, if there is one. */
export async function liftStop(sql: Sql, environmentId: EnvironmentId, id: AgentId): Promise<void> {
  await sql.query('UPDATE agent_links SET stopped_at = NULL WHERE environment_id = $1 AND agent_id = $2', [
    environmentId,
    id,
  ]);
}
