-- One row for every authorisation that was ever presented, kept for ever: the same nonce never buys anything else.
CREATE TABLE payment_claims (
  network        text NOT NULL,
  asset          text NOT NULL,
  payer          text NOT NULL,
  nonce          text NOT NULL,
  environment_id text NOT NULL,
  payment_id     text NOT NULL,
  fingerprint    bytea NOT NULL CHECK (length(fingerprint) = 32),
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (network, asset, payer, nonce)
);

-- States: open (no attempt running) -> forwarding -> responded (answer stored) -> settling -> settled;
-- forwarding -> open when the upstream failed; settling -> settlement_failed, from which settling may be tried again.
-- `lease_until` is set while a process waits for the upstream: past it, another may take over. A payment that is settling
-- is an item of a recorded transaction, and ends with it.
CREATE TABLE payments (
  environment_id    text NOT NULL,
  id                text NOT NULL,
  server_id         text NOT NULL,
  endpoint_id       text NOT NULL,
  network           text NOT NULL,
  asset             text NOT NULL,
  payer             text NOT NULL,
  nonce             text NOT NULL,
  pay_to            text NOT NULL,
  amount            numeric(78, 0) NOT NULL CHECK (amount > 0),
  valid_after       bigint NOT NULL,
  valid_before      bigint NOT NULL,
  signature         text NOT NULL,
  agent_id          text NOT NULL,
  agent_verified    boolean NOT NULL,
  client_address    text NOT NULL,
  terms_secret_hash bytea,
  state             text NOT NULL CHECK (state IN
                      ('open', 'forwarding', 'responded', 'settling', 'settled', 'settlement_failed')),
  attempt           int NOT NULL CHECK (attempt >= 0),
  lease_until       timestamptz,
  settle_attempts   int NOT NULL DEFAULT 0,
  transaction       text,
  failure           text,
  created_at        timestamptz NOT NULL,
  updated_at        timestamptz NOT NULL,
  settled_at        timestamptz,
  PRIMARY KEY (environment_id, id),
  CHECK ((state = 'forwarding') = (lease_until IS NOT NULL)),
  CHECK ((state = 'settled') = (settled_at IS NOT NULL AND transaction IS NOT NULL))
);
CREATE INDEX payments_unfinished ON payments (updated_at) WHERE state IN ('forwarding', 'responded');

CREATE INDEX payments_unsettled ON payments (network, asset, payer) WHERE state IN ('forwarding', 'responded', 'settling');
CREATE INDEX payments_settled ON payments (network, asset, payer, settled_at) WHERE settled_at IS NOT NULL;

-- One row for every payer that was ever seen: its lock puts the claims on its money in a row.
CREATE TABLE payers (
  network         text NOT NULL,
  asset           text NOT NULL,
  payer           text NOT NULL,
  suspended_until timestamptz,
  PRIMARY KEY (network, asset, payer)
);

-- The buffered answer, sealed and bound to its payment; swept after `expires_at`, with status and hash kept.
CREATE TABLE stored_responses (
  environment_id text NOT NULL,
  payment_id     text NOT NULL,
  status         int NOT NULL,
  sealed         bytea,
  body_hash      bytea NOT NULL CHECK (length(body_hash) = 32),
  created_at     timestamptz NOT NULL,
  expires_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, payment_id)
);

CREATE INDEX stored_responses_kept ON stored_responses (expires_at) WHERE sealed IS NOT NULL;

-- Accounts that pay the gas. Each has one nonce sequence, handed out under its row's lock. One that is no longer active signs
-- nothing new; what it has signed is still watched.
CREATE TABLE relayers (
  network     text NOT NULL,
  address     text NOT NULL,
  private_key bytea NOT NULL,
  next_nonce  bigint NOT NULL CHECK (next_nonce >= 0),
  active      boolean NOT NULL,
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (network, address)
);

-- A signed transaction is written before it is sent: sending it again is the same transaction. One that the chain leaves lying
-- is signed again with the same nonce and a higher fee; whichever of its hashes is mined, it is this row. `lease_until` says how
-- long the process that watches it may take before another does.
CREATE TABLE settlement_transactions (
  network       text NOT NULL,
  relayer       text NOT NULL,
  relayer_nonce bigint NOT NULL,
  hashes        text[] NOT NULL CHECK (cardinality(hashes) > 0),
  raw           text NOT NULL,
  state         text NOT NULL CHECK (state IN ('sent', 'mined')),
  lease_until   timestamptz NOT NULL,
  signed_at     timestamptz NOT NULL,
  PRIMARY KEY (network, relayer, relayer_nonce)
);
CREATE INDEX settlement_transactions_open ON settlement_transactions (network, lease_until) WHERE state = 'sent';

-- What a transaction settles, in its order.
CREATE TABLE settlement_items (
  network        text NOT NULL,
  relayer        text NOT NULL,
  relayer_nonce  bigint NOT NULL,
  position       int NOT NULL,
  environment_id text NOT NULL,
  payment_id     text NOT NULL,
  PRIMARY KEY (network, relayer, relayer_nonce, position),
  FOREIGN KEY (network, relayer, relayer_nonce) REFERENCES settlement_transactions
);
