-- What optimistic payments owe is capped on each network by itself: test money says nothing about real money.
DROP INDEX payments_owed;
CREATE INDEX payments_owed ON payments (network, server_id) INCLUDE (amount)
  WHERE mode = 'optimistic' AND state IN ('forwarding', 'responded', 'settling');
