-- By which block's balance a payment's last attempt was let in: what an earlier one says of its payer's money is no news. Nothing for credits,
-- refunds, and payments of earlier releases.
ALTER TABLE payments ADD COLUMN funds_block bigint;
