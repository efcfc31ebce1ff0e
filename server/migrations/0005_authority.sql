CREATE TABLE delegations (
  environment_id   text NOT NULL REFERENCES environments,
  id               text NOT NULL,
  agent_id         uuid NOT NULL REFERENCES agents,
  status           text NOT NULL CHECK (status IN ('active', 'revoked')),
  description      text NOT NULL,
  category         text,
  host_allowlist   text[] NOT NULL,
  valid_from       timestamptz NOT NULL,
  valid_until      timestamptz NOT NULL CHECK (valid_until > valid_from),
  created_at       timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id)
);

-- `amount` is the limit. The database refuses what the rules should never write.
CREATE TABLE delegation_limits (
  environment_id text NOT NULL,
  delegation_id  text NOT NULL,
  kind           text NOT NULL CHECK (kind IN ('per_transaction', 'lifetime')),
  currency       text NOT NULL,
  amount         numeric(78, 0) NOT NULL CHECK (amount > 0),
  spent          numeric(78, 0) NOT NULL DEFAULT 0 CHECK (spent >= 0),
  held           numeric(78, 0) NOT NULL DEFAULT 0 CHECK (held >= 0),
  PRIMARY KEY (environment_id, delegation_id, kind, currency),
  FOREIGN KEY (environment_id, delegation_id) REFERENCES delegations,
  CHECK (spent + held <= amount)
);

CREATE TABLE decisions (
  environment_id text NOT NULL,
  id             text NOT NULL,
  agent_id       uuid NOT NULL,
  delegation_id  text NOT NULL,
  action         text NOT NULL CHECK (action IN ('ALLOW', 'DENY')),
  reason_codes   text[] NOT NULL,
  amount         numeric(78, 0) NOT NULL,
  max_amount     numeric(78, 0) NOT NULL,
  currency       text NOT NULL,
  resource       text NOT NULL,
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id)
);

CREATE TABLE holds (
  environment_id text NOT NULL,
  id             text NOT NULL,
  decision_id    text NOT NULL,
  delegation_id  text NOT NULL,
  currency       text NOT NULL,
  amount         numeric(78, 0) NOT NULL CHECK (amount > 0),
  state          text NOT NULL CHECK (state IN ('held', 'captured', 'released')),
  created_at     timestamptz NOT NULL,
  closed_at      timestamptz,
  PRIMARY KEY (environment_id, id),
  UNIQUE (environment_id, decision_id),
  CHECK ((state = 'held') = (closed_at IS NULL))
);
