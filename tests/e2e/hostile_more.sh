#!/usr/bin/env bash
# hostile_more.sh: the CI sizes of T9 (bit flips of a 64 KiB checkpoint) and T16 (mutated pickles beside Python's unpickler).
# The full sizes are in tests/RELIABILITY.md.
set -u
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$CKPT_TOP" || exit 1
echo "1..2"
make -s B="$B" SANITIZE="${SANITIZE:-}" "$B/hostile_mutate" "$B/hostile_pickles" > "$work/log" 2>&1 || { sed 's/^/# /' "$work/log"; exit 1; }

n=0
# judge COMMAND...: the last TAP line of a program that has one test, under the next number.
judge() {
  local line; n=$((n + 1))
  "$@" > "$work/out" 2> "$work/err"
  line=$(grep -E '^(not )?ok 1 - ' "$work/out" | tail -1)
  echo "${line:-not ok 1 - $1 ended without a word}" | sed "s/ok 1 -/ok $n -/"
  case $line in ok*) ;; *) sed 's/^/# /' "$work/out" "$work/err" | tail -60;; esac
}

judge "$B/hostile_mutate" flip "${FLIP:-13}" "$work/flip.pth"
judge python3 -B tests/hostile/differential.py "$B/hostile_pickles" "${PICKLES:-20000}"
