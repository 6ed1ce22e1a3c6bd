#!/usr/bin/env bash
# run.sh fuzz|replay|coverage: what is done with the fuzz targets; see `make fuzz`, `make check-corpus`, `make fuzz-coverage`.
#
#   fuzz      every target for TIME seconds, JOBS at a time, from the seeds and the corpus in tests/fuzz/corpus; TARGETS="..." chooses.
#             SEED=n repeats a run; without it each run is another one.
#             What is found goes to $F/found/TARGET. KEEP=1 minimises what was learnt and keeps it in tests/fuzz/corpus
#   replay    the seeds and the corpus once through every target, under ASan+UBSan, and through those that say
#             "MSan: yes" in their second line under MSan
#   coverage  lines and branches of the runtime that the seeds and the corpus reach
#
# F is the directory of all builds (build/fuzz). Speaks TAP.
set -u
cd "$(dirname "$0")/../.." || exit 2
F=${F:-build/fuzz} TIME=${TIME:-60}
mode=${1:-replay}
all=$(ls tests/fuzz/fuzz_*.c | xargs -n1 basename -s .c)
targets=${TARGETS:-$all}
export TZ=UTC UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1:malloc_context_size=4:quarantine_size_mb=16
[ -d "$F/seeds" ] || { mkdir -p "$F/seeds.new" && python3 -B tests/fuzz/seeds.py "$F/seeds.new" && mv "$F/seeds.new" "$F/seeds"; } || exit 2
for t in $targets; do mkdir -p "$F/seeds/$t" "$F/found/$t" "$F/learnt/$t"; done

n=0 failed=0
say() { # STATUS TEXT
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else failed=1; echo "not ok $n - $2"; fi
}

skip() { # TEXT
  n=$((n + 1))
  echo "ok $n - # SKIP $1"
}

dictionary() {
  case $1 in
    fuzz_zip) echo tests/fuzz/dict/zip.dict;;
    fuzz_safetensors) echo tests/fuzz/dict/safetensors.dict;;
    fuzz_pickle|fuzz_pth|fuzz_legacy|fuzz_tar|fuzz_dcp) echo tests/fuzz/dict/pickle.dict;;
    *) [ -e "tests/fuzz/dict/$1.dict" ] && echo "tests/fuzz/dict/$1.dict";;
  esac
}

fuzz_one() {
  local t=$1 dict; dict=$(dictionary "$t")
  TIMEFORMAT='cpu: %U %S'
  { time "$F/asan/$t" -max_total_time="$TIME" -timeout=10 -report_slow_units=2 -rss_limit_mb=1024 -malloc_limit_mb=64 -max_len=16384 \
      -print_final_stats=1 -entropic=0 -reload=0 ${SEED:+-seed=$SEED} ${dict:+-dict="$dict"} -artifact_prefix="$F/found/$t/" "$F/learnt/$t" "$F/seeds/$t"; } > "$F/$t.log" 2>&1
  echo "status: $?" >> "$F/$t.log"
}

# JOBS at a time. Runs are counted by the second of processor time, since others may be at work on the machine.
fuzz() {
  local t
  for t in $targets; do
    while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-1}" ]; do wait -n; done
    fuzz_one "$t" &
  done
  wait
  for t in $targets; do
    local out=$F/$t.log status cpu runs cov
    status=$(sed -n 's/^status: //p' "$out"); cpu=$(awk '/^cpu:/ { print int($2 + $3 + 1) }' "$out")
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out"); cov=$(grep -oE 'cov: [0-9]+' "$out" | tail -1)
    say "$status" "$t: ${runs:-0} runs in $cpu s of a core, $((${runs:-0} / cpu)) a second, ${cov:-no coverage}"
    [ "$status" = 0 ] || grep -A14 -E 'ERROR|runtime error|does not hold|^MS:|Test unit' "$out" | grep -v 'fuzzer::' | head -50 | sed 's/^/# /'
    if [ "${KEEP:-}" = 1 ]; then keep "$t"; fi
  done
}

# What adds coverage to the seeds, at most 96 KiB of it, shortest inputs first.
keep() {
  local t=$1 all; all=$(mktemp -d)
  cp "$F/seeds/$t"/* "$all"
  "$F/asan/$t" -merge=1 -max_len=2048 "$all" "$F/learnt/$t" > "$F/$t.merge" 2>&1
  rm -f "$all"/seed*
  python3 -B tests/fuzz/seeds.py --pack "$all" "tests/fuzz/corpus/$t.pack"
  rm -rf "$all"
}

replay() {
  local t status
  for t in $targets; do
    if [ -z "$(find "$F/seeds/$t" "$F/learnt/$t" -type f)" ]; then skip "$t: no seeds are kept for it"; continue; fi
    "$F/asan/$t" -runs=0 -timeout=5 -max_len=16384 "$F/seeds/$t" "$F/learnt/$t" > "$F/$t.replay" 2>&1; status=$?
    say $status "$t: $(ls "$F/seeds/$t" | wc -l) inputs under ASan and UBSan"
    [ $status = 0 ] || tail -40 "$F/$t.replay" | sed 's/^/# /'
  done
  for t in $targets; do
    sed -n 2p "tests/fuzz/$t.c" | grep -q 'MSan: yes' || continue
    "$F/msan/$t" "$F/seeds/$t" "$F/learnt/$t" > "$F/$t.msan" 2>&1; status=$?
    say $status "$t: $(tail -1 "$F/$t.msan") under MSan"
    [ $status = 0 ] || tail -40 "$F/$t.msan" | sed 's/^/# /'
  done
}

coverage() {
  local t objects=() first
  for t in $targets; do
    LLVM_PROFILE_FILE=$F/$t.profraw "$F/cov/$t" "$F/seeds/$t" > "$F/$t.cov" 2>&1 || { tail -5 "$F/$t.cov" | sed 's/^/# /'; }
    if [ -z "${first:-}" ]; then first=$F/cov/$t; else objects+=(-object "$F/cov/$t"); fi
  done
  llvm-profdata-14 merge -o "$F/all.profdata" "$F"/*.profraw
  llvm-cov-14 report "$first" "${objects[@]}" -instr-profile="$F/all.profdata" --show-branch-summary \
    $(sed 's|^|runtime/|' tests/fuzz/covered) | tee "$F/coverage.txt"
}

"$mode"
if [ "$mode" != coverage ]; then echo "1..$n"; fi
exit $failed
