-- What is swept is found by its age, without reading all that is younger.
CREATE INDEX outbox_by_age ON outbox (topic, created_at);
CREATE INDEX revoked_access_tokens_by_end ON revoked_access_tokens (expires_at);

-- The first secret that took another's place after a refresh family had begun, and those of the last hour.
CREATE INDEX agent_credentials_rotated ON agent_credentials (agent_id, created_at) WHERE rotated_from IS NOT NULL;
