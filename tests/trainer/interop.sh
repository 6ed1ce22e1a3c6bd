#!/bin/bash
# interop.sh - the C trainer and PyTorch take turns in one run, over their checkpoints alone. TAP.
# environment: TRAINER (build/trainer), PYTHON (the first of python3 and /usr/bin/python3 that has torch)
set -u
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python3
  python3 -c 'import torch' 2>/dev/null || PYTHON=/usr/bin/python3
fi
if ! "$PYTHON" -c 'import torch' 2>/dev/null; then
  echo "1..0 # SKIP no torch"
  exit 0
fi
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
twin() { "$PYTHON" -W ignore "$here/torch_twin.py" "$@"; }

run --quiet --dir "$tmp/c" --epochs 3 --dump "$tmp/c.dump"
check $? "the trainer finishes 3 epochs"
twin check "$tmp/c/model_latest.pth" "$tmp/c.dump"
check $? "PyTorch reads them: weights, momentum, schedule, random state bit for bit; model and SGD load strictly"

# exchange NAME OPTION...: PyTorch goes on for 2 epochs, the trainer takes over
exchange() {
  local name=$1 dir=$tmp/$1
  shift
  mkdir "$dir"
  twin continue "$tmp/c/model_latest.pth" "$dir/model_latest.pth" "$tmp/$name.torch" --epochs 2 "$@"
  check $? "PyTorch trains 2 epochs more ($name)"
  run --dir "$dir" --epochs 5 --dump "$tmp/$name.dump" >"$tmp/$name.log"
  check $? "the trainer opens what torch.save wrote ($name)"
  grep -q '^load: resumed .*, epoch 6 is next$' "$tmp/$name.log" &&
    grep -q '^load: 6 matched, 0 missing, 0 unexpected, 0 mismatched$' "$tmp/$name.log"
  check $? "it resumes after epoch 5, with every key ($name)"
  cmp "$tmp/$name.torch" "$tmp/$name.dump"
  check $? "weights, momentum, schedule, epoch, random state are PyTorch's, bit for bit ($name)"
  run --quiet --dir "$dir" --epochs 9 --dump "$tmp/$name.dump"
  check $? "the trainer goes on to epoch 9 ($name)"
  twin check "$dir/model_latest.pth" "$tmp/$name.dump"
  check $? "and PyTorch reads that again ($name)"
}
exchange named
exchange plain --plain

run --dir "$tmp/fresh" --weights "$tmp/plain/model_latest.pth" --epochs 1 >"$tmp/fresh.log"
check $? "a new run starts from the weights of another"
grep -q '^load: pre-trained .*, epoch 1 is next$' "$tmp/fresh.log" && grep -q '^load: 6 matched' "$tmp/fresh.log"
check $? "it is pre-trained with all 6 parameters, at epoch 1"
finish
