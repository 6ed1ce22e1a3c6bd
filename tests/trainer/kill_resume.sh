#!/bin/bash
# kill_resume.sh [RUNS [SEED]] - a run that is killed and restarted ends with the bits of one that was not. TAP.
# Kills at every fsync of one save and in the middle of an epoch, then RUNS (20) runs that are killed at random moments.
# environment: TRAINER (build/trainer), KILL_RUNS, KILL_SEED, KILL_EPOCHS (8)
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
runs=${1:-${KILL_RUNS:-20}}
seed=${2:-${KILL_SEED:-$(date +%N)}}
epochs=${KILL_EPOCHS:-8}
RANDOM=$((10#$seed % 32768))
echo "# $runs runs of $epochs epochs, seed $((10#$seed % 32768))"

train() { run --quiet --policy "$here/digits.lua" --epochs "$epochs" "$@"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

began=$(now_ms)
train --dir "$tmp/reference" --dump "$tmp/reference.dump"
check $? "the reference run finishes"
whole=$(($(now_ms) - began))
echo "# it takes $whole ms"

# finish_run DIR WHAT: restarts the run until its end and compares
finish_run() {
  train --dir "$1" --dump "$1.dump" && cmp "$tmp/reference.dump" "$1.dump"
  check $? "$2"
  rm -rf "$1" "$1.dump"
}

# ---- at chosen places ----

train --dir "$tmp/step" --kill-at-step 300
[ $? -eq 137 ]
check $? "a run is killed in the middle of epoch 3"
finish_run "$tmp/step" "it resumes with the bits of an uninterrupted run"

# At each fsync of the third save, until there are no more.
for ((k = 1; k < 100; k++)); do
  train --dir "$tmp/fsync" --kill-in-save "3:$k"
  [ $? -eq 137 ] || break
  finish_run "$tmp/fsync" "killed at fsync $k of a save: resumes, same bits"
done
[ "$k" -gt 3 ] && [ "$k" -lt 100 ]
check $? "a save has $((k - 1)) fsyncs, each was a place to die"

# ---- at random moments ----

# kill_once DIR LIMIT: starts the run, kills it after a random time below LIMIT ms; true if it was killed
kill_once() {
  local pid delay=$((RANDOM * $2 / 32768))
  "$TRAINER" --quiet --policy "$here/digits.lua" --epochs "$epochs" --dir "$1" &
  pid=$!
  sleep "$((delay / 1000)).$(printf '%03d' $((delay % 1000)))"
  kill -9 "$pid" 2>/dev/null
  await "$pid"
  [ $? -eq 137 ] && moments="$moments $delay"
}

# kill_often DIR: one to four kills; a start that was over before its kill does not count
kill_often() {
  local wanted=$((1 + RANDOM % 4)) limit=$whole
  for ((kills = 0; kills < wanted; )); do
    if kill_once "$1" "$limit"; then
      kills=$((kills + 1))
    elif [ "$kills" -eq 0 ] && [ "$limit" -gt 1 ]; then
      rm -rf "$1"
      limit=$((limit * 3 / 4))
    else
      break
    fi
  done
  [ "$kills" -gt 0 ]
}

for ((i = 1; i <= runs; i++)); do
  moments=
  kill_often "$tmp/random"
  check $? "run $i is killed (ms after its starts:$moments)"
  finish_run "$tmp/random" "run $i ends with the reference's bits"
done
finish
