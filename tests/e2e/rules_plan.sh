#!/usr/bin/env bash
# rules_plan.sh: a file of 100,000 tensors (a sparse safetensors file of 6.5 GB) is planned with 50 rules. The time is
# printed, not judged. That no byte of the tensors is looked at is shown by the kernel: of the pages that hold them none is
# in memory afterwards, but for the first 16 MB, which may be read ahead with the header; and pages are there once one tensor
# is read, so that the count can see it.
set -u
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python=$(command -v python3) || { echo "1..0 # SKIP no python3"; exit 0; }
"$python" - "$work" << 'PY'
import json, os, struct, sys
work, header, at = sys.argv[1], {}, 0
kinds = ["attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj", "mlp.gate", "mlp.up", "mlp.down", "norm1", "norm2", "gate"]
for layer in range(10000):
    for kind in kinds:
        header["model.layers.%d.%s.weight" % (layer, kind)] = {"dtype": "F32", "shape": [128, 128], "data_offsets": [at, at + 65536]}
        at += 65536
text = json.dumps(header, separators=(",", ":")).encode()
text += b" " * (-(len(text) + 8) % 4096)
with open(work + "/big.safetensors", "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text)
    f.truncate(8 + len(text) + at)
open(work + "/start", "w").write(str(8 + len(text)))
rules = ['{ "other.{i}.x%d.{s}", to = "y.{i}.%d.{s}", optional = true },' % (i, i) for i in range(20)]
rules += ['{ "model.layers.{i}.{s}.absent%d", to = "y.{i}.%d", optional = true },' % (i, i) for i in range(20)]
rules += ['{ "model.layers.{i}.%s.weight", to = "blocks.{i+1}.%s.w"%s },' % (kind, kind.replace(".", "_"), op)
          for kind, op in zip(kinds, [', op = { "rope_split", 4 }'] * 2 + [', op = { "transpose", 0, 1 }'] + [""] * 7)]
open(work + "/rules.lua", "w").write('return { id = "big", stages = { {\n' + "\n".join(rules) + "\n} } }\n")
PY
cat > "$work/plan.lua" << 'LUA'
local mapping = require "scripts.cli.mapping"
local ckpt = require "ckpt"
local loaded = assert(mapping.load(arg[1]))
local clock = os.clock()
local cp = assert(ckpt.open(arg[2]))
local sd = assert(cp:state_dict())
local sources = mapping.sources(sd)
local opened = os.clock()
mapping.make_room(#sources) -- as mapping.plan does
local plan = require "policies.rules".plan(loaded.compiled, sources)
io.write(("%d tensors, %d rules, %d results, %d problems: opened in %.2f s, planned in %.2f s of CPU\n"):format(#sources,
  #loaded.set.stages[1], #plan.outputs, #plan.problems, opened - clock, os.clock() - opened))
if arg[3] then assert(sd["model.layers.5000.norm1.weight"]:sha256()) end
LUA
resident() { # pages of the payload that are in memory
  "$python" - "$work" << 'PY'
import ctypes, mmap, os, sys
work = sys.argv[1]
start, path = int(open(work + "/start").read()), work + "/big.safetensors"
start = start // 4096 * 4096 + (16 << 20)  # what the kernel reads ahead behind the header is not counted
size, libc = os.path.getsize(path), ctypes.CDLL(None, use_errno=True)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
fd = os.open(path, os.O_RDONLY)
at = libc.mmap(None, size - start, mmap.PROT_READ, mmap.MAP_SHARED, fd, start)
pages = (ctypes.c_ubyte * ((size - start + 4095) // 4096))()
if libc.mincore(at, size - start, pages) != 0: sys.exit("mincore: " + os.strerror(ctypes.get_errno()))
print(sum(p & 1 for p in bytes(pages)))
PY
}
echo "1..3"
out=$("$CKPT" run "$work/plan.lua" "$work/rules.lua" "$work/big.safetensors" 2>&1)
case $out in
  "100000 tensors, 50 rules, 100000 results, 0 problems"*) echo "ok 1 - $out" ;;
  *) echo "not ok 1 - $out" ;;
esac
pages=$(resident 2>&1)
[ "$pages" = 0 ] && echo "ok 2 - of 6.5 GB of tensors $pages pages are in memory afterwards" \
  || echo "not ok 2 - of the tensors $pages pages are in memory afterwards"
"$CKPT" run "$work/plan.lua" "$work/rules.lua" "$work/big.safetensors" read > /dev/null 2>&1
pages=$(resident 2>&1)
[ "$pages" -gt 0 ] 2> /dev/null && echo "ok 3 - and $pages once one tensor is read: the count sees them" \
  || echo "not ok 3 - the count does not see a tensor being read: $pages"
