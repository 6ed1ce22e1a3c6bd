#!/usr/bin/env bash
# batch.sh: ckpt convert --out-dir, as it is used for a whole night.
#   1-5    1,000 small checkpoints, killed twice at random moments and started again: complete, each written once
#   6-8    a process that dies, a memory cap, a batch beside another
#   9      the bar on a terminal
#   10-12  300 MB renamed, permuted and cast within 80 MB: by a script into both formats, and by rules
set -u
work=$(mktemp -d "${TMPDIR:-/tmp}/ckpt-batch-XXXXXX"); trap 'rm -rf "$work"' EXIT
echo "1..12"
n=0
check() { # check STATUS NAME [FILE]: FILE is shown where the test fails
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; [ -n "${3:-}" ] && sed 's/^/# /' "$3" | tail -20; fi
}
skip() { n=$((n + 1)); echo "ok $n - # SKIP $1"; }

# ---- killed twice ----

count=1000
cat > "$work/make.lua" <<'L'
local ckpt = require "ckpt"
for i = 1, tonumber(arg[2]) do
  local w = ckpt.tensor("float32", { 2, 3 }, { i, i + 0.25, -i, 1 / i, 0, 65504 })
  assert(ckpt.save(("%s/%s/%04d.pth"):format(arg[1], i % 3 == 0 and "third" or ".", i),
    ckpt.ordered { { "epoch", i }, { "model", ckpt.ordered { { "w", w } } } }))
end
L
cat > "$work/compare.lua" <<'L'
local ckpt = require "ckpt"
for i = 1, tonumber(arg[2]) do
  local cp <close> = assert(ckpt.open(("%s/%s/%04d.safetensors"):format(arg[1], i % 3 == 0 and "third" or ".", i),
    { verify = true }))
  local w = cp:at "w"
  local exact = ckpt.tensor("float32", { 2, 3 }, { i, i + 0.25, -i, 1 / i, 0, 65504 }):to "float16"
  assert(w.dtype == "float16" and ckpt.equal(w, exact), i)
end
L
mkdir -p "$work/zoo/third"
"$CKPT" run "$work/make.lua" "$work/zoo" $count || exit 1
command=("$CKPT" convert "$work/zoo" --out-dir "$work/out" --format safetensors --select model --dtype float16 --jobs 2)
written() { find "$work/out" -name '*.safetensors' 2> /dev/null | wc -l; }
stamps() { find "$work/out" -name '*.safetensors' -printf '%P %i %T@\n' | sort; }

# kill_after MANY: starts the batch and kills it, somewhere after so many files are there.
kill_after() {
  "${command[@]}" > /dev/null 2>&1 &
  local pid=$!
  while [ "$(written)" -lt "$1" ] && kill -0 $pid 2> /dev/null; do sleep 0.01; done
  sleep "0.0$((RANDOM % 90 + 10))"
  kill -9 $pid 2> /dev/null
  wait $pid 2> /dev/null
}
kill_after $((RANDOM % 150 + 50));  stamps > "$work/first"
kill_after $((RANDOM % 150 + 350)); stamps > "$work/second"
"${command[@]}" --json > "$work/lines" 2> "$work/err"; status=$?
stamps > "$work/third"

[ "$(wc -l < "$work/first")" -ge 50 ] && [ "$(wc -l < "$work/second")" -lt $count ]
check $? "it was killed twice in the midst of it (after $(wc -l < "$work/first") and $(wc -l < "$work/second") of $count files)"
[ $status = 0 ] && [ ! -s "$work/err" ] && [ "$(written)" = $count ]; check $? "started again it ends complete" "$work/err"
[ -z "$(comm -23 "$work/first" "$work/second")" ] && [ -z "$(comm -23 "$work/second" "$work/third")" ] &&
  [ "$(grep -c '"event":"done"' "$work/out/convert.jsonl")" = $count ] && [ "$(wc -l < "$work/lines")" = $count ] &&
  [ "$(grep -c '"status":"skipped"' "$work/lines")" = "$(wc -l < "$work/second")" ]
check $? "each file was written once: what was there kept its inode and its time"
"$CKPT" run "$work/compare.lua" "$work/out" $count > "$work/err" 2>&1; check $? "every file holds what it should" "$work/err"
[ -z "$(find "$work/out" -name '.tmp*')" ] && "${command[@]}" > "$work/again" &&
  grep -q "0 converted, $count skipped (done before), 0 failed" "$work/again" &&
  stamps | cmp -s - "$work/third"
check $? "nothing is left over, and nothing is left to do" "$work/again"

# ---- processes and memory ----

if [ "${SANITIZED:-}" = 1 ]; then skip "a memory limit under AddressSanitizer"; else
  # a storage of 100 MB that must be inflated whole: more than a share of 64 MB, less than all of 256 MB
  mkdir "$work/deflated"
  python3 - "$work" "$work/zoo/0001.pth" <<'P'
