#!/bin/sh
# Unpacks Neovim >= 0.12 with its own libc under DEST, so that it runs on distributions whose packaged Neovim
# is older. Nothing outside DEST is written and no root is needed.
#
#   tools/install_nvim.sh .tools/nvim      then   .tools/nvim/bin/nvim --version
#
# DEBIAN_MIRROR  package mirror (default: the one this system's apt uses; needed on non-Debian systems)
# NVIM_SUITE     Debian suite to take Neovim from (default: forky)
set -eu
if [ $# -ne 1 ]; then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; fi
mkdir -p "$1/bin"
dest=$(cd "$1" && pwd -P)
works() { "$dest/bin/nvim" --clean --headless +'lua assert(vim.lsp.start)' +q; }

if works 2>/dev/null; then echo "Neovim is already in $dest"; exit 0; fi
"$(dirname "$0")/unpack_debian.sh" "$dest" "${NVIM_SUITE:-forky}" neovim usr/bin/nvim
cat >"$dest/bin/nvim" <<WRAPPER
#!/bin/sh
export VIMRUNTIME='$dest/root/usr/share/nvim/runtime'
exec '$dest/root/usr/bin/nvim' "\$@"
WRAPPER
chmod +x "$dest/bin/nvim"
works || { echo "install_nvim: Neovim was unpacked but does not start" >&2; exit 1; }
"$dest/bin/nvim" --version | head -n 1
