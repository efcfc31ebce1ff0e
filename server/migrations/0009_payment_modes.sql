-- How a payment is settled is its endpoint's setting, kept with each payment as it was when it was claimed.
-- after_success: the answer is stored, settled, released. optimistic: released when it is stored, settled behind it.
-- upfront: settled first, then forwarded.
ALTER TABLE payments
  ADD COLUMN mode text NOT NULL DEFAULT 'after_success' CHECK (mode IN ('after_success', 'optimistic', 'upfront')),
  -- False where the answer flowed through as it came: nothing is stored that could be given again.
  ADD COLUMN replayable boolean NOT NULL DEFAULT true,
  -- A payment that the facilitator took was for somebody else's API.
  ALTER COLUMN server_id DROP NOT NULL,
  ALTER COLUMN endpoint_id DROP NOT NULL,
  ADD CHECK ((server_id IS NULL) = (endpoint_id IS NULL));
ALTER TABLE payments ALTER COLUMN mode DROP DEFAULT;

ALTER TABLE endpoints
  ADD COLUMN settlement text NOT NULL DEFAULT 'after_success' CHECK (settlement IN ('after_success', 'optimistic', 'upfront'));
ALTER TABLE endpoints ALTER COLUMN settlement DROP DEFAULT;

-- What optimistic payments still owe, by server: summed under a lock before another is let in.
CREATE INDEX payments_owed ON payments (server_id) INCLUDE (amount)
  WHERE mode = 'optimistic' AND state IN ('forwarding', 'responded', 'settling');
