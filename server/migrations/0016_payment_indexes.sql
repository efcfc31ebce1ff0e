-- An index that begins with `environment_id` and holds `id` looks as good as the primary key where a statement is planned while the
-- table is small, and is read from end to end once it is large. These begin with what they are for.
DROP INDEX payments_by_server;
DROP INDEX payments_by_payer;
CREATE INDEX payments_by_server ON payments (server_id, environment_id, id);
CREATE INDEX payments_by_payer ON payments (payer, environment_id, id);

-- Nearly no payment is a refund: those that are none need no entry.
ALTER TABLE payments DROP CONSTRAINT payments_environment_id_refund_of_key;
CREATE UNIQUE INDEX payments_refund_of ON payments (environment_id, refund_of) WHERE refund_of IS NOT NULL;
