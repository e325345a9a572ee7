-- What students ask of the office; who asks stands under the pseudonym.
CREATE TABLE register.student_request (
  reference       text PRIMARY KEY,
  pseudonym       bytea NOT NULL CHECK (length(pseudonym) = 16),
  kind            text NOT NULL,
  words           text NOT NULL,
  opened_at       text COLLATE "C" NOT NULL,
  opened_entry    bigint NOT NULL,
  due_on          text COLLATE "C" NOT NULL,
  state           text NOT NULL CHECK (state IN ('open', 'answered')),
  answered_at     text,
  answer          text,
  answered_issuer text,
  answered_subject text,
  CHECK ((state = 'answered') = (answered_at IS NOT NULL)),
  CHECK ((state = 'answered') = (answer IS NOT NULL)),
  CHECK ((state = 'answered') = (answered_issuer IS NOT NULL)),
  CHECK ((state = 'answered') = (answered_subject IS NOT NULL))
);

CREATE INDEX student_request_of_student ON register.student_request (pseudonym);

-- Who in the office was told whose request it is: written before the vault opens.
CREATE TABLE register.request_shown (
  entry     bigint PRIMARY KEY,
  pseudonym bytea NOT NULL CHECK (length(pseudonym) = 16),
  reference text NOT NULL,
  at        text COLLATE "C" NOT NULL,
  issuer    text NOT NULL,
  subject   text NOT NULL
);

CREATE INDEX request_shown_of_student ON register.request_shown (pseudonym);

GRANT SELECT, INSERT ON register.student_request, register.request_shown TO dpanalytics_micro;
GRANT UPDATE (state, answered_at, answer, answered_issuer, answered_subject)
  ON register.student_request TO dpanalytics_micro;
GRANT SELECT ON register.student_request, register.request_shown TO dpanalytics_steward;
GRANT DELETE ON register.student_request, register.request_shown
  TO dpanalytics_micro, dpanalytics_steward;
GRANT UPDATE (pseudonym) ON register.student_request, register.request_shown TO dpanalytics_steward;
