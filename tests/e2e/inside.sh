#!/usr/bin/env bash
# inside.sh: PyTorch's word on what is inside (skipped without PyTorch): the files of tests/data/inside_*.pth and of
# ../shared/data/torch are rewritten and compared; sanitised, they must load with weights_only=True.
#
# environment: CKPT (build/ckpt), PYTHON (the first of python3 and /usr/bin/python3 that has torch)
#
# PyTorch before 2.7 reads only some of the originals, and its weights_only takes the profile 1.13; a later one takes both
# but for CSR tensors in the words of 1.13 (inside_torch, sparse).
set -u
python() { LC_ALL=C.UTF-8 "$PYTHON" "$@" 2> /dev/null; }
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  python -c 'import torch, numpy' || PYTHON=/usr/bin/python3
fi
if ! python -c 'import torch, numpy'; then echo "1..0 # SKIP no PyTorch with numpy"; exit 0; fi
new=no; if python -c 'import torch; torch.uint16'; then new=yes; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
n=0 shared=${CKPT_SHARED:-../shared}
report() { # STATUS NAME DETAIL
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; echo "# $3"; fi
}

cat > "$work/sanitize.lua" <<'L'
local ckpt = require "ckpt"
local value = assert(ckpt.sanitize(assert(ckpt.open(arg[1])), arg[3]))
assert(ckpt.save(arg[2], value))
L

same() { # FILE NAME
  local out
  out=$("$CKPT" convert "$1" "$work/copy.pth" 2>&1) && out=$(python tests/e2e/inside_same.py "$1" "$work/copy.pth")
  report $? "$2 is the same to PyTorch when rewritten" "$out"
}

loads() { # FILE NAME PROFILE
  local out
  out=$("$CKPT" run "$work/sanitize.lua" "$1" "$work/clean.pth" "$3" 2>&1) &&
    out=$(python tests/e2e/inside_same.py --weights-only "$work/clean.pth")
  report $? "$2 loads with weights_only=True when sanitised for $3" "$out"
}

files=$(ls tests/data/inside_*.pth)
for name in quantized sparse params numpy all_dtypes train_ckpt; do
  if [ -e "$shared/data/torch/$name.pt" ]; then files="$files $shared/data/torch/$name.pt"; fi
done
for file in $files; do
  name=$(basename "$file" | sed 's/\.[a-z]*$//')
  case $new,$name in
    yes,inside_devices) ;; # nothing of XLA or MAIA here
    yes,*) same "$file" "$name" ;;
    no,inside_numpy1 | no,train_ckpt) same "$file" "$name" ;;
  esac
  if [ $new = yes ]; then loads "$file" "$name" 2.6; fi
  case $new,$name in
    yes,inside_torch | yes,sparse) ;;
    *) loads "$file" "$name" 1.13 ;;
  esac
done
echo "1..$n"
