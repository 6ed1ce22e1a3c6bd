#!/usr/bin/env bash
# hostile.sh: more than 800 hostile files, made here, each under limits of memory, stack and time and with no system call
# but those of reading (tests/hostile). T10 and T11 of reliability.md.
set -u
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
build=$B
make -s -C "$CKPT_TOP" B="$build" SANITIZE="${SANITIZE:-}" "$build/hostile_load" > "$work/log" 2>&1 || { echo "1..1"; echo "not ok 1 - hostile_load is built"; sed 's/^/# /' "$work/log"; exit 1; }
mkdir "$work/files" && python3 -B "$CKPT_TOP/tests/hostile/make_hostile.py" "$work/files" || exit 1
real=("$CKPT_TOP/tests/data"); [ -d "$CKPT_SHARED/data" ] && real+=("$CKPT_SHARED/data/real" "$CKPT_SHARED/data/torch")
python3 -B "$CKPT_TOP/tests/hostile/run_hostile.py" "$build/hostile_load" "$work/files" ${SANITIZED:+--sanitized} "${real[@]}"
