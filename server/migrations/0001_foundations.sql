-- What every room writes through db/write.ts. `environment_id` is 'instance' where a row belongs to no environment.

CREATE TABLE audit_events (
  environment_id text NOT NULL,
  id             text NOT NULL,
  action         text NOT NULL,
  actor_kind     text NOT NULL,
  actor_id       text NOT NULL,
  resource       text NOT NULL,
  request_id     text,
  client_address text,
  data           jsonb NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id)
);

CREATE TABLE outbox (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  environment_id text NOT NULL,
  topic          text NOT NULL,
  payload        jsonb NOT NULL,
  created_at     timestamptz NOT NULL
);
CREATE INDEX outbox_by_topic ON outbox (topic, id);

-- `result` is null only inside the transaction that claims the key.
CREATE TABLE idempotency_keys (
  environment_id text NOT NULL,
  actor_id       text NOT NULL,
  key            text NOT NULL,
  operation      text NOT NULL,
  fingerprint    bytea NOT NULL,
  result         bytea,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, actor_id, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
