#!/usr/bin/env bash
# run.sh [SCRIPT...]: the scripts of this room, and one line at the end: "N passed, N failed, N skipped". What a machine
# cannot do (mount, trace) is skipped with a sentence and counted so.
# environment: B (build), JOBS (2), and what each script says
set -u
cd "$(dirname "$0")" || exit 2
passed=0 failed=0 skipped=0
out=$(mktemp); trap 'rm -f "$out"' EXIT
for script in "${@:-kill.sh}"; do
  began=$SECONDS
  echo "# $script"
  bash "$script" 2>&1 | tee "$out"; status=${PIPESTATUS[0]}
  skip=$(grep -cE '^ok [0-9]+.*# SKIP' "$out") bad=$(grep -cE '^not ok [0-9]+' "$out")
  ok=$(($(grep -cE '^ok [0-9]+' "$out") - skip)) plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$out" | tail -1)
  if [ "$plan" = 0 ]; then skip=1; fi
  if [ -z "$plan" ] || { [ "$plan" != 0 ] && [ $((ok + bad + skip)) != "$plan" ]; } || { [ $status != 0 ] && [ "$bad" = 0 ]; }; then
    echo "not ok - $script ended early (exit status $status)"; bad=$((bad + 1))
  fi
  passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
  echo "# $script: $((SECONDS - began)) s"
done
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
