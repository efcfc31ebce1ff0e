-- In which block a payment was settled: a balance that was read in an earlier one has yet to pay for it, however long ago it was settled.
ALTER TABLE payments ADD COLUMN settled_block bigint;
CREATE INDEX payments_settled_block ON payments (network, asset, payer, settled_block) WHERE settled_block IS NOT NULL;
-- Those of which it isn't known, as of credits, go by time.
DROP INDEX payments_settled;
CREATE INDEX payments_settled ON payments (network, asset, payer, settled_at) WHERE settled_at IS NOT NULL AND settled_block IS NULL;
