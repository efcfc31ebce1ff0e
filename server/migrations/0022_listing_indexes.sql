-- For the lists of payments alone, which say `environment_id <> ''`: where payers pay once or twice, this index looked as good as those
-- that a payer's open and settled payments are summed by, and one who pays often was then read from end to end at each claim.
DROP INDEX payments_by_server;
DROP INDEX payments_by_payer;
CREATE INDEX payments_by_server ON payments (environment_id, server_id, id) WHERE environment_id <> '';
CREATE INDEX payments_by_payer ON payments (environment_id, payer, id) WHERE environment_id <> '';
