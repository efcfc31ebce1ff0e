-- An agent is a client (RFC 6749) that an environment may own: its home. Who registered itself has none.
-- `suspended_by` has every environment that has stopped it; `status` follows from it and from `deactivated_at`.
-- Access tokens and refresh families that began before `tokens_valid_from` are dead.
ALTER TABLE agents
  ADD client_id                   text,
  ADD type                        text,
  ADD description                 text NOT NULL DEFAULT '',
  ADD scopes                      text[] NOT NULL DEFAULT '{}',
  ADD tags                        text[] NOT NULL DEFAULT '{}',
  ADD metadata                    jsonb NOT NULL DEFAULT '{}',
  ADD home_environment_id         text REFERENCES environments,
  ADD suspended_by                text[] NOT NULL DEFAULT '{}',
  ADD deactivated_at              timestamptz,
  ADD deleted_at                  timestamptz,
  ADD expires_at                  timestamptz,
  ADD tokens_valid_from           timestamptz,
  ADD self_rotation               boolean NOT NULL DEFAULT true,
  ADD refresh_without_client_auth boolean NOT NULL DEFAULT true,
  ADD updated_at                  timestamptz;

UPDATE agents SET client_id = 'cid_0' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 25), updated_at = now(),
  deactivated_at = CASE WHEN status = 'inactive' THEN now() END;

ALTER TABLE agents
  ALTER client_id SET NOT NULL,
  ALTER updated_at SET NOT NULL,
  ADD CONSTRAINT agents_client_id_key UNIQUE (client_id),
  DROP CONSTRAINT agents_status_check,
  ADD CONSTRAINT agents_status_check CHECK (status = CASE
    WHEN suspended_by <> '{}' THEN 'suspended'
    WHEN deactivated_at IS NOT NULL OR deleted_at IS NOT NULL THEN 'inactive'
    ELSE 'active' END);
-- Self-registered agents, the oldest first: what the clean-up of idle ones walks along.
CREATE INDEX agents_without_home ON agents (id) WHERE home_environment_id IS NULL AND deleted_at IS NULL;

-- A credential is a secret, kept as its SHA-256, or a public key with its RFC 7638 thumbprint. It is good until it is revoked
-- or `expires_at` has come; a rotated secret's grace is that. Ids of earlier rows are random, in the form of the others.
ALTER TABLE agent_credentials
  ADD id            text,
  ADD kind          text NOT NULL DEFAULT 'secret' CHECK (kind IN ('secret', 'public_key')),
  ADD public_jwk    jsonb,
  ADD thumbprint    text,
  ADD display_prefix text,
  ADD expires_at    timestamptz,
  ADD rotated_from  text,
  ADD created_by    text NOT NULL DEFAULT 'agent' CHECK (created_by IN ('agent', 'owner'));

UPDATE agent_credentials SET id = 'cred_0' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 25);

ALTER TABLE agent_credentials
  DROP CONSTRAINT agent_credentials_pkey,
  DROP CONSTRAINT agent_credentials_agent_id_fkey,
  ADD CONSTRAINT agent_credentials_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents ON DELETE CASCADE,
  ADD PRIMARY KEY (id),
  ALTER secret_hash DROP NOT NULL,
  ADD CHECK ((kind = 'secret') = (secret_hash IS NOT NULL)),
  ADD CHECK ((kind = 'public_key') = (public_jwk IS NOT NULL AND thumbprint IS NOT NULL));
CREATE UNIQUE INDEX agent_credentials_by_secret ON agent_credentials (agent_id, secret_hash);
CREATE UNIQUE INDEX agent_credentials_by_key ON agent_credentials (agent_id, thumbprint) WHERE revoked_at IS NULL;

-- What an unlinked agent asked for goes with it.
ALTER TABLE mandate_requests
  DROP CONSTRAINT mandate_requests_agent_id_fkey,
  ADD CONSTRAINT mandate_requests_agent_id_fkey FOREIGN KEY (agent_id) REFERENCES agents ON DELETE CASCADE;

-- Written by each process every few seconds, off the hot path; apart from `agents`, whose rows are locked by their owners.
CREATE TABLE agent_usage (
  agent_id       uuid PRIMARY KEY REFERENCES agents ON DELETE CASCADE,
  tokens         bigint NOT NULL,
  refreshes      bigint NOT NULL,
  requests       bigint NOT NULL,
  last_token_at  timestamptz,
  last_active_at timestamptz NOT NULL
);

CREATE TABLE agent_usage_days (
  agent_id  uuid NOT NULL REFERENCES agents ON DELETE CASCADE,
  day       date NOT NULL,
  tokens    bigint NOT NULL,
  refreshes bigint NOT NULL,
  requests  bigint NOT NULL,
  PRIMARY KEY (agent_id, day)
);

-- An unlinked agent asks a person to link it: one request at a time. `user_code` is sealed, and shown to the agent alone.
CREATE TABLE agent_link_requests (
  id             text PRIMARY KEY,
  agent_id       uuid NOT NULL UNIQUE REFERENCES agents ON DELETE CASCADE,
  user_code      bytea NOT NULL,
  wrong_codes    int NOT NULL DEFAULT 0,
  client_address text,
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL
);

CREATE INDEX mandate_requests_by_environment ON mandate_requests (environment_id, id) WHERE environment_id IS NOT NULL;

-- What an answer with a secret becomes when the secret may not be shown again: sealed like `result`, whose place it then takes.
ALTER TABLE idempotency_keys ADD later_result bytea;
CREATE INDEX idempotency_keys_with_secret ON idempotency_keys (created_at) WHERE later_result IS NOT NULL;
