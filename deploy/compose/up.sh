#!/bin/sh
# From a checkout to a service for a team: deploy/compose/up.sh [service…]
# What exists (.env, certificate, keys) is kept, so it may be run again, and is how a new release is started.
set -eu
cd "$(dirname "$0")"

if [ ! -e .env ]; then
  umask 077
  while IFS= read -r line; do
    case $line in
    *PASSWORD=) echo "$line$(openssl rand -hex 24)" ;;
    *) echo "$line" ;;
    esac
  done <.env.example >.env
  echo "up.sh: made .env with new passwords"
fi

mkdir -p tls secrets logs
chmod 1777 logs # the shipper is nobody on this machine
if [ ! -e tls/tls.crt ]; then
  # readable by nginx's user in the container; the folder is only as private as this checkout
  openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj "/CN=$(hostname)" \
    -addext "subjectAltName=DNS:$(hostname),DNS:localhost,IP:127.0.0.1" -keyout tls/tls.key -out tls/tls.crt 2>/dev/null
  chmod 644 tls/tls.key
  echo "up.sh: made a certificate that nobody else trusts; replace tls/tls.crt and tls/tls.key by your own"
fi

docker compose build
docker compose up --detach --wait postgresql redis
docker compose run --rm database-upgrade
keys() { docker compose run --rm --no-TTY --no-deps --entrypoint midfill-serve database-upgrade keys "$@"; }
if [ ! -s secrets/metrics-key ]; then
  keys create --owner prometheus --scopes metrics >secrets/metrics-key
  chmod 644 secrets/metrics-key
fi
if [ ! -s secrets/admin-key ]; then
  (umask 077 && keys create --owner operator --scopes complete,events,metrics,admin >secrets/admin-key)
  echo "up.sh: your own key, for everything, is in $(pwd)/secrets/admin-key"
fi
password=$(sed -n 's/^GRAFANA_DATABASE_PASSWORD=//p' .env)
docker compose exec --no-TTY postgresql psql --quiet --username midfill --dbname midfill <<SQL
DO \$\$ BEGIN CREATE ROLE grafana LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END \$\$;
ALTER ROLE grafana PASSWORD '$password';
GRANT SELECT ON completions, events, api_keys TO grafana;
SQL
docker compose up --detach --wait "$@"
echo "up.sh: completions on https://$(hostname):$(sed -n 's/^HTTPS_PORT=//p' .env); keys for developers:"
echo "  docker compose exec inference-1 midfill-serve keys create --owner NAME"
