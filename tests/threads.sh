#!/usr/bin/env bash
# threads.sh BUILD TEST...: C tests built with ThreadSanitizer, then a trainer's life: train, save, resume. Speaks TAP.
set -u
cd "$(dirname "$0")/.." || exit 2
B=$1; shift
export TSAN_OPTIONS="halt_on_error=0 allocator_may_return_null=1 exitcode=66 second_deadlock_stack=1" CKPT_DATA=$PWD/tests/data/optdigits.pth
export CKPT_SHARED=${CKPT_SHARED:-$PWD/../shared}
out=$(mktemp -d); trap 'rm -rf "$out"' EXIT
n=0 bad=0

check() { # NAME COMMAND...
  local name=$1; shift
  n=$((n + 1))
  if "$@" > "$out/log" 2>&1; then echo "ok $n - $name"; else echo "not ok $n - $name"; sed 's/^/# /' "$out/log" | tail -60; bad=$((bad + 1)); fi
}

big_model() { # large and many tensors: threads that copy, sum, check and sync
  mkdir -p "$out/a" "$out/b" # one name: it is in the file too
  "$B/bench" model vgg16 40000000 + save "$out/a/m.pth" + verify "$out/a/m.pth" + copy "$out/a/m.pth" \
    + load "$out/a/m.pth" "$out/run" + resave "$out/a/m.pth" "$out/b/m.pth" + save_latest "$out/run" 1 || return 1
  cmp "$out/a/m.pth" "$out/b/m.pth" || return 1
  "$B/bench" model many 3000 + save "$out/c.pth" + open "$out/c.pth" + verify "$out/c.pth" + optimizer "$out/d.pth" 500
}

make --no-print-directory B="$B" SANITIZE="$SANITIZE" "$B/bench" $(printf "$B/tests/%s " "$@") > "$out/log" 2>&1 ||
  { sed 's/^/# /' "$out/log" | tail -40; exit 1; }
for test in "$@"; do check "$test under ThreadSanitizer" "$B/tests/$test"; done
check 'large files and many tensors under ThreadSanitizer' big_model
echo "1..$n"
[ "$bad" = 0 ]
