-- What students ask of the office; who asks stands under the pseudonym.
CREATE TABLE register.student_request (
  reference       TEXT PRIMARY KEY,
  pseudonym       BLOB NOT NULL CHECK (length(pseudonym) = 16),
  kind            TEXT NOT NULL,
  words           TEXT NOT NULL,
  opened_at       TEXT NOT NULL,
  opened_entry    INTEGER NOT NULL,
  due_on          TEXT NOT NULL,
  state           TEXT NOT NULL CHECK (state IN ('open', 'answered')),
  answered_at     TEXT,
  answer          TEXT,
  answered_issuer TEXT,
  answered_subject TEXT,
  CHECK ((state = 'answered') = (answered_at IS NOT NULL)),
  CHECK ((state = 'answered') = (answer IS NOT NULL)),
  CHECK ((state = 'answered') = (answered_issuer IS NOT NULL)),
  CHECK ((state = 'answered') = (answered_subject IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX register.student_request_of_student ON student_request (pseudonym);

-- Who in the office was told whose request it is: written before the vault opens.
CREATE TABLE register.request_shown (
  entry     INTEGER PRIMARY KEY,
  pseudonym BLOB NOT NULL CHECK (length(pseudonym) = 16),
  reference TEXT NOT NULL,
  at        TEXT NOT NULL,
  issuer    TEXT NOT NULL,
  subject   TEXT NOT NULL
) STRICT;

CREATE INDEX register.request_shown_of_student ON request_shown (pseudonym);
