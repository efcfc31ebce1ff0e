-- Whoever is linked to an agent stops it for itself: its own link says so, until it starts the agent again. The agent is stopped for
-- everybody, `suspended_at`, by its home or, where it has none, when each of those that are linked to it has stopped it.
ALTER TABLE agent_links ADD stopped_at timestamptz;
ALTER TABLE agents ADD suspended_at timestamptz, DROP CONSTRAINT agents_status_check;

UPDATE agent_links l SET stopped_at = a.updated_at FROM agents a
WHERE a.id = l.agent_id AND l.environment_id = ANY(a.suspended_by);
UPDATE agents a SET suspended_at = a.updated_at
WHERE a.home_environment_id = ANY(a.suspended_by) OR (a.home_environment_id IS NULL AND a.suspended_by <> '{}'
  AND NOT EXISTS (SELECT 1 FROM agent_links l WHERE l.agent_id = a.id AND l.stopped_at IS NULL));
UPDATE agents SET status = CASE
  WHEN suspended_at IS NOT NULL THEN 'suspended'
  WHEN deactivated_at IS NOT NULL OR deleted_at IS NOT NULL THEN 'inactive'
  ELSE 'active' END;

ALTER TABLE agents
  DROP COLUMN suspended_by,
  ADD CONSTRAINT agents_status_check CHECK (status = CASE
    WHEN suspended_at IS NOT NULL THEN 'suspended'
    WHEN deactivated_at IS NOT NULL OR deleted_at IS NOT NULL THEN 'inactive'
    ELSE 'active' END);

-- Rotated secrets of agents without a home are history that anybody can make more of: forgotten when this has come.
ALTER TABLE agent_credentials ADD kept_until timestamptz;
UPDATE agent_credentials c SET kept_until = least(c.revoked_at, c.expires_at) + interval '90 days'
FROM agents a WHERE a.id = c.agent_id AND a.home_environment_id IS NULL AND c.kind = 'secret'
  AND (c.revoked_at IS NOT NULL OR c.expires_at IS NOT NULL)
  AND EXISTS (SELECT 1 FROM agent_credentials successor
    WHERE successor.agent_id = c.agent_id AND successor.rotated_from = c.id);
CREATE INDEX agent_credentials_to_forget ON agent_credentials (kept_until) WHERE kept_until IS NOT NULL;
