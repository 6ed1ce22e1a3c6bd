#!/usr/bin/env bash
# torchscript.sh: TorchScript files that PyTorch makes here (torchscript_twin.py), converted and read by PyTorch again: the
# same tensors (dtype, strides, sharing, bytes) and attributes as torch.jit.load gives. TAP.
# environment: CKPT; PYTHON (the first of python3 and /usr/bin/python3 that has torch)
set -u
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  python3 -c 'import torch' 2>/dev/null || PYTHON=/usr/bin/python3
fi
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
twin() { "$PYTHON" -W ignore "$(dirname "${BASH_SOURCE[0]}")/torchscript_twin.py" "$@" </dev/null; }

tests=0 failed=0
check() {
  tests=$((tests + 1))
  if [ "$1" = 0 ]; then echo "ok $tests - $2"; else echo "not ok $tests - $2"; failed=$((failed + 1)); sed 's/^/# /' "$work/err"; fi
}

twin make "$work" > "$work/list" 2> "$work/err"
check $? "PyTorch makes the files"
while read -r name weights_only; do
  "$CKPT" convert "$work/$name.pt" "$work/$name.pth" > /dev/null 2> "$work/err" &&
    twin check "$work/$name.pt" "$work/$name.pth" 2> "$work/err"
  check $? "$name: torch.load of the converted file gives what torch.jit.load gives"
  [ -z "$weights_only" ] && continue
  twin check "$work/$name.pt" "$work/$name.pth" --weights-only 2> "$work/err"
  check $? "$name: also with weights_only"
done < "$work/list"
echo "1..$tests"
[ "$failed" = 0 ]
