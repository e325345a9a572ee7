-- After all migrations, each time: a backup reads every table there is, and may do nothing else.
GRANT USAGE ON SCHEMA ledger, register, vault TO dpanalytics_backup;
GRANT SELECT ON ALL TABLES IN SCHEMA ledger, register, vault TO dpanalytics_backup;
