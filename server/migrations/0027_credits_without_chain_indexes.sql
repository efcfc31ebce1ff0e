-- What credits pay for is settled by the transaction that answers it: it is in no list of what a chain has yet to settle, or has settled, and
-- thousands of rows a second needn't be entered there.
DROP INDEX payments_unfinished;
DROP INDEX payments_unsettled;
DROP INDEX payments_settled;
CREATE INDEX payments_unfinished ON payments (updated_at)
  WHERE state IN ('forwarding', 'responded') AND network <> 'credence:credits';
CREATE INDEX payments_unsettled ON payments (network, asset, payer)
  WHERE state IN ('forwarding', 'responded', 'settling') AND network <> 'credence:credits';
CREATE INDEX payments_settled ON payments (network, asset, payer, settled_at)
  WHERE settled_at IS NOT NULL AND settled_block IS NULL AND network <> 'credence:credits';
