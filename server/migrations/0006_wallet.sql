-- An environment's own wallet on one network: pays what its mandates allow, and is paid for its servers.
CREATE TABLE wallets (
  environment_id text NOT NULL REFERENCES environments,
  id             text NOT NULL,
  network        text NOT NULL,
  address        text NOT NULL,
  private_key    bytea NOT NULL,
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, id),
  UNIQUE (environment_id, network)
);
CREATE INDEX wallets_by_address ON wallets (network, address);

-- Instance-wide: asked before anyone has linked the agent. Its id becomes the delegation's when a person signs.
CREATE TABLE mandate_requests (
  id                 text PRIMARY KEY,
  agent_id           uuid NOT NULL REFERENCES agents,
  natural_language   text NOT NULL,
  category           text,
  currency           text NOT NULL,
  limit_amount       numeric(78, 0) NOT NULL CHECK (limit_amount > 0),
  max_amount_per_tx  numeric(78, 0) CHECK (max_amount_per_tx > 0),
  valid_for_seconds  int NOT NULL CHECK (valid_for_seconds > 0),
  host_allowlist     text[] NOT NULL,
  environment_id     text,
  signed_by          text,
  signed_at          timestamptz,
  created_at         timestamptz NOT NULL,
  expires_at         timestamptz NOT NULL,
  CHECK ((environment_id IS NULL) = (signed_at IS NULL))
);
CREATE INDEX mandate_requests_by_agent ON mandate_requests (agent_id, id);

-- States: signed (the agent holds a payment header) -> settled (captured) or released (expired unused).
CREATE TABLE outgoing_payments (
  environment_id text NOT NULL,
  id             text NOT NULL,
  agent_id       uuid NOT NULL,
  delegation_id  text NOT NULL,
  decision_id    text NOT NULL,
  hold_id        text NOT NULL,
  network        text NOT NULL,
  asset          text NOT NULL,
  payer          text NOT NULL,
  nonce          text NOT NULL,
  pay_to         text NOT NULL,
  amount         numeric(78, 0) NOT NULL CHECK (amount > 0),
  resource       text NOT NULL,
  valid_before   bigint NOT NULL,
  state          text NOT NULL CHECK (state IN ('signed', 'settled', 'released')),
  transaction    text,
  created_at     timestamptz NOT NULL,
  closed_at      timestamptz,
  PRIMARY KEY (environment_id, id),
  UNIQUE (environment_id, network, asset, payer, nonce),
  CHECK ((state = 'signed') = (closed_at IS NULL))
);
CREATE INDEX outgoing_payments_open ON outgoing_payments (valid_before) WHERE state = 'signed';
