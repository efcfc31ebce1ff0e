-- How often something happened in the minute that ends at `ends_at`, for all processes together; `key` says what, and for whom. Unlogged:
-- it is written without waiting for a disk, and a database that crashes may forget a minute's counts.
CREATE UNLOGGED TABLE shared_counts (
  key     text PRIMARY KEY,
  count   int NOT NULL,
  ends_at timestamptz NOT NULL
);
CREATE INDEX shared_counts_by_end ON shared_counts (ends_at);
