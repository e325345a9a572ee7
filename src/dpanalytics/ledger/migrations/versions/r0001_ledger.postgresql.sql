-- The journal of a PostgreSQL database. Run by dpanalytics_owner, whose tables these are.
--
-- Nobody else writes a table: roles call the functions at the end, which do one step each in one
-- transaction. Triggers refuse what an append-only journal never does. They guard the owner against
-- mistakes; against whoever is superuser, only the tree's root does, kept elsewhere.

CREATE TABLE ledger.entry (
  seq      bigint PRIMARY KEY CHECK (seq >= 0),
  body     text NOT NULL,
  kind     text GENERATED ALWAYS AS (body::jsonb ->> 'kind') STORED,
  request  text GENERATED ALWAYS AS (body::jsonb ->> 'request') STORED,
  consumer text GENERATED ALWAYS AS (body::jsonb ->> 'consumer') STORED,
  question text GENERATED ALWAYS AS (body::jsonb ->> 'question') STORED,
  debit    bigint GENERATED ALWAYS AS (
             CASE WHEN body::jsonb ->> 'kind' = 'release' THEN (body::jsonb ->> 'debit')::bigint END
           ) STORED
);

CREATE INDEX entry_declarations ON ledger.entry (seq) WHERE kind = 'declarations';
CREATE UNIQUE INDEX debit_request ON ledger.entry (request) WHERE kind = 'debit';
CREATE UNIQUE INDEX debit_question ON ledger.entry (question, consumer) WHERE kind = 'debit';
CREATE UNIQUE INDEX release_debit ON ledger.entry (debit) WHERE kind = 'release';

-- Complete nodes of the tree; level 0 holds the leaves.
CREATE TABLE ledger.node (
  level  integer NOT NULL,
  number bigint NOT NULL,
  hash   bytea NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, number)
);

-- Whoever holds the lock of its row writes; nobody else does meanwhile.
CREATE TABLE ledger.head (
  one  integer PRIMARY KEY,
  size bigint NOT NULL,
  root bytea NOT NULL
);

-- The body of a release; its entry holds the digest.
CREATE TABLE ledger.release (
  seq  bigint PRIMARY KEY REFERENCES ledger.entry (seq),
  body bytea NOT NULL
);

-- Grants and caps; a cap has no consumer and no view. Units of 1e-12 rho.
CREATE TABLE ledger.account (
  academic_year text NOT NULL,
  consumer      text NOT NULL,
  view          text NOT NULL,
  cap           bigint NOT NULL CHECK (cap >= 0),
  spent         bigint NOT NULL CHECK (spent >= 0),
  epsilon       text NOT NULL,
  delta         text NOT NULL,
  valid_until   text,
  approved_by   text NOT NULL,
  withdrawn     boolean NOT NULL,
  PRIMARY KEY (academic_year, consumer, view),
  CHECK ((consumer = '') = (view = ''))
);

-- The empty tree (RFC 9162, 2.1.1).
INSERT INTO ledger.head (one, size, root) VALUES (1, 0, sha256(''));

CREATE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE TRIGGER entry_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse('an entry is never changed');
CREATE TRIGGER node_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.node
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse('a node is never changed');
CREATE TRIGGER release_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.release
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse('a release is never changed');
CREATE TRIGGER account_kept BEFORE DELETE OR TRUNCATE ON ledger.account
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse('an account is never deleted');
CREATE TRIGGER account_not_refunded BEFORE UPDATE ON ledger.account
  FOR EACH ROW WHEN (NEW.spent < OLD.spent)
  EXECUTE FUNCTION ledger.refuse('what was spent stays spent');
CREATE TRIGGER head_kept BEFORE INSERT OR DELETE OR TRUNCATE ON ledger.head
  FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse('the head is never replaced');
CREATE TRIGGER head_only_grows BEFORE UPDATE ON ledger.head
  FOR EACH ROW WHEN (NEW.size <> OLD.size + 1)
  EXECUTE FUNCTION ledger.refuse('the journal grows by one entry at a time');

-- How an entry is written

CREATE FUNCTION ledger.check_time(told_at text) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF told_at !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}[.][0-9]{6}Z$' THEN
    RAISE EXCEPTION 'not a time in UTC with microseconds' USING ERRCODE = 'data_exception';
  END IF;
END
$$;

-- RFC 8785 of what an entry may hold: keys of ASCII letters in order, no floats, whole numbers
-- within 2**53. PostgreSQL escapes in a text what RFC 8785 does, and nothing else.
CREATE FUNCTION ledger.canonical(value jsonb) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  written text;
  named boolean;
