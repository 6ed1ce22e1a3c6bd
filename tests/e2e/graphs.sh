#!/usr/bin/env bash
# graphs.sh: 10,000 random object graphs each way between Python's picklers and ckpt (tests/graphs/graphs.py), from seed 1 on.
# A build with sanitizers takes 2,000. `make check-graphs N=100000` does more.
set -u
count=10000
if [ "${SANITIZED:-}" = 1 ]; then count=2000; fi
exec python3 -B "$CKPT_TOP/tests/graphs/graphs.py" "$B/graphs" --count "$count" --seed 1
