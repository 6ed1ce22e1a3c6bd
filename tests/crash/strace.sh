#!/usr/bin/env bash
# strace.sh: the same as kill.sh by other means: whole programs under strace, killed before the calls of the main thread
# from the first that belongs to the scenario on. Speaks TAP. environment: B, STRACE_EVERY (4), JOBS (2)
set -u
B=${B:-build} every=${STRACE_EVERY:-4} jobs=${JOBS:-2}
if [ "${SANITIZED:-}" = 1 ]; then echo '1..0 # SKIP a sanitizer makes calls of its own'; exit 0; fi
if ! command -v strace > /dev/null; then echo '1..0 # SKIP no strace here'; exit 0; fi
base=/dev/shm; [ -w $base ] || base=${TMPDIR:-/tmp}
work=$(mktemp -d "$base/ckpt-strace-XXXXXX"); trap 'rm -rf "$work"' EXIT
if ! strace -o "$work/probe" true 2> /dev/null; then echo '1..0 # SKIP strace cannot trace here'; exit 0; fi

# points FILE: "name k" for each call of the main thread behind the marker, the saver's look at its descriptors.
points() {
  awk '{ pid = $1; sub(/^[0-9]+ +/, ""); if (main == "") main = pid; if (pid != main || $0 !~ /^[a-z_0-9]+\(/) next
         name = $0; sub(/\(.*/, "", name); k[name]++; if (seen && name !~ /^exit/) print name, k[name]
         if ($0 ~ /"\/proc\/self\/fd"/) seen = 1 }' "$1"
}

# one SCENARIO JOB: every jobs-th of the points; a line for each, "killed", "missed" or what is wrong.
one() {
  local dir=$work/$1-$2 name k n=0
  while read -r name k; do
    n=$((n + 1)); [ $((n % jobs)) = "$2" ] || continue
    rm -rf "$dir"; cp -a "$work/$1" "$dir"
    strace -f -qq -o /dev/null -e trace="$name" -e inject="$name:signal=KILL:when=$k" "$B/crash" save "$1" "$dir" "$dir/report" > /dev/null 2>&1
    [ $? = 137 ] && echo killed || echo missed
    "$B/crash" check "$1" "$dir" "$dir/report" | sed "s/^/$1, killed before $name $k: /"
  done < "$work/$1.points"
}

n=0 bad=0
for scenario in ${STRACE_SCENARIOS:-retention again recycled}; do
  n=$((n + 1))
  mkdir "$work/$scenario" && "$B/crash" prepare "$scenario" "$work/$scenario" "$work/$scenario/report"
  cp -a "$work/$scenario" "$work/dry"
  strace -f -qq -o "$work/trace" "$B/crash" save "$scenario" "$work/dry" "$work/dry/report"; rm -rf "$work/dry"
  points "$work/trace" | awk -v every="$every" 'NR % every == 0' > "$work/$scenario.points"
  for ((job = 0; job < jobs; job++)); do one "$scenario" "$job" > "$work/out.$job" 2> /dev/null & done
  wait
  cat "$work"/out.* > "$work/out"
  total=$(wc -l < "$work/$scenario.points") killed=$(grep -c '^killed$' "$work/out") missed=$(grep -c '^missed$' "$work/out")
  wrong=$(grep -cvE '^(killed|missed)$' "$work/out")
  if [ "$total" -gt 0 ] && [ "$killed" -gt 0 ] && [ $((killed + missed)) = "$total" ] && [ "$wrong" = 0 ]; then word=ok; else word='not ok'; bad=$((bad + 1)); fi
  grep -vE '^(killed|missed)$' "$work/out" | head -5 | sed 's/^/# /'
  echo "$word $n - $scenario under strace: $total points, $killed killed, $missed not reached, $wrong violations"
done
echo "1..$n"
[ $bad = 0 ]
