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

-- Refunds that aren't paid: few at any moment, and looked at again when their authorisation has run out.
CREATE INDEX payments_refunds_due ON payments (network) WHERE refund_of IS NOT NULL AND state IN ('responded', 'settlement_failed');

-- `lost`: given back, and then its own settlement was undone for good. The seller has paid for nothing.
ALTER TABLE payments
  DROP CONSTRAINT payments_delivery_check,
  ADD CONSTRAINT payments_delivery_check CHECK (delivery IN ('owed', 'running', 'done', 'refunded', 'lost'));
CREATE INDEX payments_refunded_unpaid ON payments (network) WHERE delivery = 'refunded' AND state = 'settlement_failed';
