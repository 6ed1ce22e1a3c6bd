#!/usr/bin/env bash
# maps_sets.sh: the rule sets of policies/maps/, values compared with PyTorch's own computation (maps_values.py says how).
set -u
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -B "$CKPT_TOP/tests/e2e/maps_values.py" "$CKPT" "$work"
