-- Charges a question wholly, or says why not; what it says is an outcome and what belongs to it.
-- Refusals come in this order: a grant is missing, a grant has ended, a cap is missing, a cap has
-- ended, an account holds too little. A cap that was adopted before caps had a last day has none.
CREATE OR REPLACE FUNCTION ledger.debit(
  told_at text, asked_request text, asked_consumer text, asked_purpose text, asked_view text,
  asked_years text[], asked_cost numeric, asked_question text,
  OUT outcome text, OUT debit_seq bigint, OUT debit_body text, OUT release_seq bigint,
  OUT release_body bytea, OUT academic_year text, OUT account ledger.account
) LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
DECLARE
  held ledger.account;
  charged ledger.account[] := '{}';
  caps ledger.account[] := '{}';
  repeated record;
  entry_seq bigint;
BEGIN
  PERFORM ledger.check_time(told_at);
  IF asked_request !~ '^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$' OR asked_question !~ '^[0-9a-f]{64}$'
     OR asked_cost <= 0 OR asked_cost <> trunc(asked_cost) OR cardinality(asked_years) = 0 THEN
    RAISE EXCEPTION 'not a debit' USING ERRCODE = 'data_exception';
  END IF;
  IF cardinality(asked_years) > 1 THEN
    IF (SELECT count(DISTINCT year) FROM unnest(asked_years) AS year) < cardinality(asked_years) THEN
      RAISE EXCEPTION 'not a debit' USING ERRCODE = 'data_exception';
    END IF;
  END IF;
  -- 1. and 2. What was paid for before is told without the lock, so that nobody who asks for it has
  -- to wait; with the lock, since somebody may have paid for it while this waited.
  FOR attempt IN 1..2 LOOP
    IF EXISTS (SELECT FROM ledger.entry WHERE kind = 'debit' AND request = asked_request)
       OR EXISTS (SELECT FROM ledger.entry
                  WHERE kind = 'debit' AND question = asked_question
                    AND consumer || '' = asked_consumer)
    THEN
      SELECT * INTO outcome, debit_seq, debit_body, release_seq, release_body
      FROM ledger.standing_for(asked_request, asked_consumer, asked_question);
      RETURN;
    END IF;
    IF attempt = 1 THEN
      entry_seq := ledger.lock();
    END IF;
  END LOOP;
  FOREACH academic_year IN ARRAY asked_years LOOP
    SELECT * INTO held FROM ledger.account AS a
    WHERE a.academic_year = debit.academic_year AND a.consumer = asked_consumer
      AND a.view = asked_view AND a.consumer <> '' AND NOT a.withdrawn;
    IF NOT FOUND THEN
      outcome := 'no grant';
      RETURN;
    END IF;
    charged := charged || held;
  END LOOP;
  FOREACH held IN ARRAY charged LOOP
    IF left(told_at, 10) > held.valid_until COLLATE "C" THEN
      outcome := 'expired';
      account := held;
      RETURN;
    END IF;
  END LOOP;
  -- 3. What another consumer was told tells nothing new of the data: no charge to the cap.
  SELECT kept.seq, kept.body, paid.body::jsonb AS paid INTO repeated
  FROM ledger.entry AS paid
  JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
  JOIN ledger.release AS kept ON kept.seq = written.seq
  WHERE paid.kind = 'debit' AND paid.question = asked_question
  ORDER BY kept.seq LIMIT 1;
  IF FOUND THEN
    IF (repeated.paid ->> 'view', repeated.paid -> 'academic_years', repeated.paid ->> 'cost')
       IS DISTINCT FROM (asked_view, to_jsonb(asked_years), trunc(asked_cost)::text) THEN
      outcome := 'another question';
      RETURN;
    END IF;
  ELSE
    FOREACH academic_year IN ARRAY asked_years LOOP
      SELECT * INTO held FROM ledger.account AS a
      WHERE a.academic_year = debit.academic_year AND a.consumer = '' AND a.view = ''
        AND NOT a.withdrawn;
      IF NOT FOUND THEN
        outcome := 'no cap';
        RETURN;
      END IF;
      caps := caps || held;
    END LOOP;
    FOREACH held IN ARRAY caps LOOP
      IF left(told_at, 10) > held.valid_until COLLATE "C" THEN
        outcome := 'expired';
        account := held;
        RETURN;
      END IF;
    END LOOP;
    charged := charged || caps;
  END IF;
  academic_year := NULL;
  -- 4. Charge every account, or none; a refusal names the one that holds least.
  FOREACH held IN ARRAY charged LOOP
    IF held.spent > held.cap - asked_cost
       AND (account IS NULL
            OR greatest(held.cap - held.spent, 0) < greatest(account.cap - account.spent, 0)) THEN
      account := held;
      outcome := 'exceeded';
    END IF;
  END LOOP;
  IF outcome IS NOT NULL THEN
    RETURN;
  END IF;
  FOREACH held IN ARRAY charged LOOP
    UPDATE ledger.account AS a SET spent = a.spent + asked_cost
    WHERE a.academic_year = held.academic_year AND a.consumer = held.consumer
      AND a.view = held.view AND NOT a.withdrawn AND a.spent <= a.cap - asked_cost;
    IF NOT FOUND THEN  -- the balance was checked under the same lock
      RAISE EXCEPTION 'an account could not be charged; nothing was' USING ERRCODE = 'DPA01';
    END IF;
  END LOOP;
  outcome := 'charged';
  release_seq := repeated.seq;
  release_body := repeated.body;
  -- As ledger.canonical would write it.
  debit_seq := ledger.write_body(entry_seq,
    '{"academic_years":' || array_to_json(asked_years)::text
    || ',"at":"' || told_at
    || '","consumer":' || to_json(asked_consumer)::text
    || ',"cost":"' || trunc(asked_cost)::text
    || '","kind":"debit","purpose":' || to_json(asked_purpose)::text
    || ',"question":"' || asked_question
    || '","repeats":' || coalesce(repeated.seq::text, 'null')
    || ',"request":"' || asked_request
    || '","seq":' || entry_seq::text
    || ',"view":' || to_json(asked_view)::text || '}');
END
$$;

-- Proofs that an entry is in the tree, which the macro service hands to auditors and to whoever
-- paid for a release, are made of its nodes. They are hashes of entries, which it reads anyway.
GRANT SELECT ON ledger.node TO dpanalytics_macro;
