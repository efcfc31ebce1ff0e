-- The credit ledger (DESIGN section 9, invariant 5). A transfer moves an amount of one currency from a debit to a credit
-- account of that same currency, so that it sums to zero by its form and currencies are never pooled.
-- `environment_id` is 'instance' for the counter-accounts: `issued` (goes below zero by what was given out) and `fees`.

-- An account is opened by its first credit. `held` is the part of the balance that pending transfers have reserved.
CREATE TABLE ledger_accounts (
  environment_id text NOT NULL,
  kind           text NOT NULL CHECK (kind IN ('available', 'fees', 'issued')),
  currency       text NOT NULL CHECK (currency <> ''),
  balance        numeric(78, 0) NOT NULL,
  held           numeric(78, 0) NOT NULL CHECK (held >= 0),
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, kind, currency),
  CHECK ((kind = 'available') = (environment_id <> 'instance')),
  CHECK (kind = 'issued' OR held <= balance)
) WITH (fillfactor = 50);

-- Named by the environment that pays and the caller's key, which is the idempotency key as well.
CREATE TABLE ledger_transfers (
  environment_id        text NOT NULL,
  key                   text NOT NULL CHECK (key <> ''),
  debit_kind            text NOT NULL,
  credit_environment_id text NOT NULL,
  credit_kind           text NOT NULL,
  currency              text NOT NULL,
  amount                numeric(78, 0) NOT NULL CHECK (amount > 0),
  two_phase             boolean NOT NULL,
  created_at            timestamptz NOT NULL,
  PRIMARY KEY (environment_id, key)
);

-- How a two-phase transfer ended: once, by this key. Without a row here it is pending.
CREATE TABLE ledger_resolutions (
  environment_id text NOT NULL,
  key            text NOT NULL,
  outcome        text NOT NULL CHECK (outcome IN ('posted', 'voided')),
  amount         numeric(78, 0) NOT NULL CHECK (amount >= 0),
  created_at     timestamptz NOT NULL,
  PRIMARY KEY (environment_id, key),
  CHECK ((outcome = 'posted') = (amount > 0))
);

CREATE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% only grows: a mistake is mended by another transfer', TG_TABLE_NAME;
END $$;
CREATE TRIGGER ledger_transfers_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_transfers
  EXECUTE FUNCTION refuse_ledger_change();
CREATE TRIGGER ledger_resolutions_only_grow BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_resolutions
  EXECUTE FUNCTION refuse_ledger_change();

-- Each transfer that has posted, as its two entries.
CREATE VIEW ledger_entries AS
  WITH posted AS (
    SELECT t.environment_id, t.key, t.debit_kind, t.credit_environment_id, t.credit_kind, t.currency,
           coalesce(r.amount, t.amount) AS amount, coalesce(r.created_at, t.created_at) AS created_at
    FROM ledger_transfers t LEFT JOIN ledger_resolutions r USING (environment_id, key)
    WHERE NOT t.two_phase OR r.outcome = 'posted'
  )
  SELECT environment_id, debit_kind AS kind, currency, -amount AS amount,
         environment_id AS transfer_environment_id, key AS transfer_key, created_at FROM posted
  UNION ALL
  SELECT credit_environment_id, credit_kind, currency, amount, environment_id, key, created_at FROM posted;

-- Invariant 5: every row names a rule that is broken. No row: the books are right. Reads the whole ledger in one snapshot.
CREATE FUNCTION ledger_discrepancies()
  RETURNS TABLE (rule text, environment_id text, kind text, currency text, expected numeric, found numeric)
  LANGUAGE sql STABLE AS $$
  SELECT 'balance equals the sum of entries', environment_id, kind, currency, coalesce(e.amount, 0), coalesce(a.balance, 0)
  FROM ledger_accounts a FULL JOIN (
    SELECT environment_id, kind, currency, sum(amount) AS amount FROM ledger_entries GROUP BY 1, 2, 3
  ) e USING (environment_id, kind, currency)
  WHERE coalesce(e.amount, 0) <> coalesce(a.balance, 0)
  UNION ALL
  SELECT 'held equals the sum of pending transfers', environment_id, kind, currency, coalesce(p.amount, 0), coalesce(a.held, 0)
  FROM ledger_accounts a FULL JOIN (
    SELECT environment_id, t.debit_kind AS kind, t.currency, sum(t.amount) AS amount
    FROM ledger_transfers t LEFT JOIN ledger_resolutions r USING (environment_id, key)
    WHERE t.two_phase AND r.key IS NULL GROUP BY 1, 2, 3
  ) p USING (environment_id, kind, currency)
  WHERE coalesce(p.amount, 0) <> coalesce(a.held, 0)
  UNION ALL
  SELECT 'balances sum to zero', NULL, NULL, a.currency, 0, sum(a.balance)
  FROM ledger_accounts a GROUP BY a.currency HAVING sum(a.balance) <> 0
  UNION ALL
  SELECT 'a resolution ends a two-phase transfer, within its amount', environment_id, NULL, t.currency,
         CASE WHEN t.two_phase THEN t.amount ELSE 0 END, r.amount
  FROM ledger_resolutions r LEFT JOIN ledger_transfers t USING (environment_id, key)
  WHERE t.two_phase IS NOT TRUE OR r.amount > t.amount
$$;