BEGIN
  CASE jsonb_typeof(value)
    WHEN 'object' THEN
      SELECT string_agg('"' || key || '":' || CASE WHEN jsonb_typeof(item) IN ('string', 'null')
                                                   THEN item::text
                                                   ELSE ledger.canonical(item) END,
                        ',' ORDER BY key COLLATE "C"),
             bool_and(key ~ '^[A-Za-z][A-Za-z0-9_]{0,62}$')
        INTO written, named FROM jsonb_each(value) AS each (key, item);
      IF NOT named THEN
        RAISE EXCEPTION 'a key that is not a name of ASCII letters and digits'
          USING ERRCODE = 'data_exception';
      END IF;
      RETURN '{' || coalesce(written, '') || '}';
    WHEN 'array' THEN
      SELECT string_agg(ledger.canonical(item), ',' ORDER BY place)
        INTO written FROM jsonb_array_elements(value) WITH ORDINALITY AS each (item, place);
      RETURN '[' || coalesce(written, '') || ']';
    WHEN 'number' THEN
      IF value::text !~ '^(0|-?[1-9][0-9]{0,15})$' OR abs(value::numeric) > 9007199254740991 THEN
        RAISE EXCEPTION 'a number that is not whole, or beyond 9007199254740991'
          USING ERRCODE = 'data_exception';
      END IF;
      RETURN value::text;
    ELSE
      RETURN value::text;
  END CASE;
END
$$;

-- Everybody who writes holds this lock until the end of the transaction, as SQLite has one writer.
CREATE FUNCTION ledger.lock() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  entries bigint;
BEGIN
  SELECT size INTO entries FROM ledger.head FOR UPDATE;
  IF entries IS NULL THEN
    RAISE EXCEPTION 'the journal''s head is gone; verify the journal' USING ERRCODE = 'DPA01';
  END IF;
  -- Who calls may have asked for commits that don't wait for the disk; noise is drawn after ours.
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  RETURN entries;
END
$$;

