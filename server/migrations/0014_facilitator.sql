-- How many payments an environment has had the facilitator settle on a day (UTC). Counted in the transaction that claims them,
-- under the row's lock.
CREATE TABLE facilitator_usage (
  environment_id text NOT NULL,
  day            date NOT NULL,
  settlements    int NOT NULL CHECK (settlements >= 0),
  PRIMARY KEY (environment_id, day)
);

-- A seller looks its payments up by these, newest first.
CREATE INDEX payments_by_server ON payments (environment_id, server_id, id);
CREATE INDEX payments_by_payer ON payments (environment_id, payer, id);
