-- Writes an entry that others tell the journal of.
CREATE OR REPLACE FUNCTION ledger.append(told_at text, told_kind text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
BEGIN
  IF told_kind IN ('load', 'snapshot', 'consent', 'campaign', 'identities', 'rotation',
                   'retention', 'refusal') THEN
    RETURN ledger.write_entry(ledger.lock(), told_at, told_kind, payload);
  END IF;
  RAISE EXCEPTION 'a kind of entry that the journal writes itself' USING ERRCODE = 'data_exception';
END
$$;

-- Writes an entry of who decides and discloses.
CREATE OR REPLACE FUNCTION ledger.append_decision(told_at text, told_kind text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
BEGIN
  IF told_kind IN ('consent_event', 'programme_run', 'case_opened', 'case_approved', 'disclosure',
                   'case_closed', 'programme', 'programme_withdrawn', 'erasure', 'own_access',
                   'request_opened', 'request_shown', 'request_answered')
      AND length(payload::text) <= 4000 THEN
    RETURN ledger.write_entry(ledger.lock(), told_at, told_kind, payload);
  END IF;
  RAISE EXCEPTION 'not an entry of a decision' USING ERRCODE = 'data_exception';
END
$$;

-- A data steward's command pays for the figures of coverage, from the grants of their consumer.
GRANT SELECT ON ledger.release TO dpanalytics_steward;
GRANT EXECUTE ON FUNCTION
  ledger.debit(text, text, text, text, text, text[], numeric, text),
  ledger.record(text, text, text, bigint, bytea)
  TO dpanalytics_steward;
