-- Rights keep the register append-only; triggers guard whoever may erase a student, and the owner.

CREATE TABLE register.consent_event (
  number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pseudonym    bytea NOT NULL CHECK (length(pseudonym) = 16),
  scope        text COLLATE "C" NOT NULL,
  action       text COLLATE "C" NOT NULL,
  decided_at   text COLLATE "C" NOT NULL,
  recorded_at  text COLLATE "C" NOT NULL,
  actor        text NOT NULL CHECK (actor <> ''),
  channel      text COLLATE "C" NOT NULL,
  text_version bigint NOT NULL CHECK (text_version >= 1),
  UNIQUE (pseudonym, scope, decided_at, action, text_version, channel)
);

-- Students whose events may be deleted in the same transaction.
CREATE TABLE register.erasing (
  pseudonym bytea PRIMARY KEY
);

CREATE TABLE register.campaign_asked (
  academic_year text NOT NULL,
  pseudonym     bytea NOT NULL CHECK (length(pseudonym) = 16),
  asked_on      text NOT NULL,
  PRIMARY KEY (academic_year, pseudonym)
);

CREATE TABLE register.campaign_reminder (
  academic_year text NOT NULL,
  pseudonym     bytea NOT NULL CHECK (length(pseudonym) = 16),
  reminded_on   text NOT NULL,
  PRIMARY KEY (academic_year, pseudonym, reminded_on)
);

CREATE TABLE IF NOT EXISTS vault.identity (
  pseudonym       bytea PRIMARY KEY,
  name_in_journal bytea NOT NULL,
  identity        bytea NOT NULL
);

CREATE FUNCTION register.keep_event() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, register, pg_temp AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND (OLD.number, OLD.scope, OLD.action, OLD.decided_at, OLD.recorded_at,
                           OLD.actor, OLD.channel, OLD.text_version)
      = (NEW.number, NEW.scope, NEW.action, NEW.decided_at, NEW.recorded_at,
         NEW.actor, NEW.channel, NEW.text_version) THEN
    RETURN NEW;  -- a rotation of the key gives a student another pseudonym
  ELSIF TG_OP = 'DELETE'
      AND EXISTS (SELECT FROM register.erasing WHERE pseudonym = OLD.pseudonym) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'a decision is never changed, and deleted with its student only'
    USING ERRCODE = 'DPA01';
END
$$;

CREATE TRIGGER consent_event_kept BEFORE UPDATE OR DELETE ON register.consent_event
  FOR EACH ROW EXECUTE FUNCTION register.keep_event();

CREATE FUNCTION register.never_emptied() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'decisions are never emptied' USING ERRCODE = 'DPA01';
END
$$;

CREATE TRIGGER consent_event_not_emptied BEFORE TRUNCATE ON register.consent_event
  FOR EACH STATEMENT EXECUTE FUNCTION register.never_emptied();

-- Who may do what. The roles of the macro service and of auditors have nothing here.

GRANT USAGE ON SCHEMA register, vault TO dpanalytics_micro, dpanalytics_steward;
GRANT SELECT ON register.alembic_version TO dpanalytics_micro, dpanalytics_steward;
GRANT SELECT, INSERT ON register.consent_event, register.campaign_asked, register.campaign_reminder
  TO dpanalytics_micro, dpanalytics_steward;
GRANT SELECT, INSERT, UPDATE, DELETE ON vault.identity TO dpanalytics_micro, dpanalytics_steward;
GRANT SELECT, INSERT, DELETE ON register.erasing TO dpanalytics_micro, dpanalytics_steward;
GRANT DELETE ON register.consent_event, register.campaign_asked, register.campaign_reminder
  TO dpanalytics_micro, dpanalytics_steward;
GRANT UPDATE (pseudonym)
  ON register.consent_event, register.campaign_asked, register.campaign_reminder
  TO dpanalytics_steward;
