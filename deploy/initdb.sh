#!/bin/sh
# Run once by the database's image, when its directory is empty: users, each in a role of its own.
# The roles get their rights from `dpanalytics upgrade`; here they are made so that they have members.
set -eu
: "${SECRETS:=/run/secrets}"

# A backup reads the journal, the register and the sealed vault, and writes nothing.
for name in macro micro steward auditor backup; do
  # psql reads and quotes the password itself, so it is in no argument of a process.
  psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet <<SQL
SELECT 'CREATE ROLE dpanalytics_$name NOLOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dpanalytics_$name') \gexec
\set password \`cat $SECRETS/database_$name\`
CREATE ROLE $name LOGIN PASSWORD :'password' IN ROLE dpanalytics_$name;
SQL
done
