#!/usr/bin/env bash
# run.sh [c] [lua] [e2e]: runs suites of tests under prove and ends with one line "N passed, N failed, N skipped".
#
# Every test is a program that speaks TAP: cmocka programs through CMOCKA_MESSAGE_OUTPUT, busted through -o TAP, scripts by
# themselves. What a machine lacks (../shared, PyTorch) is counted as skipped, never as passed. Environment: B (build
# directory), SANITIZED=1 for a build with AddressSanitizer.
set -u
cd "$(dirname "$0")/.." || exit 2
B=${B:-build}
case $B in /*) ;; *) B=$PWD/$B ;; esac
export B CKPT_TOP=$PWD CKPT=$B/ckpt TRAINER=$B/trainer CKPT_DATA=$PWD/tests/data/optdigits.pth
export CKPT_SHARED=${CKPT_SHARED:-$PWD/../shared}
export LUA_PATH="$PWD/?.lua;$PWD/tests/lua/?.lua;;" LUA_CPATH="$B/?.so;;"
export LC_ALL=C.UTF-8
log=$(mktemp -d); trap 'rm -rf "$log"' EXIT

busted="lua5.4 /usr/bin/busted -o TAP"
if [ "${SANITIZED:-}" = 1 ]; then
  export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
  preload="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
fi

passed=0 failed=0 skipped=0
# one NAME COMMAND...: runs a TAP program, counts its lines; a missing plan or a bad exit status is a failure.
one() {
  local name=$1 out=$log/out status ok bad skip plan began=$SECONDS; shift
  "$@" > "$out" 2> "$log/err"; status=$?
  skip=$(grep -cE '^(not )?ok [0-9]+.*# *[Ss][Kk][Ii][Pp]' "$out") # cmocka says "not ok 7 # SKIP"
  ok=$(grep -E '^ok [0-9]+' "$out" | grep -ciE -v '# *skip'); bad=$(grep -E '^not ok [0-9]+' "$out" | grep -ciE -v '# *skip')
  plan=$(sed -n 's/^1\.\.\([0-9][0-9]*\).*/\1/p' "$out" | tail -1)
  if [ "$plan" = 0 ]; then skip=1; fi
  if [ "$status" != 0 ] && [ "$bad" = 0 ]; then bad=1; fi
  if [ -z "$plan" ] || { [ "$plan" != 0 ] && [ $((ok + skip + bad)) -lt "$plan" ]; }; then bad=$((bad + 1)); fi
  passed=$((passed + ok)); failed=$((failed + bad)); skipped=$((skipped + skip))
  printf '%-36s %4d passed %3d failed %3d skipped %5d s\n' "$name" "$ok" "$bad" "$skip" $((SECONDS - began))
  if [ "$bad" -gt 0 ]; then grep -vE '^ok ' "$out" | head -60; tail -60 "$log/err"; echo "(exit status $status)"; fi
}

build_c() {
  make --no-print-directory -s -j"$(nproc)" B="$B" SANITIZE="${SANITIZE:-}" test-c > "$log/build" 2>&1 || { cat "$log/build"; failed=$((failed + 1)); }
}

run_c() {
  for source in tests/c/test_*.c; do
    local name; name=$(basename "$source" .c)
    CMOCKA_MESSAGE_OUTPUT=TAP one "$name" "$B/tests/$name"
  done
}

run_lua() {
  for spec in tests/lua/*_spec.lua; do
    if [ "${SANITIZED:-}" = 1 ]; then
      LD_PRELOAD=$preload one "$(basename "$spec" .lua)" $busted "$spec"
    else
      one "$(basename "$spec" .lua)" $busted "$spec"
    fi
  done
}

run_e2e() {
  for script in tests/e2e/*.sh tests/trainer/kill_resume.sh tests/trainer/interop.sh; do
    [ -e "$script" ] && one "$(basename "$script" .sh)" bash "$script"
  done
}

# The scripts beside the other suites, on a core of their own; what they say comes behind.
beside() {
  side=$log/side; mkdir "$side"
  (log=$side passed=0 failed=0 skipped=0; run_e2e; echo "$passed $failed $skipped" > "$side/counts") > "$side/said" 2>&1 &
  side_pid=$!
}
join() {
  wait "$side_pid"
  cat "$side/said"
  local p=0 f=1 s=0 # no counts: it did not come to its end
  [ -e "$side/counts" ] && read -r p f s < "$side/counts"
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

[ $# -gt 0 ] || set -- c
case " $* " in *' c '*) build_c ;; esac # before anything runs: some scripts build, too
case " $* " in *' e2e '*) beside ;; esac
for suite in "$@"; do [ "$suite" = e2e ] || "run_$suite"; done
case " $* " in *' e2e '*) join ;; esac
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
