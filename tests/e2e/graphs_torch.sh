#!/usr/bin/env bash
# graphs_torch.sh: 1,000 random graphs with tensors: torch.save, ckpt, torch.load (tests/graphs/torch_graphs.py); skipped without
# PyTorch.
set -u
count=1000
if [ "${SANITIZED:-}" = 1 ]; then count=200; fi
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  python3 -c 'import torch' 2>/dev/null || PYTHON=/usr/bin/python3
fi
if ! "$PYTHON" -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
exec "$PYTHON" -B "$CKPT_TOP/tests/graphs/torch_graphs.py" "$CKPT" --count "$count" --seed 1
