#!/bin/sh
# Two sets of replicas, blue and green; nginx sends everybody to one of them. Switch without a lost request, and back.
#
#   deploy/scripts/blue_green.sh status | switch blue|green | rollback
#
#   BLUE, GREEN     host:port of each replica of that colour, separated by spaces
#   NGINX_CONF      the nginx.conf that nginx runs with; made anew, the one before stays as NGINX_CONF.previous
#   NGINX           the program; default: nginx
#   NGINX_RELOAD    how nginx is told; default: nginx -s reload -c NGINX_CONF
#   MIDFILL_TOKEN   key for a completion that each replica must answer before it gets users; scope "complete"
#   and the variables of deploy/nginx/render.sh, but MIDFILL_REPLICAS
#
# A colour of which a replica is not ready, or gives no completion, gets nobody. Streams that run end where they began.
set -eu
if [ $# -lt 1 ]; then sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; fi
die() { echo "blue_green.sh: $*" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
: "${NGINX_CONF:?set NGINX_CONF to the nginx.conf that nginx runs with}"
NGINX=${NGINX:-nginx}

colour() { sed -n 's/^# colour: //p' "$1" 2>/dev/null | head -n 1; }
reload() {
  "$NGINX" -t -q -c "$NGINX_CONF" || return 1
  if [ "${NGINX_RELOAD:-}" ]; then sh -c "$NGINX_RELOAD"; else "$NGINX" -s reload -c "$NGINX_CONF"; fi
}
# The key goes to curl through a file descriptor: on a command line others could read it.
ask() {
  printf 'header = "Authorization: Bearer %s"\n' "${MIDFILL_TOKEN:-}" | curl --config - --silent --show-error \
    --fail-with-body --max-time 30 --noproxy '*' "$@"
}
check() {
  for replica in $1; do
    curl --silent --fail --max-time 5 --noproxy '*' "http://$replica/readyz" >/dev/null ||
      die "$replica is not ready; nothing was changed"
    [ -z "${MIDFILL_TOKEN:-}" ] ||
      ask "http://$replica/v1/completions" -H 'Content-Type: application/json' \
        -d '{"prompt": "def add(a, b):\n    return ", "max_tokens": 4, "temperature": 0}' >/dev/null ||
      die "$replica gives no completion; nothing was changed"
  done
}
exchange() { # NEW: becomes the configuration; taken back when nginx refuses it
  before=$NGINX_CONF.previous
  cp "$NGINX_CONF" "$NGINX_CONF.kept"
  mv "$1" "$NGINX_CONF"
  if reload; then
    mv "$NGINX_CONF.kept" "$before"
  else
    mv "$NGINX_CONF.kept" "$NGINX_CONF"
    die "nginx refused the configuration; the old one stays"
  fi
}

case $1 in
  status)
    echo "serving: $(colour "$NGINX_CONF")"
    echo "before: $(colour "$NGINX_CONF.previous")"
    ;;
  switch)
    case ${2:-} in blue) replicas=${BLUE:?} ;; green) replicas=${GREEN:?} ;; *) die "switch to blue or to green" ;; esac
    check "$replicas"
    { echo "# colour: $2" && MIDFILL_REPLICAS=$replicas "$here/../nginx/render.sh"; } >"$NGINX_CONF.new"
    exchange "$NGINX_CONF.new"
    echo "serving: $2; keep the other colour up for a rollback"
    ;;
  rollback)
    [ -f "$NGINX_CONF.previous" ] || die "there is no configuration to go back to"
    cp "$NGINX_CONF.previous" "$NGINX_CONF.new"
    exchange "$NGINX_CONF.new"
    echo "serving: $(colour "$NGINX_CONF")"
    ;;
  *) die "status, switch or rollback, not $1" ;;
esac
