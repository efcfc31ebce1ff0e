CREATE TABLE organisations (
  id         text PRIMARY KEY,
  name       text NOT NULL CHECK (name <> ''),
  created_at timestamptz NOT NULL
);

CREATE TABLE environments (
  id              text PRIMARY KEY,
  organisation_id text NOT NULL REFERENCES organisations,
  kind            text NOT NULL CHECK (kind IN ('sandbox', 'production')),
  created_at      timestamptz NOT NULL,
  UNIQUE (organisation_id, kind)
);

-- The hash is looked up before the environment is known, so it has an index of its own; it can't repeat, being of 256 random bits.
CREATE TABLE api_keys (
  environment_id text NOT NULL REFERENCES environments,
  id             text NOT NULL,
  name           text NOT NULL,
  display_prefix text NOT NULL,
  secret_hash    bytea NOT NULL CHECK (length(secret_hash) = 32),
  scopes         text[] NOT NULL,
  created_at     timestamptz NOT NULL,
  revoked_at     timestamptz,
  PRIMARY KEY (environment_id, id)
);
CREATE INDEX api_keys_by_hash ON api_keys (secret_hash);
