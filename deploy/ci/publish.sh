#!/usr/bin/env bash
# Publishes what build.sh made: deploy/ci/publish.sh
#   TWINE_REPOSITORY_URL, TWINE_USERNAME, TWINE_PASSWORD   your package index, for the wheel
#   VSCE_PAT or OVSX_PAT                                   the Marketplace or Open VSX, for the extension; none: left out
set -euo pipefail
cd "$(dirname "$0")/../.."
(cd dist && sha256sum --check --quiet SHA256SUMS)
: "${TWINE_REPOSITORY_URL:?set it to your package index}"
python3 -m venv "${TMPDIR:-/tmp}/publish" && "${TMPDIR:-/tmp}/publish/bin/pip" install --quiet twine
"${TMPDIR:-/tmp}/publish/bin/twine" upload --non-interactive --skip-existing dist/*.whl
if [ -n "${VSCE_PAT:-}" ]; then (cd editors/vscode && npx vsce publish --packagePath ../../dist/*.vsix); fi
if [ -n "${OVSX_PAT:-}" ]; then (cd editors/vscode && npx ovsx publish ../../dist/*.vsix); fi
