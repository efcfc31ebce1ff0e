-- Agents and their credentials are instance-wide: an agent may register itself and belong to no environment.
CREATE TABLE agents (
  id          uuid PRIMARY KEY,
  name        text NOT NULL CHECK (name <> ''),
  client_info text NOT NULL,
  email       text,
  status      text NOT NULL CHECK (status IN ('active', 'inactive')),
  created_at  timestamptz NOT NULL
);

CREATE TABLE agent_credentials (
  agent_id    uuid NOT NULL REFERENCES agents,
  secret_hash bytea NOT NULL CHECK (length(secret_hash) = 32),
  created_at  timestamptz NOT NULL,
  revoked_at  timestamptz,
  PRIMARY KEY (agent_id, secret_hash)
);

CREATE TABLE agent_links (
  environment_id text NOT NULL REFERENCES environments,
  agent_id       uuid NOT NULL REFERENCES agents,
  linked_by      text NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, agent_id)
);
CREATE INDEX agent_links_by_agent ON agent_links (agent_id);

-- `private_key` is PKCS #8, sealed under the master key and bound to its row.
CREATE TABLE signing_keys (
  kid         text PRIMARY KEY,
  algorithm   text NOT NULL CHECK (algorithm IN ('RS256')),
  state       text NOT NULL CHECK (state IN ('active', 'retiring')),
  public_jwk  jsonb NOT NULL,
  private_key bytea NOT NULL,
  created_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (algorithm) WHERE state = 'active';
