-- Which transactions have a payment: asked for each refund whose own payment a reorganisation has undone.
CREATE INDEX settlement_items_by_payment ON settlement_items (environment_id, payment_id);
