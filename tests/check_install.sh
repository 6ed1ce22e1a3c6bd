#!/usr/bin/env bash
# check_install.sh: installs below a temporary DESTDIR, compares the list of files with INSTALLED, builds and runs the README's
# program with pkg-config alone, loads the Lua module, uninstalls, and wants nothing left.
set -eu
cd "$(dirname "$0")/.."
prefix=/opt/ckpt-check
dest=$(mktemp -d); trap 'rm -rf "$dest"' EXIT
make --no-print-directory install B="$B" DESTDIR="$dest" prefix=$prefix > "$dest.log" || { cat "$dest.log"; exit 1; }
rm -f "$dest.log"
root=$dest$prefix
(cd "$dest" && find . -type f -o -type l | sed 's|^\.||' | LC_ALL=C sort) > "$dest/found"
make --no-print-directory -s print-installed B="$B" prefix=$prefix | tr ' ' '\n' | grep . | LC_ALL=C sort > "$dest/wanted"
sed -i '\|^/found$|d;\|^/wanted$|d' "$dest/found"
diff -u "$dest/wanted" "$dest/found" && echo "installed files: as listed ($(wc -l < "$dest/found"))"

awk '/^```c$/{on=1;next} /^```$/{on=0} on' README.md > "$dest/embed.c"
echo "the README's program: $(grep -c . "$dest/embed.c") lines"
export PKG_CONFIG_PATH=$root/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dest
gcc -std=c11 -Wall -Wextra -Werror -o "$dest/embed" "$dest/embed.c" $(pkg-config --cflags --libs ckpt)
(cd "$dest" && LD_LIBRARY_PATH=$root/lib ./embed && LD_LIBRARY_PATH=$root/lib ./embed)
gcc -std=c11 -o "$dest/embed_static" "$dest/embed.c" $(pkg-config --cflags ckpt) "$root/lib/libckpt.a" \
  $(PKG_CONFIG_PATH= PKG_CONFIG_SYSROOT_DIR= pkg-config --libs lua5.4 libzip libcrypto libdeflate jansson libarchive) -lm -lpthread
LUA_CPATH="$root/lib/lua/5.4/?.so" lua5.4 -e 'print("Lua module " .. require("ckpt").version)'
"$root/bin/ckpt" --version
make --no-print-directory uninstall B="$B" DESTDIR="$dest" prefix=$prefix > /dev/null
left=$(find "$root" -type f -o -type l 2>/dev/null | wc -l)
echo "left after uninstall: $left files"
[ "$left" = 0 ]