import struct, sys, zipfile
work, small = sys.argv[1:]
def inflated(name, size):
    with zipfile.ZipFile(f"{work}/deflated/{name}.pth", "w", zipfile.ZIP_STORED) as z:
        pickle = (b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0"
                  b"0X\x03\0\0\0cpuJ" + struct.pack("<i", size // 4) + b"tQK\0J" + struct.pack("<i", size // 4) +
                  b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.")
        z.writestr(f"{name}/data.pkl", pickle)
        z.writestr(f"{name}/version", "3\n")
        z.writestr(f"{name}/data/0", bytes(size), zipfile.ZIP_DEFLATED)
for i in range(3): inflated(f"large{i}", 100 << 20)
inflated("small", 1 << 20)
inflated("too_large", 300 << 20)
P
  "$CKPT" convert "$work/deflated" --out-dir "$work/inflated" --jobs 4 --memory 256MiB --json > "$work/lines" 2> "$work/err"
  [ $? = 1 ] && [ "$(grep -c '"status":"converted"' "$work/lines")" = 4 ] && grep -q '"status":"failed".*too_large.*"code":"nomem"' "$work/lines"
  check $? "what needs more than its share of the memory waits for all of it; what needs more than all fails alone" "$work/lines"
fi

mkfifo "$work/zoo/slow.pth" # a checkpoint that is no file
mkdir "$work/odd"; cp "$work/zoo/0001.pth" "$work/odd/good.pth"; head -c 900 "$work/zoo/0001.pth" > "$work/odd/short.pth"; : > "$work/odd/empty.pt"
"$CKPT" convert "$work/odd" "$work/nothing.pth" "$work/zoo/slow.pth" --out-dir "$work/odd_out" --format pth > "$work/text" 2> "$work/err"
[ $? = 1 ] && [ ! -s "$work/err" ] && [ -s "$work/odd_out/good.pth" ] && [ "$(find "$work/odd_out" -type f ! -name '.*' | wc -l)" = 2 ] &&
  grep -q '^1 converted, 0 skipped, 4 failed in' "$work/text" && grep -q 'odd/short.pth: zip end record missing' "$work/text" &&
  grep -q 'odd/empty.pt: the file is empty' "$work/text" && grep -q 'nothing.pth: there is no such file' "$work/text" &&
  grep -q 'slow.pth: a FIFO' "$work/text"
check $? "it goes on after bad files and says at the end which and why" "$work/text"

exec 9> "$work/odd_out/.ckpt.lock"; flock -n 9
"$CKPT" convert "$work/odd" --out-dir "$work/odd_out" --format pth > "$work/text" 2>&1
[ $? = 3 ] && grep -q 'odd_out: another batch is converting into this directory' "$work/text"
check $? "two batches do not share a directory" "$work/text"
exec 9>&-

# ---- the bar ----

if ! script -qec true /dev/null < /dev/null > /dev/null 2>&1; then skip "no script(1), or no terminal for it"; else
  script -qec "'$CKPT' convert '$work/zoo/third' --out-dir '$work/bar' --format pth > '$work/text'" /dev/null < /dev/null > "$work/screen"
  tr '\r' '\n' < "$work/screen" | grep -qE ' \[#*-*\] +[0-9]+ %  [0-9]+/333  [0-9.]+ [KMG]?B/s  eta [0-9:]+   0[0-9]+\.pth' &&
    ! grep -q '\[' "$work/text" && grep -q '^333 converted' "$work/text"
  check $? "a terminal shows how far it has come" "$work/text"
fi

# ---- memory of one large file ----

if [ "${SANITIZED:-}" = 1 ]; then for _ in 1 2 3; do skip "memory under AddressSanitizer"; done; else
  "$CKPT" run "$CKPT_TOP/tests/e2e/large.lua" make "$work/large.pth" 300 || exit 1
  for out in large_out.pth large_out.safetensors; do
    python3 "$CKPT_TOP/tests/e2e/peak.py" 80 "$CKPT" run "$CKPT_TOP/tests/e2e/large.lua" convert "$work/large.pth" "$work/$out" > "$work/text" 2>&1 &&
      "$CKPT" run "$CKPT_TOP/tests/e2e/large.lua" check "$work/large.pth" "$work/$out" >> "$work/text" 2>&1
    check $? "300 MB renamed, permuted and cast into $out: $(head -1 "$work/text")" "$work/text"
    rm -f "$work/$out"
  done
  python3 "$CKPT_TOP/tests/e2e/peak.py" 80 "$CKPT" convert "$work/large.pth" --out-dir "$work/mapped" --dtype float16 --memory 64MiB \
    --map "$CKPT_TOP/tests/e2e/large_map.lua" > "$work/text" 2>&1 &&
    "$CKPT" run "$CKPT_TOP/tests/e2e/large.lua" check "$work/large.pth" "$work/mapped/large.pth" >> "$work/text" 2>&1
  check $? "300 MB mapped by rules and cast with --memory 64MiB: $(grep peak "$work/text")" "$work/text"
fi
