#!/usr/bin/env bash
# expectations.sh: the value trees of ../shared's files that the oracle has no tensors for, and of all that PyTorch wrote for
# this project, against hand-written expectations (expect_*.lua); skipped without ../shared.
set -u
if [ ! -d "$CKPT_SHARED/data" ]; then echo "1..0 # SKIP no shared data"; exit 0; fi
"$CKPT" run "$CKPT_TOP/tests/e2e/expectations.lua" "$CKPT_SHARED/data"
