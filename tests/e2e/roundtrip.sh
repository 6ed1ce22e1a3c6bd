#!/usr/bin/env bash
# roundtrip.sh: every file of ../shared/data through ckpt and back, PyTorch as the judge (roundtrip.py); skipped without either.
set -u
if [ ! -d "$CKPT_SHARED/data" ]; then echo "1..0 # SKIP no shared data"; exit 0; fi
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  python3 -c 'import torch' 2>/dev/null || PYTHON=/usr/bin/python3
fi
if ! "$PYTHON" -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
"$PYTHON" -B "$CKPT_TOP/tests/e2e/roundtrip.py" "$CKPT" "$CKPT_SHARED/data" "$work"
