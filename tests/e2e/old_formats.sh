#!/usr/bin/env bash
# old_formats.sh: every file of tests/data/old (legacy streams, tar, bare pickles) is converted, and PyTorch reads from the new
# file what it reads from the old one: values, classes, dtypes, shapes, requires_grad, and which tensors share memory.
# Of a file with several saves each is converted.
#   1..n-1  one file each      n  every legacy and tar file of ../shared/data/torch the same way
set -u
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
old=$CKPT_TOP/tests/data/old
cat > "$work/compare.py" <<'P'
import io, pickle, sys, types, warnings
import torch

warnings.simplefilter("ignore")
module = types.ModuleType("oldnet")
module.Net = type("Net", (torch.nn.Module,), {"__module__": "oldnet"})
sys.modules["oldnet"] = module

def groups():
    """A function that numbers storages in order of appearance."""
    seen = {}
    return lambda data_ptr: seen.setdefault(data_ptr, len(seen))

def plain(x, group):
    """What there is to compare, as nested lists. A storage is compared by its values: a new file has it as one of its own."""
    if isinstance(x, torch.Tensor):
        kind = "Parameter" if isinstance(x, torch.nn.Parameter) else "Tensor"
        return [kind, str(x.dtype), list(x.shape), list(x.stride()), x.requires_grad, x.tolist(), group(x.storage().data_ptr())]
    if isinstance(x, torch.nn.Module): return [type(x).__name__, plain(vars(x), group)]
    if isinstance(x, dict): return [type(x).__name__, [[k, plain(v, group)] for k, v in x.items()]]
    if isinstance(x, (list, tuple)): return [type(x).__name__, [plain(v, group) for v in x]]
    if torch.is_storage(x): return ["storage", x.tolist()]
    return [type(x).__name__, repr(x)]

def root_ptr(tensors):  # a part of a storage has an address of its own: count it as the storage that it lies in
    spans = sorted({(t.storage().data_ptr(), -t.storage().nbytes()) for t in tensors})
    def find(p):
        return next(start for start, size in spans if start <= p < start - size or start == p)
    return find

def tensors_of(x, out):
    if isinstance(x, torch.Tensor): out.append(x)
    for v in (vars(x).values() if isinstance(x, torch.nn.Module) else x.values() if isinstance(x, dict) else
              x if isinstance(x, (list, tuple)) else ()):
        tensors_of(v, out)
    return out

def describe(x):
    root, number = root_ptr(tensors_of(x, [])), groups()
    return plain(x, lambda p: number(root(p)))

name, new, save = sys.argv[1], sys.argv[2], int(sys.argv[3])
# "raw" in python2.pth is no UTF-8: PyTorch wants to be told what to make of such strs.
options = {"encoding": "latin1"} if name.endswith("python2.pth") else {}
with open(name, "rb") as file:  # saves one after another
    for _ in range(save): a = pickle.load(file) if name.endswith(".pkl") else torch.load(file, **options)
b = torch.load(new, **options)
if describe(a) == describe(b): sys.exit(0)
print("old:", describe(a)); print("new:", describe(b)); sys.exit(1)
P

files=("$old"/*)
echo "1..$((${#files[@]} + 1))"
saves_in() {
  case $(basename "$1") in
    several.pkl) echo 3 ;;
    two_saves.pth) echo 2 ;;
    *) echo 1 ;;
  esac
}
same() {
  local save option
  for save in $(seq "$(saves_in "$1")"); do
    option=; [ "$(saves_in "$1")" = 1 ] || option="--save $save"
    "$CKPT" convert $option "$1" "$work/new.pth" > "$work/out" 2>&1 || return 1
    /usr/bin/python3 "$work/compare.py" "$1" "$work/new.pth" "$save" >> "$work/out" 2>&1 || return 1
  done
}
n=0
for file in "${files[@]}"; do
  n=$((n + 1))
  if same "$file"; then echo "ok $n - $(basename "$file")"; else echo "not ok $n - $(basename "$file")"; sed 's/^/# /' "$work/out"; fi
done
n=$((n + 1)) right=0 all=0
for file in legacy.pt torch1.13_legacy.pt synthetic_tar_0.1.pth; do
  [ -e "$CKPT_SHARED/data/torch/$file" ] || continue
  all=$((all + 1))
  if same "$CKPT_SHARED/data/torch/$file"; then right=$((right + 1)); else sed 's/^/# /' "$work/out"; fi
done
if [ "$all" = 0 ]; then echo "ok $n # SKIP no shared data"
elif [ "$right" = "$all" ]; then echo "ok $n - $right of $all files of PyTorch's"
else echo "not ok $n - $right of $all files of PyTorch's"; fi
