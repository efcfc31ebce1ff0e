-- Public keys that an environment's owner registered: what they sign pays with the environment's credits. `kid` is the key's
-- thumbprint (RFC 7638). A revoked key's row stays, so that it can't come back.
CREATE TABLE credit_keys (
  environment_id text NOT NULL REFERENCES environments,
  kid            text NOT NULL,
  name           text NOT NULL,
  algorithm      text NOT NULL CHECK (algorithm IN ('ES256', 'EdDSA')),
  public_jwk     jsonb NOT NULL,
  created_at     timestamptz NOT NULL,
  revoked_at     timestamptz,
  PRIMARY KEY (environment_id, kid)
);

-- Credit payments whose process may be gone: few at any moment, whatever else is under way.
CREATE INDEX payments_credits_forwarding ON payments (lease_until)
  WHERE network = 'credence:credits' AND state = 'forwarding';
CREATE INDEX credit_keys_revoked ON credit_keys (revoked_at) WHERE revoked_at IS NOT NULL;
