-- Agents that were idle for long are ended first, so that every process hears of it, and deleted when their last token has expired.
CREATE INDEX agents_ended_without_home ON agents (deleted_at) WHERE home_environment_id IS NULL AND deleted_at IS NOT NULL;

-- Counts by day of more than a year ago are forgotten, the oldest first.
CREATE INDEX agent_usage_days_by_day ON agent_usage_days (day);
