-- Triggers refuse what an append-only register never does: they guard against mistakes.

CREATE TABLE register.consent_event (
  number       INTEGER PRIMARY KEY,
  pseudonym    BLOB NOT NULL CHECK (length(pseudonym) = 16),
  scope        TEXT NOT NULL,
  action       TEXT NOT NULL,
  decided_at   TEXT NOT NULL,
  recorded_at  TEXT NOT NULL,
  actor        TEXT NOT NULL CHECK (actor <> ''),
  channel      TEXT NOT NULL,
  text_version INTEGER NOT NULL CHECK (text_version >= 1),
  UNIQUE (pseudonym, scope, decided_at, action, text_version, channel)
) STRICT;

-- Students whose events may be deleted in the same transaction.
CREATE TABLE register.erasing (
  pseudonym BLOB PRIMARY KEY
) STRICT;

CREATE TABLE register.campaign_asked (
  academic_year TEXT NOT NULL,
  pseudonym     BLOB NOT NULL CHECK (length(pseudonym) = 16),
  asked_on      TEXT NOT NULL,
  PRIMARY KEY (academic_year, pseudonym)
) STRICT, WITHOUT ROWID;

CREATE TABLE register.campaign_reminder (
  academic_year TEXT NOT NULL,
  pseudonym     BLOB NOT NULL CHECK (length(pseudonym) = 16),
  reminded_on   TEXT NOT NULL,
  PRIMARY KEY (academic_year, pseudonym, reminded_on)
) STRICT, WITHOUT ROWID;

-- A rotation of the key gives a student another pseudonym; nothing else of an event changes.
CREATE TRIGGER register.consent_event_kept
  BEFORE UPDATE OF number, scope, action, decided_at, recorded_at, actor, channel, text_version
  ON consent_event
  BEGIN SELECT RAISE(ABORT, 'a decision is never changed'); END;
CREATE TRIGGER register.consent_event_not_deleted BEFORE DELETE ON consent_event
  WHEN NOT EXISTS (SELECT 1 FROM erasing WHERE pseudonym = OLD.pseudonym)
  BEGIN SELECT RAISE(ABORT, 'a decision is deleted with its student only'); END;
CREATE TRIGGER register.consent_event_not_replaced BEFORE INSERT ON consent_event
  WHEN EXISTS (SELECT 1 FROM consent_event WHERE number = NEW.number)
  BEGIN SELECT RAISE(ABORT, 'a decision is never replaced'); END;

CREATE TABLE IF NOT EXISTS vault.identity (
  pseudonym       BLOB PRIMARY KEY NOT NULL,
  name_in_journal BLOB NOT NULL,
  identity        BLOB NOT NULL
);
