#!/bin/sh
# Prints nginx.conf, made of nginx.conf.template beside this file and of these variables:
#
#   MIDFILL_REPLICAS         required: host:port of each replica, separated by spaces
#   MIDFILL_GRPC_REPLICAS    host:port of each replica's gRPC port; empty: no gRPC
#   MIDFILL_TLS_CERTIFICATE  /etc/midfill/tls/tls.crt   with its chain
#   MIDFILL_TLS_KEY          /etc/midfill/tls/tls.key
#   MIDFILL_LISTEN           8443             for everybody: address:port or port
#   MIDFILL_OPERATOR_LISTEN  127.0.0.1:8444   /admin and /nginx_status, plain HTTP
#   MIDFILL_RATE             100              requests a second of one client (key and address), then 429
#   MIDFILL_BURST            200              of them at once
#   MIDFILL_MAX_BODY_BYTES   1048576          as the service's max_body_bytes
#   MIDFILL_ACCESS_LOG       /dev/stdout
#   MIDFILL_NGINX_DIR        /tmp             pid file and empty temporary folders; writable
#
# MIDFILL_REPLICAS="10.0.0.1:8000 10.0.0.2:8000" deploy/nginx/render.sh >nginx.conf && nginx -t -c $PWD/nginx.conf
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${MIDFILL_REPLICAS:-}" ]; then
  echo "render.sh: set MIDFILL_REPLICAS to host:port of each replica, separated by spaces" >&2
  exit 2
fi
# Out for a second after three failures: short, because a replica that is full answers 503 too, and all of them
# may be full at once.
servers() { for replica in $1; do printf 'server %s max_fails=3 fail_timeout=1s; ' "$replica"; done; }
export MIDFILL_SERVERS MIDFILL_GRPC_SERVERS
MIDFILL_SERVERS=$(servers "$MIDFILL_REPLICAS")
MIDFILL_GRPC_SERVERS=$(servers "${MIDFILL_GRPC_REPLICAS:-}")
export MIDFILL_TLS_CERTIFICATE="${MIDFILL_TLS_CERTIFICATE:-/etc/midfill/tls/tls.crt}"
export MIDFILL_TLS_KEY="${MIDFILL_TLS_KEY:-/etc/midfill/tls/tls.key}"
export MIDFILL_LISTEN="${MIDFILL_LISTEN:-8443}"
export MIDFILL_OPERATOR_LISTEN="${MIDFILL_OPERATOR_LISTEN:-127.0.0.1:8444}"
export MIDFILL_RATE="${MIDFILL_RATE:-100}"
export MIDFILL_BURST="${MIDFILL_BURST:-200}"
export MIDFILL_MAX_BODY_BYTES="${MIDFILL_MAX_BODY_BYTES:-1048576}"
export MIDFILL_ACCESS_LOG="${MIDFILL_ACCESS_LOG:-/dev/stdout}"
export MIDFILL_NGINX_DIR="${MIDFILL_NGINX_DIR:-/tmp}"

exec awk -v errors="$here/errors.conf" '
function filled(line,   out, name) {
  out = ""
  while (match(line, /\$\{[A-Z_]+\}/)) {
    name = substr(line, RSTART + 2, RLENGTH - 3)
    out = out substr(line, 1, RSTART - 1) ENVIRON[name]
    line = substr(line, RSTART + RLENGTH)
  }
  return out line
}
/\$\{MIDFILL_ERRORS\}/ {
  indent = substr($0, 1, index($0, "$") - 1)
  while ((getline line < errors) > 0) print indent filled(line)
  close(errors)
  next
}
/^ *#grpc / { if (ENVIRON["MIDFILL_GRPC_SERVERS"] == "") next; sub(/#grpc /, "") }
/^# render\.sh makes/ { next }
{ print filled($0) }
' "$here/nginx.conf.template"
