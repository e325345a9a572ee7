#!/bin/sh
# Run once by the database's image, when its directory is empty: users and their roles. The
# roles themselves get their rights from `dpanalytics upgrade`; here they are named so that each user can
# be a member of its own.
set -eu
: "${SECRETS:=/run/secrets}"

make_user() {
  name=$1
  shift
  for role in "$@"; do
    psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet <<SQL
SELECT 'CREATE ROLE dpanalytics_$role NOLOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'dpanalytics_$role') \gexec
SQL
  done
  # psql reads and quotes the password itself, so it is in no argument of a process.
  roles=$(printf ', dpanalytics_%s' "$@")
  psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set ON_ERROR_STOP=1 --quiet <<SQL
\set password \`cat $SECRETS/database_$name\`
CREATE ROLE $name LOGIN PASSWORD :'password' IN ROLE ${roles#, };
SQL
}

make_user macro macro
make_user micro micro
make_user steward steward
make_user auditor auditor
# A backup reads the journal, the register and the sealed vault.
make_user backup auditor steward
