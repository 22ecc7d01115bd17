#!/bin/sh
# Unpacks Helix, Emacs with lsp-mode, and a Neovim without ghost text (0.10) under DEST, each with its own libc, for the
# tests of `make test-full`. Nothing outside DEST is written and no root is needed.
#
#   tools/install_other_editors.sh .tools/editors      then   .tools/editors/bin/hx --version
set -eu
if [ $# -ne 1 ]; then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; fi
mkdir -p "$1/bin"
dest=$(cd "$1" && pwd -P)
tools=$(cd "$(dirname "$0")" && pwd)

NVIM_SUITE=trixie "$tools/install_nvim.sh" "$dest/nvim-0.10"
ln -sf ../nvim-0.10/bin/nvim "$dest/bin/nvim-0.10"

"$tools/unpack_debian.sh" "$dest/helix" forky hx usr/lib/hx/hx
cat >"$dest/bin/hx" <<WRAPPER
#!/bin/sh
export HELIX_RUNTIME='$dest/helix/root/usr/lib/hx/runtime'
exec '$dest/helix/root/usr/lib/hx/hx' "\$@"
WRAPPER

"$tools/unpack_debian.sh" "$dest/emacs" forky "emacs-nox elpa-lsp-mode" usr/bin/emacs-nox
root=$dest/emacs/root
version=$(ls "$root/usr/libexec/emacs")
programs=$(dirname "$root/usr/libexec/emacs/$version"/*/*.pdmp)
cat >"$dest/bin/emacs" <<WRAPPER
#!/bin/sh
export EMACSLOADPATH='$root/usr/share/emacs/$version/lisp' EMACSDATA='$root/usr/share/emacs/$version/etc'
export EMACSDOC='$root/usr/share/emacs/$version/etc' EMACSPATH='$programs' TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo
exec '$root/usr/bin/emacs-nox' --dump-file='$(echo "$programs"/*.pdmp)' \\
  --eval '(setq native-comp-enable-subr-trampolines nil native-comp-jit-compilation nil)' \\
  --eval '(setq package-directory-list (list "$root/usr/share/emacs/site-lisp/elpa-src"))' "\$@"
WRAPPER
chmod +x "$dest/bin/hx" "$dest/bin/emacs"
"$dest/bin/nvim-0.10" --version | head -n 1
"$dest/bin/hx" --version
"$dest/bin/emacs" --batch --eval '(progn (package-initialize) (require (quote lsp-mode)) (princ (concat "Emacs " emacs-version ", lsp-mode " (lsp-package-version) "\n")))'
