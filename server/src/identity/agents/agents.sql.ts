import type { Sql } from '../db/index.ts';
import type { AgentId, EnvironmentId } from '../kernel/ids.ts';

/** A software identity, of the whole instance. */
export interface Agent {
  id: AgentId;
  name: string;
  clientInfo: string;
  email: string | null;
  status: 'active' | 'inactive';
  createdAt: Date;
}

export async function insertAgent(sql: Sql, agent: Agent): Promise<void> {
  await sql.query(
    'INSERT INTO agents (id, name, client_info, email, status, created_at) VALUES ($1, $2, $3, $4, $5, $6)',
    [agent.id, agent.name, agent.clientInfo, agent.email, agent.status, agent.createdAt],
  );
}

export async function findAgent(sql: Sql, id: AgentId): Promise<Agent | undefined> {
  const [row] = await sql.query<Agent>(
    'SELECT id, name, client_info, email, status, created_at FROM agents WHERE id = $1',
    [id],
  );
  return row;
}

export async function insertSecret(
  sql: Sql,
  row: { agentId: AgentId; secretHash: Buffer; now: Date },
): Promise<void> {
  await sql.query('INSERT INTO agent_credentials (agent_id, secret_hash, created_at) VALUES ($1, $2, $3)', [
    row.agentId,
    row.secretHash,
    row.now,
  ]);
}

/** The agent whose secret this is, whatever its state. */
export async function findAgentBySecret(
  sql: Sql,
  id: AgentId,
  secretHash: Buffer,
): Promise<Agent | undefined> {
  const [row] = await sql.query<Agent>(
    `SELECT a.id, a.name, a.client_info, a.email, a.status, a.created_at
     FROM agents a JOIN agent_credentials c ON c.agent_id = a.id
     WHERE a.id = $1 AND c.secret_hash = $2 AND c.revoked_at IS NULL`,
    [id, secretHash],
  );
  return row;
}

/** Makes the agent one of the environment's. Linking twice is linking once. */
export async function linkAgent(
  sql: Sql,
  row: { environmentId: EnvironmentId; agentId: AgentId; linkedBy: string; now: Date },
): Promise<void> {
  await sql.query(
    `INSERT INTO agent_links (environment_id, agent_id, linked_by, created_at) VALUES ($1, $2, $3, $4)
     ON CONFLICT DO NOTHING`,
    [row.environmentId, row.agentId, row.linkedBy, row.now],
  );
}

/** The environments that an agent may act in. */
export async function findLinkedEnvironments(sql: Sql, agentId: AgentId): Promise<EnvironmentId[]> {
  const rows = await sql.query<{ environmentId: EnvironmentId }>(
    'SELECT environment_id FROM agent_links WHERE agent_id = $1 ORDER BY created_at, environment_id',
    [agentId],
  );
  return rows.map((row) => row.environmentId);
}
