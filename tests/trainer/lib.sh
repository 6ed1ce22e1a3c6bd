# lib.sh - shared by the trainer's test scripts: a temporary directory, TAP, and waiting for a process that is killed.
# Sourced, not run. The program under test is $TRAINER, by default build/trainer beside this source tree.
# shellcheck shell=bash
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
TRAINER=${TRAINER:-$root/build/trainer}
export CKPT_DATA=${CKPT_DATA:-$root/tests/data/optdigits.pth}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/ckpt-trainer.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

tests=0
failed=0

# check STATUS DESCRIPTION
check() {
  tests=$((tests + 1))
  if [ "$1" -eq 0 ]; then
    echo "ok $tests - $2"
  else
    echo "not ok $tests - $2"
    failed=$((failed + 1))
  fi
}

# The plan at the end of the run: a script that dies early has none and so fails.
finish() {
  echo "1..$tests"
  [ "$failed" -eq 0 ]
}

# The exit status of a background process, without bash's word about a killed one.
await() {
  { wait "$1"; } 2>/dev/null
}

# run ARGUMENT...: the trainer in the background of this shell, then its exit status.
run() {
  "$TRAINER" "$@" &
  await $!
}

if [ ! -x "$TRAINER" ]; then
  echo "Bail out! $TRAINER is not there: make, or TRAINER=..." >&2
  exit 1
fi
