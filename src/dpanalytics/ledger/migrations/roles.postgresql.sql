-- Before the first migration, and before every other: who owns the ledger, who may do what with it,
-- and the schema itself. Made where it is missing, left as it is where it is there.
--
-- All are group roles without a login: the operator grants one to the user of each process.
--   dpanalytics_owner    owns tables and functions; nobody's process
--   dpanalytics_macro    debits, records, tells of refusals
--   dpanalytics_micro    tells of refusals
--   dpanalytics_steward  adopts declarations, tells of loads, snapshots and consents
--   dpanalytics_auditor  reads
--   dpanalytics_backup   reads all tables, those of register and vault too
DO $$
DECLARE
  missing text;
BEGIN
  IF current_setting('server_version_num')::int < 140000 THEN
    RAISE EXCEPTION 'PostgreSQL %; must be 14 or newer', current_setting('server_version');
  END IF;
  IF NOT pg_encoding_to_char((SELECT encoding FROM pg_database WHERE datname = current_database()))
         = 'UTF8' THEN
    RAISE EXCEPTION 'database % has not the encoding UTF8', current_database();
  END IF;
  FOREACH missing IN ARRAY ARRAY['dpanalytics_owner', 'dpanalytics_macro', 'dpanalytics_micro',
                                 'dpanalytics_steward', 'dpanalytics_auditor',
                                 'dpanalytics_backup'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = missing) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', missing);
      EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;  -- made elsewhere meanwhile
        WHEN insufficient_privilege THEN
          RAISE EXCEPTION 'role % is not there, and % may not make it', missing, current_user
            USING HINT = format('an administrator runs: CREATE ROLE %I NOLOGIN', missing);
      END;
    END IF;
  END LOOP;

  BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
      EXECUTE format('GRANT dpanalytics_owner TO %I', current_user);
    END IF;
  EXCEPTION WHEN insufficient_privilege THEN
    IF NOT pg_has_role(current_user, 'dpanalytics_owner', 'MEMBER') THEN
      RAISE EXCEPTION '% is no member of role dpanalytics_owner', current_user
        USING HINT = format('an administrator runs: GRANT dpanalytics_owner TO %I', current_user);
    END IF;
  END;

  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'ledger') THEN
    BEGIN
      CREATE SCHEMA ledger AUTHORIZATION dpanalytics_owner;
    EXCEPTION WHEN insufficient_privilege THEN
      RAISE EXCEPTION '% may not make a schema in database %', current_user, current_database()
        USING HINT = format('an administrator runs: GRANT CREATE ON DATABASE %I TO %I',
                            current_database(), current_user);
    END;
  END IF;

  -- Nobody makes temporary or other objects: a name that hides one of ours must not exist. Of these
  -- rights, those of the database are not part of a dump.
  IF pg_has_role(current_user, (SELECT datdba FROM pg_database WHERE datname = current_database()),
                 'MEMBER') THEN
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC', current_database());
  END IF;
  IF pg_has_role(current_user, (SELECT nspowner FROM pg_namespace WHERE nspname = 'public'),
                 'MEMBER') THEN
    REVOKE CREATE ON SCHEMA public FROM PUBLIC;
  END IF;
END
$$;

SET LOCAL ROLE dpanalytics_owner;
-- What the owner makes, here or in a schema to come, is closed until a migration opens it.
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
