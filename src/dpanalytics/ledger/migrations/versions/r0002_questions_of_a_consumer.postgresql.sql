-- A consumer's own questions, newest first, without a look at everybody's.
CREATE INDEX debit_consumer ON ledger.entry (consumer, seq) WHERE kind = 'debit';
