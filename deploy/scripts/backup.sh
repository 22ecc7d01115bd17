#!/bin/sh
# Backs up keys, events and models of a running service into one new folder below DEST, and prints that folder.
#
#   MIDFILL_DATABASE=… MIDFILL_MODELS=… MIDFILL_SPOOL_DIR=… deploy/scripts/backup.sh DEST
#
#   MIDFILL_DATABASE   as the service has it: postgresql://… (needs pg_dump) or sqlite:///PATH (needs python3)
#   MIDFILL_MODELS     folder of the model versions with rollout.json; empty or a URL: not backed up here
#   MIDFILL_SPOOL_DIR  folder of events that wait for the database; empty: none
#
# Keys are stored as salted hashes, and the dump holds no code unless store_code is on. The folder is for its owner
# alone; put DEST on another disk, or copy the folder away. A backup that was not completed ends in ".partial".
set -eu
umask 077
if [ $# -ne 1 ]; then sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2; fi
die() { echo "backup.sh: $*" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
[ -n "${MIDFILL_DATABASE:-}" ] || die "set MIDFILL_DATABASE as the service has it"
started=$(date +%s)
done_folder=$1/midfill-$(date -u +%Y%m%dT%H%M%SZ)
to=$done_folder.partial
mkdir -p "$to"

# Before the database, or an event that goes from here to there in between would be in neither copy. One that is in
# both is stored once.
if [ -n "${MIDFILL_SPOOL_DIR:-}" ] && [ -d "$MIDFILL_SPOOL_DIR" ]; then
  tar --warning=no-file-changed --warning=no-file-removed --ignore-failed-read -C "$MIDFILL_SPOOL_DIR" \
    -cf "$to/spool.tar" . || [ $? -eq 1 ] # 1: something was shipped meanwhile
fi
case $MIDFILL_DATABASE in
  sqlite:///*)
    file=${MIDFILL_DATABASE#sqlite:///}
    [ -f "$file" ] || die "there is no file $file"
    # SQLite's own backup: whole and of one instant, while services write
    python3 -c 'import sqlite3, sys
with sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True) as source, sqlite3.connect(sys.argv[2]) as target:
    source.backup(target)' "$file" "$to/database.sqlite"
    ;;
  postgres://* | postgresql://*)
    # shellcheck disable=SC1091
    . "$here/postgres_password.sh"
    pg_dump --format=custom --no-owner --no-privileges --file="$to/database.dump" --dbname="$POSTGRES_URL"
    ;;
  *) die "MIDFILL_DATABASE must be sqlite:///PATH or postgresql://…" ;;
esac

case ${MIDFILL_MODELS:-} in
  "") ;;
  *://*) echo "backup.sh: $MIDFILL_MODELS is object storage: switch on its versioning, it is not copied here" >&2 ;;
  *) tar -C "$MIDFILL_MODELS" -cf "$to/models.tar" . ;;
esac
(cd "$to" && sha256sum -- * >SHA256SUMS)
mv "$to" "$done_folder"
echo "backup.sh: $(du -sk "$done_folder" | cut -f1) KiB in $(($(date +%s) - started)) s" >&2
echo "$done_folder"
