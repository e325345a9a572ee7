CREATE TABLE register.programme (
  name      text PRIMARY KEY,
  digest    text NOT NULL,
  entry     bigint NOT NULL,
  withdrawn bigint NOT NULL
);

-- Members of staff; the journal names them by the commitment, which the salt opens.
CREATE TABLE register.staff (
  issuer     text NOT NULL,
  subject    text NOT NULL,
  name       text,
  salt       bytea NOT NULL CHECK (length(salt) = 32),
  commitment bytea NOT NULL UNIQUE CHECK (length(commitment) = 32),
  PRIMARY KEY (issuer, subject)
);

CREATE TABLE register.support_case (
  id               text PRIMARY KEY,
  programme        text NOT NULL,
  programme_digest text NOT NULL,
  pseudonym        bytea NOT NULL CHECK (length(pseudonym) = 16),
  reason           text,
  as_of            text NOT NULL,
  issuer           text NOT NULL,
  subject          text NOT NULL,
  opened_at        text COLLATE "C" NOT NULL,
  opened_entry     bigint NOT NULL,
  approver_issuer  text,
  approver_subject text,
  approved_entry   bigint,
  state            text NOT NULL,
  outcome          text,
  review_on        text,
  CHECK ((approver_issuer IS NULL) = (approved_entry IS NULL)),
  CHECK ((approver_subject IS NULL) = (approved_entry IS NULL)),
  CHECK (approved_entry IS NULL OR approver_issuer <> issuer OR approver_subject <> subject)
);

CREATE INDEX support_case_of_person ON register.support_case (issuer, subject);
CREATE INDEX support_case_of_student ON register.support_case (pseudonym);

CREATE TABLE register.case_note (
  number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  case_id text NOT NULL,
  kind    text NOT NULL,
  at      text NOT NULL,
  issuer  text NOT NULL,
  subject text NOT NULL,
  text    text NOT NULL
);

CREATE INDEX case_note_of_case ON register.case_note (case_id);

-- Who was shown to whom: written in the transaction of the journal's entry, before the vault opens.
CREATE TABLE register.shown (
  entry      bigint PRIMARY KEY,
  pseudonym  bytea NOT NULL CHECK (length(pseudonym) = 16),
  case_id    text NOT NULL,
  at         text COLLATE "C" NOT NULL,
  issuer     text NOT NULL,
  subject    text NOT NULL,
  programme  text NOT NULL,
  title      text NOT NULL,
  purpose    text NOT NULL,
  reason     text,
  indicators text NOT NULL
);

CREATE INDEX shown_of_student ON register.shown (pseudonym);

GRANT SELECT, INSERT, UPDATE ON register.programme, register.staff, register.support_case
  TO dpanalytics_micro;
GRANT SELECT, INSERT ON register.case_note, register.shown TO dpanalytics_micro;
GRANT SELECT ON register.programme, register.staff, register.support_case, register.case_note,
  register.shown TO dpanalytics_steward;
GRANT DELETE ON register.support_case, register.case_note, register.shown
  TO dpanalytics_micro, dpanalytics_steward;
GRANT UPDATE (pseudonym) ON register.support_case, register.shown TO dpanalytics_steward;
