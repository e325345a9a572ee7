-- Before the first migration of register and vault: the schemas, which the owner of the ledger owns.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['register', 'vault'] LOOP
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = wanted) THEN
      BEGIN
        EXECUTE format('CREATE SCHEMA %I AUTHORIZATION dpanalytics_owner', wanted);
      EXCEPTION WHEN insufficient_privilege THEN
        RAISE EXCEPTION '% may not make a schema in database %', current_user, current_database()
          USING HINT = format('an administrator runs: GRANT CREATE ON DATABASE %I TO %I',
                              current_database(), current_user);
      END;
    END IF;
  END LOOP;
END
$$;

SET LOCAL ROLE dpanalytics_owner;