-- Adds entry `entry_seq`, which the lock told, the nodes that it completes and the new head. Few
-- statements do it, since all other writers wait meanwhile.
-- RFC 9162, 2.1: leaf = SHA-256(0x00 || entry), node = SHA-256(0x01 || left || right).
CREATE FUNCTION ledger.write_body(entry_seq bigint, entry_body text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  joined bytea := sha256('\x00'::bytea || convert_to(entry_body, 'UTF8'));
  completed bytea[] := ARRAY[joined];
  complete boolean := true;
  beside bytea[];
  taken integer := 0;
  node_level integer := 0;
  place bigint := entry_seq;
BEGIN
  INSERT INTO ledger.entry (seq, body) VALUES (entry_seq, entry_body);
  -- The complete subtrees to the left, from the smallest.
  IF entry_seq > 0 THEN
    SELECT array_agg((SELECT hash FROM ledger.node AS n
                      WHERE n.level = height AND n.number = (entry_seq >> height) - 1)
                     ORDER BY height)
      INTO beside FROM generate_series(0, 62) AS height WHERE (entry_seq >> height) & 1 = 1;
  END IF;
  -- Joined with each of them upwards: complete nodes first, then the root.
  WHILE place > 0 LOOP
    IF place & 1 = 1 THEN
      taken := taken + 1;
      IF beside[taken] IS NULL THEN
        RAISE EXCEPTION 'node % of level % is gone; verify the journal', place - 1, node_level
          USING ERRCODE = 'DPA01';
      END IF;
      joined := sha256('\x01'::bytea || beside[taken] || joined);
    ELSE
      complete := false;
    END IF;
    node_level := node_level + 1;
    place := place >> 1;
    IF complete THEN
      completed := completed || joined;
    END IF;
  END LOOP;
  INSERT INTO ledger.node (level, number, hash)
  SELECT height - 1, entry_seq >> (height - 1)::integer, hash
  FROM unnest(completed) WITH ORDINALITY AS each (hash, height);
  UPDATE ledger.head SET size = entry_seq + 1, root = joined;
  RETURN entry_seq;
END
$$;

-- Adds an entry of any kind.
CREATE FUNCTION ledger.write_entry(entry_seq bigint, told_at text, told_kind text, payload jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
  PERFORM ledger.check_time(told_at);
  IF jsonb_typeof(payload) <> 'object' OR payload ?| ARRAY['seq', 'at', 'kind'] THEN
    RAISE EXCEPTION 'a payload is an object without seq, at and kind'
      USING ERRCODE = 'data_exception';
  END IF;
  RETURN ledger.write_body(entry_seq, ledger.canonical(
    payload || jsonb_build_object('seq', entry_seq, 'at', told_at, 'kind', told_kind)));
END
$$;

-- What stands for a debit: its own release, or the one that it repeats.
CREATE FUNCTION ledger.standing_for(asked_request text, asked_consumer text, asked_question text,
                                    OUT known_by text, OUT debit_seq bigint, OUT debit_body text,
                                    OUT release_seq bigint, OUT release_body bytea)
LANGUAGE plpgsql STABLE AS $$
BEGIN
  -- 1. An id that was seen stands for its question.
  SELECT paid.seq, paid.body, kept.seq, kept.body
  INTO debit_seq, debit_body, release_seq, release_body
  FROM ledger.entry AS paid
  LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
  LEFT JOIN ledger.release AS kept
    ON kept.seq = coalesce((paid.body::jsonb ->> 'repeats')::bigint, written.seq)
  WHERE paid.kind = 'debit' AND paid.request = asked_request;
  IF FOUND THEN
    known_by := 'request';
    RETURN;
  END IF;
  -- 2. So does a question that this consumer paid for under another id.
  SELECT paid.seq, paid.body, kept.seq, kept.body
  INTO debit_seq, debit_body, release_seq, release_body
  FROM ledger.entry AS paid
  LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
  LEFT JOIN ledger.release AS kept
    ON kept.seq = coalesce((paid.body::jsonb ->> 'repeats')::bigint, written.seq)
  WHERE paid.kind = 'debit' AND paid.question = asked_question
    AND paid.consumer || '' = asked_consumer;  -- by the question, never through all of a consumer's
  IF FOUND THEN
    known_by := 'question';
  END IF;
END
$$;

-- What roles call. Each pins the names it looks up, and runs with the owner's rights.

-- Charges a question wholly, or says why not; what it says is an outcome and what belongs to it.
CREATE FUNCTION ledger.debit(
  told_at text, asked_request text, asked_consumer text, asked_purpose text, asked_view text,
  asked_years text[], asked_cost numeric, asked_question text,
  OUT outcome text, OUT debit_seq bigint, OUT debit_body text, OUT release_seq bigint,
  OUT release_body bytea, OUT academic_year text, OUT account ledger.account
) LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
DECLARE
  held ledger.account;
  charged ledger.account[] := '{}';
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
      charged := charged || held;
    END LOOP;
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

-- Keeps the answer that a debit paid for. The first one stands; a later one gets it back.
CREATE FUNCTION ledger.record(
  told_at text, told_request text, told_question text, told_debit bigint, told_body bytea,
  OUT outcome text, OUT release_seq bigint, OUT release_body bytea
) LANGUAGE plpgsql STRICT SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
DECLARE
  paid jsonb;
  entry_seq bigint;
BEGIN
  PERFORM ledger.check_time(told_at);
  SELECT body::jsonb INTO paid FROM ledger.entry WHERE seq = told_debit AND kind = 'debit';
  IF (paid ->> 'request', paid ->> 'question', paid ->> 'repeats')
     IS DISTINCT FROM (told_request, told_question, NULL::text) THEN
    outcome := 'no such debit';
    RETURN;
  END IF;
  FOR attempt IN 1..2 LOOP
    SELECT kept.seq, kept.body INTO release_seq, release_body
    FROM ledger.entry AS written JOIN ledger.release AS kept ON kept.seq = written.seq
    WHERE written.kind = 'release' AND written.debit = told_debit;
    IF FOUND THEN
      outcome := 'kept';
      RETURN;
    END IF;
    IF attempt = 1 THEN
      entry_seq := ledger.lock();
    END IF;
  END LOOP;
  outcome := 'recorded';
  release_seq := ledger.write_body(entry_seq,
    '{"at":"' || told_at
    || '","body":"' || encode(sha256(told_body), 'hex')
    || '","debit":' || told_debit::text
    || ',"kind":"release","request":"' || told_request
    || '","seq":' || entry_seq::text || '}');
  INSERT INTO ledger.release (seq, body) VALUES (release_seq, told_body);
END
$$;

-- Writes an entry that others tell the journal of.
CREATE FUNCTION ledger.append(told_at text, told_kind text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
BEGIN
  IF told_kind IN ('load', 'snapshot', 'consent', 'refusal') THEN
    RETURN ledger.write_entry(ledger.lock(), told_at, told_kind, payload);
  END IF;
  RAISE EXCEPTION 'a kind of entry that the journal writes itself' USING ERRCODE = 'data_exception';
END
$$;

-- All that who answers questions may tell of its own accord.
CREATE FUNCTION ledger.append_refusal(told_at text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
BEGIN
  IF length(payload::text) > 2000 THEN
    RAISE EXCEPTION 'a refusal of more than 2000 letters' USING ERRCODE = 'data_exception';
  END IF;
  RETURN ledger.write_entry(ledger.lock(), told_at, 'refusal', payload);
END
$$;

-- Adopts declarations, where those in force are still the ones that the changes were made for: the
-- entry `changed_from`, or none where it is null. Changes are kinds and payloads of entries.
CREATE FUNCTION ledger.adopt(told_at text, digest text, changed_from bigint, changes jsonb)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
DECLARE
  change record;
  told jsonb;
BEGIN
  PERFORM ledger.lock();
  IF (SELECT max(seq) FROM ledger.entry WHERE kind = 'declarations')
     IS DISTINCT FROM changed_from THEN
    RETURN false;
  END IF;
  PERFORM ledger.write_entry(ledger.lock(), told_at, 'declarations', jsonb_build_object('digest', digest));
  FOR change IN SELECT * FROM jsonb_to_recordset(changes) AS each (kind text, payload jsonb) LOOP
    told := change.payload;
    PERFORM ledger.write_entry(ledger.lock(), told_at, change.kind, told);
    IF change.kind IN ('grant', 'cap') THEN
      INSERT INTO ledger.account AS held
        (academic_year, consumer, view, cap, spent, epsilon, delta, valid_until, approved_by,
         withdrawn)
      VALUES
        (told ->> 'academic_year',
         CASE change.kind WHEN 'cap' THEN '' ELSE nullif(told ->> 'consumer', '') END,
         CASE change.kind WHEN 'cap' THEN '' ELSE nullif(told ->> 'view', '') END,
         (told ->> 'cap')::bigint, 0, told ->> 'epsilon', told ->> 'delta', told ->> 'valid_until',
         told ->> 'approved_by', false)
      ON CONFLICT (academic_year, consumer, view) DO UPDATE SET
        cap = excluded.cap, epsilon = excluded.epsilon, delta = excluded.delta,
        valid_until = excluded.valid_until, approved_by = excluded.approved_by, withdrawn = false;
    ELSIF change.kind IN ('grant_withdrawn', 'cap_withdrawn') THEN
      UPDATE ledger.account AS held SET withdrawn = true
      WHERE held.academic_year = told ->> 'academic_year'
        AND held.consumer = CASE change.kind WHEN 'cap_withdrawn' THEN '' ELSE told ->> 'consumer' END
        AND held.view = CASE change.kind WHEN 'cap_withdrawn' THEN '' ELSE told ->> 'view' END;
    ELSE
      RAISE EXCEPTION 'not a change of an account' USING ERRCODE = 'data_exception';
    END IF;
  END LOOP;
  RETURN true;
END
$$;

-- Says that the journal comes from a backup. What was answered after it stands nowhere: where it
-- says closed, all that any account holds counts as spent.
CREATE FUNCTION ledger.restored(told_at text, payload jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, ledger, pg_temp AS $$
DECLARE
  entry_seq bigint := ledger.write_entry(ledger.lock(), told_at, 'restored', payload);
BEGIN
  IF (payload ->> 'closed')::boolean THEN
    UPDATE ledger.account SET spent = cap WHERE spent < cap;
  END IF;
  RETURN entry_seq;
END
$$;

-- Who may do what

GRANT USAGE ON SCHEMA ledger
  TO dpanalytics_macro, dpanalytics_micro, dpanalytics_steward, dpanalytics_auditor;
GRANT SELECT ON ledger.alembic_version
  TO dpanalytics_macro, dpanalytics_micro, dpanalytics_steward, dpanalytics_auditor;
GRANT SELECT ON ledger.head, ledger.entry, ledger.release, ledger.account TO dpanalytics_macro;
GRANT SELECT ON ledger.head, ledger.entry, ledger.account TO dpanalytics_steward;
GRANT SELECT ON ledger.head TO dpanalytics_micro;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO dpanalytics_auditor;

GRANT EXECUTE ON FUNCTION
  ledger.debit(text, text, text, text, text, text[], numeric, text),
  ledger.record(text, text, text, bigint, bytea)
  TO dpanalytics_macro;
GRANT EXECUTE ON FUNCTION ledger.append_refusal(text, jsonb)
  TO dpanalytics_macro, dpanalytics_micro, dpanalytics_steward;
GRANT EXECUTE ON FUNCTION
  ledger.append(text, text, jsonb),
  ledger.adopt(text, text, bigint, jsonb),
  ledger.restored(text, jsonb)
  TO dpanalytics_steward;
