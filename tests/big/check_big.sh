#!/usr/bin/env bash
# check_big.sh MB: a state dict of MB megabytes, a fifth of it one tensor, with less than 200 MB of memory: renamed,
# permuted and cast to float16 by a script, into both formats; cast by ckpt convert. Needs a disk with room for half as
# much again; the file itself is mostly holes. Not part of make test: it writes MB/2 four times.
set -u
megabytes=${1:-10000} cap=200
work=$(mktemp -d "${TMPDIR:-/tmp}/ckpt-big-XXXXXX"); trap 'rm -rf "$work"' EXIT
large=$CKPT_TOP/tests/e2e/large.lua n=0 bad=0
echo "1..4"
check() { # check STATUS NAME
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; bad=1; sed 's/^/# /' "$work/text" | tail -20; fi
}
peak() { python3 "$CKPT_TOP/tests/e2e/peak.py" $cap "$@" > "$work/text" 2>&1; }
"$CKPT" run "$large" make "$work/big.pth" "$megabytes" || exit 1
for out in out.pth out.safetensors; do
  peak "$CKPT" run "$large" convert "$work/big.pth" "$work/$out" &&
    "$CKPT" run "$large" check "$work/big.pth" "$work/$out" >> "$work/text" 2>&1
  check $? "$megabytes MB renamed, permuted and cast into $out: $(grep peak "$work/text")"
  rm -f "$work/$out"
done
peak "$CKPT" convert "$work/big.pth" "$work/cast.safetensors" --dtype float16
check $? "$megabytes MB by ckpt convert --dtype float16: $(grep peak "$work/text")"
rm -f "$work/cast.safetensors"
peak "$CKPT" convert "$work/big.pth" --out-dir "$work/out" --map "$CKPT_TOP/tests/e2e/large_map.lua" --dtype float16 &&
  "$CKPT" run "$large" check "$work/big.pth" "$work/out/big.pth" >> "$work/text" 2>&1
check $? "$megabytes MB by ckpt convert --map --dtype float16 --out-dir: $(grep peak "$work/text")"
exit $bad
