-- Payments that were settled by a transaction that isn't one of ours for them: whoever has seen an authorisation may send it. Their
-- blocks are watched like those of ours, and a row stays for as long as that.
CREATE TABLE outside_settlements (
  environment_id text NOT NULL,
  payment_id     text NOT NULL,
  network        text NOT NULL,
  transaction    text NOT NULL,
  block_number   bigint NOT NULL,
  block_hash     text NOT NULL,
  checked_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, payment_id)
);
CREATE INDEX outside_settlements_by_block ON outside_settlements (network, block_number);
