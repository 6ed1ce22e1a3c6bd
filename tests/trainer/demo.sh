#!/bin/bash
# demo.sh - what `make run` shows: a training run that is killed twice, resumes by itself and keeps its best.
# environment: CKPT (build/ckpt), TRAINER (build/trainer), DEMO_DIR (the directory digits beside the trainer; made anew)
set -u
CKPT=${CKPT:-build/ckpt}
TRAINER=${TRAINER:-build/trainer}
here=$(dirname "${BASH_SOURCE[0]}")
dir=${DEMO_DIR:-$(dirname "$TRAINER")/digits}
policy=$here/digits.lua
export CKPT_DATA=${CKPT_DATA:-$here/../data/optdigits.pth}

die() {
  echo "demo: $1" >&2
  exit 1
}

# Within 80 columns, so that it can be pasted.
show_command() {
  printf '$ %s\n' "$1" | fold -s -w 76 | sed '$!s/ *$/ \\/; 2,$s/^/    /'
}

# step TEXT COMMAND...: announces and runs the command, keeps its status in $status and its output in $output
step() {
  echo
  echo "== $1"
  shift
  show_command "$*"
  "$@" >"$output" &
  { wait $!; } 2>/dev/null
  status=$?
  cat "$output"
  if [ "$status" -eq 137 ]; then echo "(killed by SIGKILL)"; fi
}

expect() {
  [ "$status" -eq "$1" ] || die "the last command ended with status $status, expected $1"
}

expect_line() {
  grep -q -- "$1" "$output" || die "the last command did not print '$1'"
}

for program in "$CKPT" "$TRAINER"; do
  [ -x "$program" ] || die "$program is not there; make builds it"
done
# Only a directory of an earlier demo is removed.
if [ -e "$dir" ] && [ ! -e "$dir/ckpt.jsonl" ] && ! rmdir "$dir" 2>/dev/null; then die "$dir is there and is no run"; fi
rm -rf "$dir"
output=$(mktemp "${TMPDIR:-/tmp}/ckpt-demo.XXXXXX") || die "there is no room for a temporary file"
trap 'rm -f "$output"' EXIT

echo "== The policy: $policy"
cat "$policy"

step "Train on handwritten digits; SIGKILL in the middle of epoch 4" \
  "$TRAINER" --dir "$dir" --policy "$policy" --epochs 14 --kill-at-step 420
expect 137
expect_line '^load: scratch, epoch 1 is next'

step "The same again: it resumes by itself; SIGKILL in the middle of a save" \
  "$TRAINER" --dir "$dir" --policy "$policy" --epochs 14 --kill-in-save 5
expect 137
expect_line '^load: resumed .*, epoch 4 is next'

step "What the killed save left: no file of epoch 8, the others are whole" ls "$dir"
expect 0
if grep -q epoch8 "$output"; then die "the killed save has published a file"; fi

step "The same again: it resumes by itself and finishes" \
  "$TRAINER" --dir "$dir" --policy "$policy" --epochs 14
expect 0
expect_line '^load: resumed .*, epoch 8 is next'
awk '/^epoch/ { for (i = 1; i < NF; i++) if ($i == "acc") acc = $(i + 1) } END { exit !(acc >= 0.95) }' "$output" ||
  die "the last accuracy is below 0.95"

list=("$CKPT" list "$dir")
if "$CKPT" list --help | grep -q -e '--policy'; then list+=(--policy "$policy"); fi
step "What is kept, and why" "${list[@]}"
expect 0

step "The best by the policy" "$CKPT" inspect "$dir/model_best.pth"
expect 0
echo
echo "== Done: the run is in $dir; its policy is yours to edit"
