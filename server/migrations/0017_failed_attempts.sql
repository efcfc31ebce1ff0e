-- Wrong credentials, counted for all processes together: by who sends them, by whom they are for, and by both. `key` says which.
-- Forgotten after a quiet quarter of an hour.
CREATE TABLE failed_attempts (
  key     text PRIMARY KEY,
  count   int NOT NULL,
  last_at timestamptz NOT NULL
);
CREATE INDEX failed_attempts_by_age ON failed_attempts (last_at);

-- Refusals of a quarter of an hour by the agent that was asked for (`unknown` where there is none): of many, audit events stand for
-- several, so that nobody fills an owner's log. `environment_id` is where those events go.
CREATE TABLE counted_refusals (
  agent_id       text PRIMARY KEY,
  environment_id text NOT NULL,
  count          int NOT NULL,
  began_at       timestamptz NOT NULL
);
CREATE INDEX counted_refusals_by_age ON counted_refusals (began_at);
