#!/usr/bin/env bash
# casts.sh: every cast against the PyTorch of this machine, and random chains of tensor operations (skipped without PyTorch).
#   1  every value of every 8- and 16-bit dtype and a million random wider ones to every other dtype
#   2  2,000 random chains of operations on random tensors, of files and of their own
#   3  3,000 random expressions of mapping rules: ckpt.infer and ckpt.apply
set -u
python=${PYTHON:-/usr/bin/python3}
if ! "$python" -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
echo "1..3"
n=0
report() { # report STATUS: the last line of the output is the name of the test, the others are remarks
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo -n "ok $n"; else echo -n "not ok $n"; fi
  echo " - $(tail -1 "$work/out")"
  sed '$d;s/^#* */# /' "$work/out"
}
count=1000000
if [ "${SANITIZED:-}" = 1 ]; then count=50000; fi
"$python" tests/casts/check_casts.py "$CKPT" tests/casts/cast.lua $count > "$work/out" 2>&1; report $?
"$python" tests/casts/check_ops.py "$CKPT" tests/casts/ops.lua 2000 > "$work/out" 2>&1; report $?
"$python" tests/casts/check_expr.py "$CKPT" tests/casts/expr.lua 3000 > "$work/out" 2>&1; report $?
