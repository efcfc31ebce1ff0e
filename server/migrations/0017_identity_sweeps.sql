-- Agents that were idle for long are ended first, so that every process hears of it, and deleted when their last token has expired.
CREATE INDEX agents_ended_without_home ON agents (deleted_at) WHERE home_environment_id IS NULL AND deleted_at IS NOT NULL;
