#!/bin/bash
# kill_many.sh [KILLS [SEED]] - KILLS (300) SIGKILLs at random moments of short runs. A run that was killed is started
# again, and may be killed again, until one start comes to the run's end: it must then have the bits of a run that was
# never killed. Every second run saves in a thread, over recycled blocks. TAP: a line for each tenth of the kills.
# environment: TRAINER (build/trainer), KILLS, KILL_SEED, KILL_EPOCHS (6), KILL_ROWS (200 digits; few, so that a good
# part of the time goes into saves)
set -u
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
wanted=${1:-${KILLS:-300}}
seed=${2:-${KILL_SEED:-$(date +%N)}}
RANDOM=$((10#$seed % 32768))
echo "# $wanted kills, seed $((10#$seed % 32768))"

# A pipe that nobody writes into: to read from it with a time limit is to sleep without a process.
exec {never}<> <(:)
train() { # DIR POLICY: in the background
  "$TRAINER" --quiet --policy "$here/$2.lua" --epochs "${KILL_EPOCHS:-6}" --rows "${KILL_ROWS:-200}" \
    --dir "$1" --dump "$1.dump" &
}
now_us() { echo $(($(date +%s%N) / 1000)); }

# The time of a whole run, the shortest of five: this is what the moments are drawn from.
whole=
for _ in 1 2 3 4 5; do
  rm -rf "$tmp/reference"
  began=$(now_us)
  train "$tmp/reference" digits
  await $!
  status=$?
  took=$(($(now_us) - began))
  if [ -z "$whole" ] || [ "$took" -lt "$whole" ]; then whole=$took; fi
done
check $status "a run that is not killed takes $((whole / 1000)) ms"
mv "$tmp/reference.dump" "$tmp/wanted.dump" || exit 1

# start DIR POLICY LIMIT: one start of a run, killed after a random time below LIMIT; the exit status of the trainer.
start() {
  local pid delay=$(((RANDOM * 32768 + RANDOM) % $3))
  train "$1" "$2"
  pid=$!
  read -r -t "$((delay / 1000000)).$(printf '%06d' $((delay % 1000000)))" -u "$never"
  kill -9 "$pid" 2>/dev/null
  await "$pid"
}

kills=0 runs=0 left=0 wrong=0
# one_run DIR POLICY: until its end; counts the kills, and those that left a file half made or a name half moved.
one_run() {
  local status limit=$whole
  rm -rf "$1" "$1.dump"
  while start "$1" "$2" "$limit"; status=$?; [ $status -eq 137 ]; do
    kills=$((kills + 1))
    limit=$((limit * 21 / 20)) # a machine that has become slow must come to an end too
    if compgen -G "$1/.tmp-ckpt-*" > /dev/null; then left=$((left + 1)); fi
  done
  runs=$((runs + 1))
  [ $status -eq 0 ] && cmp -s "$1.dump" "$tmp/wanted.dump" && return
  wrong=$((wrong + 1))
  echo "# run $runs ($2) ends with status $status and other bits, after $kills kills in all: $(ls -A "$1")"
}

for ((part = 1; part <= 10; part++)); do
  before=$wrong
  while [ $kills -lt $((wanted * part / 10)) ]; do
    if [ $((runs % 2)) = 0 ]; then one_run "$tmp/run" digits; else one_run "$tmp/run" digits_async; fi
  done
  [ $wrong -eq "$before" ]
  check $? "$kills kills in $runs runs: each run ends with the same bits ($left kills left a temporary name)"
done
finish
