#!/usr/bin/env bash
# shared_data.sh: the project's readings against PyTorch's, on files that other people published (../shared; skipped without).
#   1  every zip, legacy and pickle file of data/real: its format; name, dtype, shape, stride, offset, storage group, digest of
#      every tensor
#   2  every file that PyTorch 2.14 wrote with protocol 2 and 64-byte alignment is rewritten byte for byte
#   3  every such file is accepted by `ckpt convert`, and what is written reads back the same
set -u
if [ ! -d "$CKPT_SHARED/data" ]; then echo "1..0 # SKIP no shared data"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
data=$CKPT_SHARED/data tools=$CKPT_SHARED/tools
echo "1..3"

# The formats as INDEX.tsv has them, and as we name them.
awk -F'\t' 'BEGIN { ours["zip"] = "torch-zip"; ours["legacy"] = "torch-legacy"; ours["raw pickle"] = "pickle" }
  $3 in ours { print $1 "\t" ours[$3] }' "$data/real/INDEX.tsv" > "$work/formats"
cut -f1 "$work/formats" > "$work/files"
python3 - "$work/files" "$data/real/oracle.jsonl" > "$work/oracle.jsonl" <<'P'
import json, sys
files = set(open(sys.argv[1]).read().split("\n"))
for line in open(sys.argv[2]):
    if json.loads(line)["path"] in files: sys.stdout.write(line)
P
misnamed=0
while IFS=$'\t' read -r path format; do
  "$CKPT" inspect --json "$data/real/$path" | grep -q "\"format\":\"$format\"" || { misnamed=1; echo "# $path is no $format"; }
done < "$work/formats"
if python3 "$tools/oracle.py" "$CKPT" "$data/real" "$work/oracle.jsonl" > "$work/out" 2>&1 && [ "$misnamed" = 0 ]; then echo -n "ok 1"; else echo -n "not ok 1"; fi
echo " - $(tail -1 "$work/out")"; sed '$d;s/^/# /' "$work/out"

if python3 "$tools/byte_exact.py" "$CKPT" "$data/torch" > "$work/out" 2>&1; then echo -n "ok 2"; else echo -n "not ok 2"; fi
echo " - $(tail -1 "$work/out")"; sed '$d;s/^/# /' "$work/out"

same=0 all=0
while read -r path; do
  all=$((all + 1))
  "$CKPT" convert "$data/real/$path" "$work/copy.pth" > /dev/null &&
    "$CKPT" inspect --json --digest "$data/real/$path" | sed 's/"file":"[^"]*","format":"[^"]*","bytes":[0-9]*//' > "$work/a" &&
    "$CKPT" inspect --json --digest "$work/copy.pth" | sed 's/"file":"[^"]*","format":"[^"]*","bytes":[0-9]*//' > "$work/b" &&
    cmp -s "$work/a" "$work/b" && same=$((same + 1)) || echo "# $path differs"
done < "$work/files"
if [ "$same" = "$all" ] && [ "$all" -gt 0 ]; then echo -n "ok 3"; else echo -n "not ok 3"; fi
echo " - $same of $all files converted and read back the same"
