#!/usr/bin/env bash
# lint.sh: luacheck, clang-format, public headers alone under the strictest flags, lua.h only in bindings/, cppcheck, clang-tidy.
# Each is one line of TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
B=${B:-build}; n=0; bad=0
out=$(mktemp); trap 'rm -f "$out"' EXIT
check() {
  local name=$1; shift
  n=$((n + 1))
  if "$@" > "$out" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$out" | head -40; bad=$((bad + 1)); fi
}

strict="-std=c11 -pedantic-errors -Wall -Wextra -Wshadow -Wundef -Wconversion -Wcast-qual -Wstrict-prototypes -Werror"
header() { printf '#include <ckpt/%s>\n' "$1" | gcc $strict -Iruntime/include -Ibindings/include -fsyntax-only -x c -; }
header_cxx() { printf '#include <ckpt/%s>\n' "$1" | g++ -std=c++11 -Wall -Wextra -Werror -Iruntime/include -Ibindings/include -fsyntax-only -x c++ -; }
core_without_lua() { ! grep -nE '#include *[<"](lua|lauxlib|lualib)\.h' -r runtime; }
core_is_quiet() { ! grep -nE '\b(printf|puts|fputs|perror|exit|abort)\(' runtime/*.c; }
no_marks() { ! grep -nE '\b(TODO|FIXME|XXX|HACK)\b' -r runtime bindings scripts policies tests Makefile --include='*.c' --include='*.h' --include='*.lua' --include=Makefile; }
no_globals() { # writable data or bss in the core, read-only tables aside
  local objects; objects=$(ls "$B"/obj/runtime/*.o) || return 1
  ! nm -A $objects | grep -E ' [BbDdC] ' | grep -vE ' [Dd] \.?(data\.rel\.ro|rows|names|.*\.[0-9]+)$' | grep -E ' [BbC] '
}

check 'luacheck' luacheck -q .
for h in ckpt.h checkpointer.h; do
  check "$h compiles alone as strict C11" header $h
  if command -v g++ > /dev/null; then check "$h compiles alone as C++" header_cxx $h; fi
done
check 'lua.h is included in bindings/ only' core_without_lua
check 'the core prints nothing and never exits' core_is_quiet
check 'the core has no writable globals' no_globals
check 'no left-over marks' no_marks
if command -v clang-format > /dev/null; then
  check 'clang-format' clang-format --dry-run -Werror runtime/*.[ch] runtime/include/ckpt/*.h bindings/*.[ch] \
    bindings/include/ckpt/*.h tests/c/*.[ch] tests/trainer/*.[ch] tests/bench/*.c tests/power/*.[ch] tests/race/*.[ch] tests/crash/*.[ch]
fi
if command -v cppcheck > /dev/null; then
  check 'cppcheck' cppcheck -q --error-exitcode=1 --std=c11 --inline-suppr --suppress=missingIncludeSystem --suppress=memleak \
    --enable=warning,portability -D_GNU_SOURCE -Iruntime/include -Ibindings/include -Iruntime -Ibindings runtime bindings
fi
if command -v clang-tidy > /dev/null; then
  check 'clang-tidy' clang-tidy --quiet runtime/*.c bindings/*.c -- -std=c11 -D_GNU_SOURCE -Iruntime/include \
    -Ibindings/include -Iruntime -Ibindings $(pkg-config --cflags lua5.4)
fi
echo "1..$n"
[ "$bad" = 0 ]
