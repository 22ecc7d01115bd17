#!/usr/bin/env bash
# Known vulnerabilities of the dependencies, secrets in the history, and the images: deploy/ci/scan.sh [IMAGE…]
# A scanner that is not installed is run from its image. They fetch what they know from their makers.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
scan() { # NAME IMAGE ARGUMENT…
  local name=$1 image=$2
  shift 2
  echo "scan.sh: $name $*"
  if command -v "$name" >/dev/null; then
    "$name" "$@" || failed=1
  else
    docker run --rm --volume "$PWD:/work:ro" --workdir /work "$image" "$@" || failed=1
  fi
}
python3 -m venv "${TMPDIR:-/tmp}/scan" && "${TMPDIR:-/tmp}/scan/bin/pip" install --quiet pip-audit
"${TMPDIR:-/tmp}/scan/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip || failed=1
(cd editors/vscode && npm audit --omit=dev) || failed=1
scan gitleaks zricethezav/gitleaks:v8.28.0 detect --source . --no-banner --redact
for image in "$@"; do
  # what nobody has mended yet is no reason to stay on an older build
  scan trivy aquasec/trivy:0.65.0 image --exit-code 1 --severity HIGH,CRITICAL --ignore-unfixed "$image"
done
exit $failed
