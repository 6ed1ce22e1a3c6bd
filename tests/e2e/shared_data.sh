#!/usr/bin/env bash
# shared_data.sh: the project's readings against PyTorch's, on files that other people published (../shared; skipped without).
#   1  every file of data/real and data/torch opens
#   2  every tensor of the oracle: name, dtype, shape, stride, offset, storage group, digest
#   3  every file that PyTorch 2.14 wrote with protocol 2 and 64-byte alignment is rewritten byte for byte
#   4  every file is accepted by `ckpt convert`, and what is written reads back the same
set -u
if [ ! -d "$CKPT_SHARED/data" ]; then echo "1..0 # SKIP no shared data"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
data=$CKPT_SHARED/data tools=$CKPT_SHARED/tools
echo "1..4"

# judge N TEXT: TAP line number N by the exit status of what ran before.
judge() { if [ "$?" = 0 ]; then echo "ok $1 - $2"; else echo "not ok $1 - $2"; fi; }

{ sed 1d "$data/real/INDEX.tsv" | cut -f1 | sed "s|^|$data/real/|"; ls -d "$data"/torch/*; } > "$work/files"

opened=0 all=0
while read -r path; do
  all=$((all + 1))
  "$CKPT" inspect --json "$path" > /dev/null 2> "$work/err" && opened=$((opened + 1)) || sed 's/^/# /' "$work/err"
done < "$work/files"
[ "$opened" = "$all" ] && [ "$all" -gt 0 ]
judge 1 "$opened of $all files open"

python3 "$tools/oracle.py" "$CKPT" "$data/real" "$data/real/oracle.jsonl" > "$work/out" 2>&1
judge 2 "$(tail -1 "$work/out")"; sed '$d;s/^/# /' "$work/out"

python3 "$tools/byte_exact.py" "$CKPT" "$data/torch" > "$work/out" 2>&1
judge 3 "$(tail -1 "$work/out")"; sed '$d;s/^/# /' "$work/out"

# What a file holds, without its name, format and size, what only its format has a place for, and warnings about it.
contents() {
  "$CKPT" inspect --json --digest "$1" |
    sed 's/"file":"[^"]*"//;s/"format":"[^"]*"//;s/"bytes":[0-9]*//;s/"metadata":{[^}]*},//;s/,"warnings":.*//'
}

same=0 all=0
while read -r path; do
  all=$((all + 1))
  "$CKPT" convert "$path" "$work/copy.pth" > /dev/null && contents "$path" > "$work/a" && contents "$work/copy.pth" > "$work/b" &&
    cmp -s "$work/a" "$work/b" && same=$((same + 1)) || echo "# $path differs"
done < "$work/files"
[ "$same" = "$all" ] && [ "$all" -gt 0 ]
judge 4 "$same of $all files converted and read back the same"
