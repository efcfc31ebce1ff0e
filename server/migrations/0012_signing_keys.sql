-- Several algorithms, each with at most one key that signs and one that is published to sign after it. A key's private half is
-- destroyed when it stops signing; its row stays, so that what it once signed can be told from a forgery.
ALTER TABLE signing_keys
  DROP CONSTRAINT signing_keys_algorithm_check,
  DROP CONSTRAINT signing_keys_state_check,
  ALTER COLUMN private_key DROP NOT NULL,
  ADD COLUMN activated_at timestamptz,
  ADD COLUMN retired_at timestamptz,
  ADD COLUMN verifies_until timestamptz;

UPDATE signing_keys SET activated_at = created_at;
UPDATE signing_keys SET private_key = NULL, retired_at = now(), verifies_until = now() + interval '1 day'
WHERE state = 'retiring';

ALTER TABLE signing_keys
  ADD CHECK (algorithm IN ('RS256', 'ES256', 'EdDSA')),
  ADD CHECK (state IN ('next', 'active', 'retiring', 'gone')),
  ADD CHECK ((private_key IS NOT NULL) = (state IN ('next', 'active'))),
  ADD CHECK ((activated_at IS NOT NULL) OR state IN ('next', 'gone')),
  ADD CHECK ((verifies_until IS NOT NULL) OR state <> 'retiring');

CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys (algorithm) WHERE state = 'next';
