#!/usr/bin/env bash
# torchscript_shared.sh: the TorchScript files that other people published (../shared; skipped without). TAP.
#   1  name, dtype, shape, stride, offset, storage group, digest of every tensor are PyTorch's
#   2  each is accepted by `ckpt convert`, and what is written reads back the same
set -u
if [ ! -d "$CKPT_SHARED/data" ]; then echo "1..0 # SKIP no shared data"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
data=$CKPT_SHARED/data
echo "1..2"

awk -F'\t' '$3 == "torchscript" { print $1 }' "$data/real/INDEX.tsv" > "$work/scripts"
python3 - "$work/scripts" "$data/real/oracle.jsonl" > "$work/oracle.jsonl" <<'P'
import json, sys
scripts = set(open(sys.argv[1]).read().split("\n"))
for line in open(sys.argv[2]):
    if json.loads(line)["path"] in scripts: sys.stdout.write(line)
P
if python3 "$CKPT_SHARED/tools/oracle.py" "$CKPT" "$data/real" "$work/oracle.jsonl" > "$work/out" 2>&1; then echo -n "ok 1"; else echo -n "not ok 1"; fi
echo " - $(tail -1 "$work/out")"; sed '$d;s/^/# /' "$work/out"

show() { "$CKPT" inspect --json --digest "$1" | sed 's/"file":"[^"]*"//;s/"bytes":[0-9]*//;s/"format":"[^"]*"//'; }
same=0 all=0
while read -r path; do
  all=$((all + 1))
  "$CKPT" convert "$data/real/$path" "$work/copy.pth" > /dev/null && show "$data/real/$path" > "$work/a" &&
    show "$work/copy.pth" > "$work/b" && cmp -s "$work/a" "$work/b" && same=$((same + 1)) || echo "# $path differs"
done < "$work/scripts"
if [ "$same" = "$all" ] && [ "$all" -gt 0 ]; then echo -n "ok 2"; else echo -n "not ok 2"; fi
echo " - $same of $all TorchScript files converted and read back the same"
