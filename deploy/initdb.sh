#!/bin/sh
# Run once by the database's image, when its directory is empty: one user a role. The roles
# themselves get their rights from `dpanalytics upgrade`; here they are named so that each user can
# be a member of its own.
set -eu
: "${SECRETS:=/run/secrets}"

for name in macro steward auditor; do
  # psql reads and quotes the password itself, so it is in no argument of a process.
  psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet <<SQL
\set password \`cat $SECRETS/database_$name\`
SELECT 'CREATE ROLE dpanalytics_$name NOLOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dpanalytics_$name') \gexec
CREATE ROLE $name LOGIN PASSWORD :'password' IN ROLE dpanalytics_$name;
SQL
done
