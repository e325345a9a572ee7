#!/bin/sh
# Makes the secrets that compose.yaml names, in deploy/secrets; it replaces none.
# The service runs as user 10001 and libpq wants a password file of its own user, mode 0600, so
# run it as root.
set -eu
umask 077
cd "$(dirname "$0")"
mkdir -p secrets

for name in owner macro micro steward auditor backup; do
  user=$name
  [ "$name" = owner ] && user=postgres
  [ -e "secrets/database_$name" ] ||
    head -c 32 /dev/urandom | base64 | tr -d '=+/\n' > "secrets/database_$name"
  if [ ! -e "secrets/pgpass_$name" ]; then
    printf 'database:5432:dpanalytics:%s:%s\n' "$user" "$(cat "secrets/database_$name")" \
      > "secrets/pgpass_$name"
    chown 10001:10001 "secrets/pgpass_$name"
  fi
done
# The database's image reads these as its own user, 999.
chown 999:999 secrets/database_*
