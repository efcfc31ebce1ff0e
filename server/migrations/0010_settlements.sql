-- Relayers take turns: the one that has waited longest signs next. `configured` is the key that the settings name; the others are
-- the operator's.
ALTER TABLE relayers ADD COLUMN used_at timestamptz, ADD COLUMN configured boolean NOT NULL DEFAULT false;
UPDATE relayers SET configured = active;

-- sent -> mined -> final. Mined, it is watched until its block is as deep as was asked for; where the chain has forgotten it, it is
-- sent again. `final` without a block: its nonce was used by a transaction that isn't ours.
ALTER TABLE settlement_transactions
  ADD COLUMN block_number bigint,
  ADD COLUMN block_hash text,
  ADD COLUMN checked_at timestamptz,
  DROP CONSTRAINT settlement_transactions_state_check;
UPDATE settlement_transactions SET state = 'final' WHERE state = 'mined';
ALTER TABLE settlement_transactions
  ADD CONSTRAINT settlement_transactions_state_check CHECK (state IN ('sent', 'mined', 'final')),
  ADD CONSTRAINT settlement_transactions_block_check
    CHECK (state <> 'mined' OR (block_number IS NOT NULL AND block_hash IS NOT NULL AND checked_at IS NOT NULL));
CREATE INDEX settlement_transactions_mined ON settlement_transactions (network, block_number) WHERE state = 'mined';
