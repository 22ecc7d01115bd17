#!/usr/bin/env bash
# Lint, types and the test suite, as on the developers' machines: deploy/ci/test.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
export CI=true # a tool that is missing is a failure
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get -qq update
# the programs' services are not wanted, only the programs
printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee /usr/sbin/policy-rc.d >/dev/null
"${sudo[@]}" chmod +x /usr/sbin/policy-rc.d
mapfile -t packages < <(grep -v '^#' .ci/packages.txt)
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get -qq install -y --no-install-recommends "${packages[@]}" >/dev/null
make lint
make test
