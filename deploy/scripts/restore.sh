#!/bin/sh
# Puts a backup of backup.sh back: keys, events, models and which of them is active.
#
#   MIDFILL_DATABASE=… MIDFILL_MODELS=… MIDFILL_SPOOL_DIR=… deploy/scripts/restore.sh BACKUP [--replace]
#
# Stop the replicas first and start them afterwards. Nothing is touched before every checksum of the backup holds.
# Where there is something already, that is an error; with --replace it goes: of models and spool the old folder stays
# beside the new one with the ending ".before". A backup of an older release is brought up to date with
# `midfill-serve database upgrade`, which is run when it is on PATH.
set -eu
umask 077
die() { echo "restore.sh: $*" >&2; exit 1; }
case $#:${2:-} in 1: | 2:--replace) ;; *) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
here=$(cd "$(dirname "$0")" && pwd)
backup=$1 replace=${2:-}
[ -n "${MIDFILL_DATABASE:-}" ] || die "set MIDFILL_DATABASE as the service has it"
[ -f "$backup/SHA256SUMS" ] || die "$backup is no whole backup: there is no SHA256SUMS in it"
started=$(date +%s)
(cd "$backup" && sha256sum --check --quiet --strict SHA256SUMS) || die "$backup is damaged; nothing was changed"

is_empty() { [ ! -d "$1" ] || [ -z "$(ls -A "$1")" ]; }
check_folder() { # NAME FOLDER
  [ -f "$backup/$1.tar" ] || return 0
  [ -n "$2" ] || die "the backup holds $1: set MIDFILL_$3 to their folder"
  [ "$replace" ] || is_empty "$2" || die "$2 is not empty: move it away, or pass --replace"
}
restore_folder() { # NAME FOLDER
  [ -f "$backup/$1.tar" ] || return 0
  rm -rf "$2.restoring"
  mkdir -p "$2.restoring"
  tar -C "$2.restoring" -xf "$backup/$1.tar"
  if ! is_empty "$2"; then rm -rf "$2.before" && mv "$2" "$2.before"; else rm -rf "$2"; fi
  mv "$2.restoring" "$2"
}
check_folder models "${MIDFILL_MODELS:-}" MODELS
check_folder spool "${MIDFILL_SPOOL_DIR:-}" SPOOL_DIR

case $MIDFILL_DATABASE in
  sqlite:///*)
    file=${MIDFILL_DATABASE#sqlite:///}
    [ -f "$backup/database.sqlite" ] || die "this is no backup of an SQLite database"
    [ "$replace" ] || [ ! -e "$file" ] || die "$file is there already: move it away, or pass --replace"
    mkdir -p "$(dirname "$file")"
    cp "$backup/database.sqlite" "$file.restoring"
    rm -f "$file-wal" "$file-shm" # of the old file
    mv "$file.restoring" "$file"
    ;;
  postgres://* | postgresql://*)
    [ -f "$backup/database.dump" ] || die "this is no backup of a PostgreSQL database"
    # shellcheck disable=SC1091
    . "$here/postgres_password.sh"
    if [ "$replace" ]; then set -- --clean --if-exists; else set --; fi
    # all or nothing: tables that are there already make it fail as a whole
    pg_restore --single-transaction --exit-on-error --no-owner --no-privileges "$@" --dbname="$POSTGRES_URL" \
      "$backup/database.dump" || die "the database was not changed; where it holds tables already, pass --replace"
    ;;
  *) die "MIDFILL_DATABASE must be sqlite:///PATH or postgresql://…" ;;
esac
restore_folder models "${MIDFILL_MODELS:-}"
restore_folder spool "${MIDFILL_SPOOL_DIR:-}"
if command -v midfill-serve >/dev/null; then midfill-serve database upgrade; fi
echo "restore.sh: $backup is back after $(($(date +%s) - started)) s; start the replicas" >&2
