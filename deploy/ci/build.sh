#!/usr/bin/env bash
# The wheel and the VS Code extension, with their checksums, in dist/: deploy/ci/build.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf dist && mkdir dist
python3 -m pip wheel --quiet --no-deps --wheel-dir dist .
make vsix
cp editors/vscode/midfill-*.vsix dist/
(cd dist && sha256sum -- *.whl *.vsix >SHA256SUMS)
cat dist/SHA256SUMS
