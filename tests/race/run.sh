#!/usr/bin/env bash
# run.sh: readers, writers and removers of one run's directory (race.c), as processes, then as threads under
# ThreadSanitizer where it was built. TAP.
# environment: B (build), OPENS (50000), VANISH (100), RACE_DIR (below /dev/shm: saves come thicker where a sync is
# quick), TSAN_OPENS (a hundredth of OPENS), TSAN_VANISH (10)
set -u
cd "$(dirname "$0")/../.." || exit 2
B=${B:-build}
base=${RACE_DIR:-/dev/shm}
[ -w "$base" ] || base=${TMPDIR:-/tmp}
work=$(mktemp -d -p "$base" ckpt-race.XXXXXX) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
export TSAN_OPTIONS="halt_on_error=0 exitcode=66 second_deadlock_stack=1"
opens=${OPENS:-50000}

# numbered FROM: the TAP lines of one program, without its plan, counted on
numbered() { awk -v n="$1" '/^(not )?ok [0-9]+/ { sub(/ok [0-9]+/, "ok " ++n) } !/^1\.\.[0-9]+$/ { print; fflush() }'; }
"$B/race" -n "$opens" -v "${VANISH:-100}" "$work" > "$work/out" 2> "$work/err"
status=$?
numbered 0 < "$work/out"
n=$(grep -cE '^(not )?ok ' "$work/out")
sed 's/^/# /' "$work/err"

if [ -x "$B/tsan/race" ]; then
  "$B/tsan/race" -t -n "${TSAN_OPENS:-$((opens / 100))}" -v "${TSAN_VANISH:-10}" "$work" > "$work/out" 2> "$work/err"
  second=$?
  numbered "$n" < "$work/out" | sed 's/^\(\(not \)\{0,1\}ok [0-9]* - \)/\1ThreadSanitizer, /'
  n=$((n + $(grep -cE '^(not )?ok ' "$work/out") + 1))
  if [ $second = 0 ]; then echo "ok $n - ThreadSanitizer has nothing to report"
  else echo "not ok $n - ThreadSanitizer has nothing to report"; sed 's/^/# /' "$work/err" | head -60; fi
  status=$((status + second))
fi
echo "1..$n"
[ $status = 0 ]
