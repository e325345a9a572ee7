-- The tables of the release before there were migrations, as it made them. Never to be changed.
PRAGMA application_id = 1685089889;
PRAGMA user_version = 1;

CREATE TABLE entry (
  seq      INTEGER PRIMARY KEY CHECK (seq >= 0),
  body     TEXT NOT NULL,
  kind     ANY AS (json_extract(body, '$.kind')) VIRTUAL,
  request  ANY AS (json_extract(body, '$.request')) VIRTUAL,
  consumer ANY AS (json_extract(body, '$.consumer')) VIRTUAL,
  question ANY AS (json_extract(body, '$.question')) VIRTUAL,
  debit    ANY AS (json_extract(body, '$.debit')) VIRTUAL
) STRICT;

CREATE INDEX entry_declarations ON entry (kind) WHERE kind = 'declarations';
CREATE UNIQUE INDEX debit_request ON entry (request) WHERE kind = 'debit';
CREATE UNIQUE INDEX debit_question ON entry (question, consumer) WHERE kind = 'debit';
CREATE UNIQUE INDEX release_debit ON entry (debit) WHERE kind = 'release';

-- Complete nodes of the tree; level 0 holds the leaves.
CREATE TABLE node (
  level  INTEGER NOT NULL,
  number INTEGER NOT NULL,
  hash   BLOB NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE head (
  one  INTEGER PRIMARY KEY CHECK (one = 1),
  size INTEGER NOT NULL,
  root BLOB NOT NULL
) STRICT;

-- The body of a release; its entry holds the digest.
CREATE TABLE release (
  seq  INTEGER PRIMARY KEY REFERENCES entry (seq),
  body BLOB NOT NULL
) STRICT;

-- Grants and caps; a cap has no consumer and no view. Units of 1e-12 rho.
CREATE TABLE account (
  academic_year TEXT NOT NULL,
  consumer      TEXT NOT NULL,
  view          TEXT NOT NULL,
  cap           INTEGER NOT NULL CHECK (cap >= 0),
  spent         INTEGER NOT NULL CHECK (spent >= 0),
  epsilon       TEXT NOT NULL,
  delta         TEXT NOT NULL,
  valid_until   TEXT,
  approved_by   TEXT NOT NULL,
  withdrawn     INTEGER NOT NULL CHECK (withdrawn IN (0, 1)),
  PRIMARY KEY (academic_year, consumer, view),
  CHECK ((consumer = '') = (view = ''))
) STRICT, WITHOUT ROWID;

CREATE TRIGGER entry_in_sequence BEFORE INSERT ON entry
  WHEN NEW.seq <> (SELECT size FROM head)
  BEGIN SELECT RAISE(ABORT, 'an entry is appended, never put elsewhere'); END;
CREATE TRIGGER entry_kept BEFORE UPDATE ON entry
  BEGIN SELECT RAISE(ABORT, 'an entry is never changed'); END;
CREATE TRIGGER entry_not_deleted BEFORE DELETE ON entry
  BEGIN SELECT RAISE(ABORT, 'an entry is never deleted'); END;
CREATE TRIGGER node_not_replaced BEFORE INSERT ON node
  WHEN EXISTS (SELECT 1 FROM node WHERE level = NEW.level AND number = NEW.number)
  BEGIN SELECT RAISE(ABORT, 'a node is never replaced'); END;
CREATE TRIGGER node_kept BEFORE UPDATE ON node
  BEGIN SELECT RAISE(ABORT, 'a node is never changed'); END;
CREATE TRIGGER node_not_deleted BEFORE DELETE ON node
  BEGIN SELECT RAISE(ABORT, 'a node is never deleted'); END;
CREATE TRIGGER release_not_replaced BEFORE INSERT ON release
  WHEN EXISTS (SELECT 1 FROM release WHERE seq = NEW.seq)
  BEGIN SELECT RAISE(ABORT, 'a release is never replaced'); END;
CREATE TRIGGER release_kept BEFORE UPDATE ON release
  BEGIN SELECT RAISE(ABORT, 'a release is never changed'); END;
CREATE TRIGGER release_not_deleted BEFORE DELETE ON release
  BEGIN SELECT RAISE(ABORT, 'a release is never deleted'); END;
CREATE TRIGGER account_not_replaced BEFORE INSERT ON account
  WHEN EXISTS (SELECT 1 FROM account WHERE academic_year = NEW.academic_year
               AND consumer = NEW.consumer AND view = NEW.view)
  BEGIN SELECT RAISE(ABORT, 'an account is never replaced'); END;
CREATE TRIGGER account_not_deleted BEFORE DELETE ON account
  BEGIN SELECT RAISE(ABORT, 'an account is never deleted'); END;
CREATE TRIGGER account_not_refunded BEFORE UPDATE OF spent ON account
  WHEN NEW.spent < OLD.spent
  BEGIN SELECT RAISE(ABORT, 'what was spent stays spent'); END;
CREATE TRIGGER head_not_replaced BEFORE INSERT ON head
  WHEN EXISTS (SELECT 1 FROM head)
  BEGIN SELECT RAISE(ABORT, 'the head is never replaced'); END;
CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
  WHEN NEW.size <> OLD.size + 1
  BEGIN SELECT RAISE(ABORT, 'the journal grows by one entry at a time'); END;
CREATE TRIGGER head_not_deleted BEFORE DELETE ON head
  BEGIN SELECT RAISE(ABORT, 'the head is never deleted'); END;

INSERT INTO head (one, size, root) VALUES
  (1, 0, x'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
