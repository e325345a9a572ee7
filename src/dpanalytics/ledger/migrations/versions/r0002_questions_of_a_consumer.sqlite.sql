-- A consumer's own questions, newest first, without a look at everybody's.
CREATE INDEX debit_consumer ON entry (consumer, seq) WHERE kind = 'debit';
