#!/usr/bin/env bash
# graphs_lua.sh: 1,000 random graphs that a Lua script builds and saves, read by Python (tests/graphs/lua_graphs.py).
set -u
count=1000
if [ "${SANITIZED:-}" = 1 ]; then count=200; fi
exec python3 -B "$CKPT_TOP/tests/graphs/lua_graphs.py" "$CKPT" --count "$count" --seed 1
