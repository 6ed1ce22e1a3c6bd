#!/usr/bin/env bash
# vgg16.sh: a VGG16 reduced-fc state dict of real shapes (83 MB) is pre-trained into a Pet-named model through the VGG16 table
# and the channel swap, by both policies; PyTorch computes the same by itself and compares all 30 tensors.
set -u
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then echo "1..0 # SKIP no torch"; exit 0; fi
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
echo "1..2"
cat > "$work/make.py" <<'P'
import sys, torch
torch.manual_seed(7)
convs = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
         (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)]
sd = {}
for i, cin, cout in convs:
    sd[f"{i}.weight"], sd[f"{i}.bias"] = torch.randn(cout, cin, 3, 3), torch.randn(cout)
sd["31.weight"], sd["31.bias"] = torch.randn(1024, 512, 3, 3), torch.randn(1024)
sd["33.weight"], sd["33.bias"] = torch.randn(1024, 1024, 1, 1), torch.randn(1024)
torch.save(sd, sys.argv[1])
P
cat > "$work/check.py" <<'P'
import sys, torch
source, loaded = torch.load(sys.argv[1]), torch.load(sys.argv[2])["model"]
def name(i):                       # the layer arithmetic of the network, not the table
    if i == 31: return "conv6"
    if i == 33: return "conv7"
    return f"features1.{i}" if i < 23 else f"features2.{i - 23}"
right = 0
for key, tensor in source.items():
    i, kind = key.split(".")
    if key == "0.weight": tensor = tensor[:, [2, 1, 0]]
    got = loaded[f"{name(int(i))}.{kind}"]
    right += got.shape == tensor.shape and got.dtype == tensor.dtype and torch.equal(got, tensor)
print(f"{right} of {len(source)} tensors right, {sum(t.numel() * 4 for t in source.values()) / 1e6:.1f} MB")
sys.exit(0 if right == len(source) == len(loaded) == 30 else 1)
P
cat > "$work/pretrain.lua" <<'L'
local ckpt = require "ckpt"
local weights, dir, policy = arg[1], arg[2], arg[3]
local vgg = dofile(arg[4])
local source = assert(ckpt.open(weights))
local cp <close> = assert(ckpt.checkpointer { dir = dir, policy = policy, weights = weights, set = { convert_conv1 = true, rgb2bgr = true } })
local sd = assert(source:state_dict())
for _, row in ipairs(vgg.table) do
  local t = sd[row[1]]
  assert(cp:bind("model", row[2], ckpt.tensor(t.dtype, t.shape)))
end
local report = assert(cp:load())
assert(report.mode == "pretrain" and report.matched == 30, report.matched)
assert(cp:save(1))
L
/usr/bin/python3 "$work/make.py" "$work/vgg16_reducedfc.pth" || exit 1
n=0
for policy in pet default; do
  n=$((n + 1))
  if "$CKPT" run "$work/pretrain.lua" "$work/vgg16_reducedfc.pth" "$work/$policy" "$policy" policies/maps/vgg16_reducedfc.lua \
    > "$work/out" 2>&1 && /usr/bin/python3 "$work/check.py" "$work/vgg16_reducedfc.pth" "$work/$policy/model_latest.pth" \
    >> "$work/out" 2>&1; then echo -n "ok $n"; else echo -n "not ok $n"; fi
  echo " - $policy: $(tail -1 "$work/out")"
  sed '$d;s/^/# /' "$work/out"
done
