-- How a payment is settled is its endpoint's setting, kept with each payment as it was when it was claimed.
-- after_success: the answer is stored, settled, released. optimistic: released when it is stored, settled behind it.
-- upfront: settled first, then forwarded.
ALTER TABLE payments
  ADD COLUMN mode text NOT NULL DEFAULT 'after_success' CHECK (mode IN ('after_success', 'optimistic', 'upfront')),
  -- False where the answer flowed through as it came: nothing is stored that could be given again.
  ADD COLUMN replayable boolean NOT NULL DEFAULT true,
  -- Of a payment that is charged before its answer is kept or sent: owed -> running (until lease_until) -> done, or refunded.
  -- A stream whose charge is on its way is owed as well, until its first byte is about to go out.
  ADD COLUMN delivery text CHECK (delivery IN ('owed', 'running', 'done', 'refunded')),
  -- A refund is a payment of the seller's wallet to whoever paid.
  ADD COLUMN refund_of text,
  ADD UNIQUE (environment_id, refund_of),
  -- A payment that the facilitator took was for somebody else's API.
  ALTER COLUMN server_id DROP NOT NULL,
  ALTER COLUMN endpoint_id DROP NOT NULL,
  ADD CHECK ((server_id IS NULL) = (endpoint_id IS NULL)),
  DROP CONSTRAINT payments_check,
  ADD CHECK ((lease_until IS NOT NULL) = (state = 'forwarding' OR coalesce(delivery = 'running', false)));
CREATE INDEX payments_undelivered ON payments (settled_at) 
  WHERE state = 'settled' AND mode = 'upfront' AND delivery IN ('owed', 'running');
ALTER TABLE payments ALTER COLUMN mode DROP DEFAULT;

ALTER TABLE endpoints
  ADD COLUMN settlement text NOT NULL DEFAULT 'after_success' CHECK (settlement IN ('after_success', 'optimistic', 'upfront'));
ALTER TABLE endpoints ALTER COLUMN settlement DROP DEFAULT;

-- What optimistic payments still owe, by server: summed under a lock before another is let in.
CREATE INDEX payments_owed ON payments (server_id) INCLUDE (amount)
  WHERE mode = 'optimistic' AND state IN ('forwarding', 'responded', 'settling');
