CREATE TABLE register.programme (
  name      TEXT PRIMARY KEY,
  digest    TEXT NOT NULL,
  entry     INTEGER NOT NULL,
  withdrawn INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Members of staff; the journal names them by the commitment, which the salt opens.
CREATE TABLE register.staff (
  issuer     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  name       TEXT,
  salt       BLOB NOT NULL CHECK (length(salt) = 32),
  commitment BLOB NOT NULL UNIQUE CHECK (length(commitment) = 32),
  PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE register.support_case (
  id               TEXT PRIMARY KEY,
  programme        TEXT NOT NULL,
  programme_digest TEXT NOT NULL,
  pseudonym        BLOB NOT NULL CHECK (length(pseudonym) = 16),
  reason           TEXT,
  as_of            TEXT NOT NULL,
  issuer           TEXT NOT NULL,
  subject          TEXT NOT NULL,
  opened_at        TEXT NOT NULL,
  opened_entry     INTEGER NOT NULL,
  approver_issuer  TEXT,
  approver_subject TEXT,
  approved_entry   INTEGER,
  state            TEXT NOT NULL,
  outcome          TEXT,
  review_on        TEXT,
  CHECK ((approver_issuer IS NULL) = (approved_entry IS NULL)),
  CHECK ((approver_subject IS NULL) = (approved_entry IS NULL)),
  CHECK (approved_entry IS NULL OR approver_issuer <> issuer OR approver_subject <> subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX register.support_case_of_person ON support_case (issuer, subject);
CREATE INDEX register.support_case_of_student ON support_case (pseudonym);

CREATE TABLE register.case_note (
  number  INTEGER PRIMARY KEY,
  case_id TEXT NOT NULL,
  kind    TEXT NOT NULL,
  at      TEXT NOT NULL,
  issuer  TEXT NOT NULL,
  subject TEXT NOT NULL,
  text    TEXT NOT NULL
) STRICT;

CREATE INDEX register.case_note_of_case ON case_note (case_id);

-- Who was shown to whom: written in the transaction of the journal's entry, before the vault opens.
CREATE TABLE register.shown (
  entry      INTEGER PRIMARY KEY,
  pseudonym  BLOB NOT NULL CHECK (length(pseudonym) = 16),
  case_id    TEXT NOT NULL,
  at         TEXT NOT NULL,
  issuer     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  programme  TEXT NOT NULL,
  title      TEXT NOT NULL,
  purpose    TEXT NOT NULL,
  reason     TEXT,
  indicators TEXT NOT NULL
) STRICT;

CREATE INDEX register.shown_of_student ON shown (pseudonym);
