#!/usr/bin/env bash
# average.sh: `ckpt average` of checkpoints that PyTorch wrote is what PyTorch computes in float64, tensor for tensor.
python=python3
python3 -c 'import torch' 2> /dev/null || python=/usr/bin/python3
if ! $python -c 'import torch' 2> /dev/null; then echo '1..0 # SKIP no PyTorch here'; exit 0; fi
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
exec $python -B "$(dirname "$0")/average.py" "${CKPT:-build/ckpt}" "$dir"
