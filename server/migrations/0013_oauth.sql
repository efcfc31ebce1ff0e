-- The APIs that tokens are for (RFC 8707). An agent gets tokens for those of environments that it is linked to.
CREATE TABLE oauth_resources (
  environment_id text NOT NULL REFERENCES environments,
  id             text NOT NULL,
  identifier     text NOT NULL,
  name           text NOT NULL CHECK (name <> ''),
  scopes         text[] NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id),
  UNIQUE (environment_id, identifier)
);
CREATE INDEX oauth_resources_by_identifier ON oauth_resources (identifier);

-- An identifier is one organisation's on the whole instance: an API that believes our tokens for it must get none of a stranger's agents.
CREATE TABLE oauth_resource_owners (
  identifier      text PRIMARY KEY,
  organisation_id text NOT NULL REFERENCES organisations
);

-- A refresh token is `rt_<family><secret>`: found by the family, whose key is time-ordered, and compared by hash. A family is one grant;
-- it lives no longer than its credential and its agent's epoch, which is decided where it is used. No reference to `agents`: checking
-- it would lock that row for every token.
CREATE TABLE refresh_families (
  id            uuid PRIMARY KEY,
  agent_id      uuid NOT NULL,
  credential_id text NOT NULL,
  scope         text NOT NULL,
  resource      text NOT NULL,
  key_thumbprint text,
  token_hash    bytea NOT NULL CHECK (length(token_hash) = 32),
  generation    integer NOT NULL,
  created_at    timestamptz NOT NULL,
  expires_at    timestamptz NOT NULL,
  revoked_at    timestamptz
);
CREATE INDEX refresh_families_by_revocation ON refresh_families (revoked_at) WHERE revoked_at IS NOT NULL;

-- Tokens that were used. `answer` is what the use was answered with, sealed, for an honest retry within the window.
CREATE TABLE spent_refresh_tokens (
  family_id   uuid NOT NULL REFERENCES refresh_families ON DELETE CASCADE,
  token_hash  bytea NOT NULL CHECK (length(token_hash) = 32),
  fingerprint bytea NOT NULL,
  answer      bytea,
  spent_at    timestamptz NOT NULL,
  PRIMARY KEY (family_id, token_hash)
);
CREATE INDEX spent_refresh_tokens_with_answer ON spent_refresh_tokens (spent_at) WHERE answer IS NOT NULL;

-- Access tokens that were revoked one by one (RFC 7009). Forgotten when they would have expired.
CREATE TABLE revoked_access_tokens (
  jti        text PRIMARY KEY,
  agent_id   uuid NOT NULL,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz NOT NULL
);
CREATE INDEX revoked_access_tokens_by_time ON revoked_access_tokens (revoked_at);

-- What may be used once: the `jti` of a client assertion (RFC 7523) or a DPoP proof (RFC 9449), hashed with the key it belongs to.
CREATE TABLE used_proofs (
  id         bytea PRIMARY KEY CHECK (length(id) = 32),
  expires_at timestamptz NOT NULL
);
CREATE INDEX used_proofs_by_expiry ON used_proofs (expires_at);

-- Changes of agents that a process may have missed are looked for by time.
CREATE INDEX agents_by_change ON agents (updated_at);
-- Whether every token of the agent must be bound to one of its registered keys (RFC 9449).
ALTER TABLE agents ADD sender_bound boolean NOT NULL DEFAULT false;
