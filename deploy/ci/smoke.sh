#!/usr/bin/env bash
# A few requests such as editors make: deploy/ci/smoke.sh https://midfill.example.com
#   MIDFILL_TOKEN  a key with the scope complete; CURL_CA_BUNDLE  a certificate authority of your own
set -euo pipefail
url=${1:?usage: smoke.sh URL}
ask() { # PATH [CURL'S ARGUMENTS]
  local path=$1
  shift
  # the key comes by stdin: a command line can be read by everybody on the machine
  printf 'header = "Authorization: Bearer %s"\n' "${MIDFILL_TOKEN:-}" |
    curl --config - --silent --show-error --fail --max-time 30 --retry 5 --retry-connrefused "$@" "$url$path"
}
body='{"prompt": "def add(a, b):\n    return", "suffix": "\n", "max_tokens": 8, "temperature": 0, "mode": "line"}'
json=(--header 'content-type: application/json')
ask /readyz >/dev/null
echo "smoke.sh: ready"
ask /v1/models | grep -q '"data"'
echo "smoke.sh: the key opens the API"
ask /v1/completions "${json[@]}" --data "$body" | grep -q '"completion_tokens"'
echo "smoke.sh: completes"
ask /v1/completions "${json[@]}" --data "${body/\{/\{\"stream\": true, }" | grep -q 'data: \[DONE\]'
echo "smoke.sh: streams"
