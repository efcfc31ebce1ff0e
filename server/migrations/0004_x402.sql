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
-- `lease_until` is set while a process works on the payment: past it, another may take over.
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
  transaction       text,
  failure           text,
  created_at        timestamptz NOT NULL,
  updated_at        timestamptz NOT NULL,
  settled_at        timestamptz,
  PRIMARY KEY (environment_id, id),
  CHECK ((state IN ('forwarding', 'settling')) = (lease_until IS NOT NULL)),
  CHECK ((state = 'settled') = (settled_at IS NOT NULL AND transaction IS NOT NULL))
);
CREATE INDEX payments_unfinished ON payments (updated_at) WHERE state IN ('forwarding', 'responded', 'settling');

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

-- Accounts that pay the gas. Each has one nonce sequence, handed out under its row's lock.
CREATE TABLE relayers (
  network     text NOT NULL,
  address     text NOT NULL,
  private_key bytea NOT NULL,
  next_nonce  bigint NOT NULL CHECK (next_nonce >= 0),
  created_at  timestamptz NOT NULL,
  PRIMARY KEY (network, address)
);

-- A signed transaction is written before it is sent: sending it again is the same transaction.
CREATE TABLE settlement_transactions (
  network         text NOT NULL,
  relayer         text NOT NULL,
  relayer_nonce   bigint NOT NULL,
  environment_id  text NOT NULL,
  payment_id      text NOT NULL,
  hash            text NOT NULL,
  raw             text NOT NULL,
  state           text NOT NULL CHECK (state IN ('sent', 'succeeded', 'reverted')),
  created_at      timestamptz NOT NULL,
  PRIMARY KEY (network, relayer, relayer_nonce)
);
CREATE INDEX settlement_transactions_by_payment ON settlement_transactions (environment_id, payment_id);
CREATE INDEX settlement_transactions_open ON settlement_transactions (network, relayer, relayer_nonce) WHERE state = 'sent';
