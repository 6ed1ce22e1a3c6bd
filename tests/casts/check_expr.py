#!/usr/bin/env python3
"""check_expr.py CKPT EXPR_LUA [COUNT]: random expressions of mapping rules, each operation of the document, by ckpt.infer
and ckpt.apply against the same by PyTorch: shape, dtype, bytes; sums, means and resizing within a rounding."""
import os, random, subprocess, sys, tempfile, warnings
import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore")
CKPT, LUA = sys.argv[1], sys.argv[2]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
rng = random.Random(int(os.environ.get("SEED", "20240607")))
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int8", "uint8", "bool"]
seen = {}


def raw(t):
    if t.numel() == 0: return b""
    return bytes(torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1)).view(torch.uint8).numpy())


def lua(x):
    if isinstance(x, (list, tuple)): return "{" + ", ".join(lua(v) for v in x) + "}"
    if isinstance(x, str): return '"' + x + '"'
    return repr(x)


def lua_bytes(b): return '"' + "".join("\\x%02x" % x for x in b) + '"'


class Node:
    def __init__(self, value, text, loose=0.0): self.value, self.text, self.loose = value, text, loose


class Case:
    def __init__(self): self.inputs = []

    def leaf(self, dtype, shape):
        n = 1
        for s in shape: n *= s
        if dtype == "bool": t = torch.tensor([rng.random() < 0.5 for _ in range(n)], dtype=torch.bool)
        elif "float" in dtype: t = torch.tensor([rng.randrange(-64, 64) / 8 for _ in range(n)]).to(getattr(torch, dtype))
        else: t = torch.tensor([rng.randrange(0, 50) for _ in range(n)]).to(getattr(torch, dtype))
        name = "k%d" % len(self.inputs)
        self.inputs.append((name, dtype, t.reshape(shape)))
        return Node(t.reshape(shape), lua(name))

    def text(self, root):
        tensors = ", ".join("{ %s, %s, %s, %s }" % (lua(n), lua(d), lua(list(t.shape)), lua_bytes(raw(t)))
                            for n, d, t in self.inputs)
        return "{ { %s }, %s }" % (tensors, root.text)


def op(value, of, *args, loose=0.0):
    seen[args[0]] = seen.get(args[0], 0) + 1
    many = isinstance(of, list)
    text = "{ " + ", ".join(lua(a) for a in args)
    if many: text += ", of = { " + ", ".join(o.text for o in of) + " }"
    elif of is not None: text += ", of = " + of.text
    return Node(value, text + " }", max([loose] + [o.loose for o in (of if many else [of]) if o is not None]))


def near(dtype): return {torch.float64: 1e-9, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}.get(dtype, 0.0)


def resize(t, dims, sizes, mode):
    order = [i for i in range(t.dim()) if i not in dims] + list(dims)
    moved = t.permute(order)
    lead = list(moved.shape[:t.dim() - len(dims)])
    flat = moved.reshape([1, -1] + [t.shape[d] for d in dims])
    wide = flat if t.dtype in (torch.float64, torch.float32) else flat.float()
    kw = {} if mode == "nearest" else {"align_corners": False}
    if mode == "nearest" and len(dims) == 1: made = F.interpolate(wide, sizes, mode="nearest")
    else: made = F.interpolate(wide, sizes, mode=mode, **kw)
    made = made.to(t.dtype).reshape(lead + list(sizes))
    back = [0] * t.dim()
    for at, d in enumerate(order): back[d] = at
    return made.permute(back)


def rope(t, h, split):
    d = t.shape[0]
    a = [h, d // h // 2, 2] if split else [h, 2, d // h // 2]
    return t.reshape(a + list(t.shape[1:])).transpose(1, 2).reshape(t.shape)


def step(case, v):
    t = v.value
    kinds = ["unsqueeze", "reshape", "zeros", "cast"]
    if t.dim() > 0: kinds += ["index_select", "slice", "flip", "roll", "transpose", "permute", "squeeze", "repeat", "pad",
                              "rope_split", "rope_merge", "split", "chunk", "cat", "stack", "resize", "resize"]
    if t.dtype != torch.bool: kinds += ["scale", "add", "addt"]
    if t.dim() > 0 and t.dtype != torch.bool: kinds += ["sum"]
    if t.dim() > 0 and t.dtype.is_floating_point: kinds += ["mean"]
    k = rng.choice(kinds)
    d = rng.randrange(t.dim()) if t.dim() > 0 else 0
    ld = d if rng.random() < 0.6 else d - t.dim()
    size = t.shape[d] if t.dim() > 0 else 1
    if k == "index_select" and size > 0:
        index = [rng.randrange(size) for _ in range(rng.randrange(1, 5))]
        return op(t.index_select(d, torch.tensor(index)), v, k, ld, [i if rng.random() < .7 else i - size for i in index])
    if k == "slice":
        a, b, s = rng.randrange(size + 1), 0, rng.randrange(1, 3)
        b = rng.randrange(a, size + 1)
        index = [slice(None)] * t.dim()
        index[d] = slice(a, b, s)
        return op(t[tuple(index)], v, k, ld, a, b if b == size or b == 0 or rng.random() < .5 else b - size, s)
    if k == "flip":
        dims = rng.sample(range(t.dim()), rng.randrange(1, t.dim() + 1))
        return op(t.flip(dims), v, k, *dims)
    if k == "roll":
        n = rng.randrange(-9, 10)
        return op(t.roll(n, d), v, k, ld, n)
    if k == "transpose":
        e = rng.randrange(t.dim())
        return op(t.transpose(d, e), v, k, ld, e)
    if k == "permute":
        p = rng.sample(range(t.dim()), t.dim())
        return op(t.permute(p), v, k, p)
    if k == "reshape" and t.numel() > 0: return op(t.reshape(-1, 1), v, k, [-1, 1]) if rng.random() < .5 else op(t.reshape(t.numel()), v, k, [t.numel()])
    if k == "unsqueeze" and t.dim() < 4:
        e = rng.randrange(-t.dim() - 1, t.dim() + 1)
        return op(t.unsqueeze(e), v, k, e)
    if k == "squeeze" and size == 1: return op(t.squeeze(d), v, k, ld)
    if k == "repeat" and t.numel() < 300:
        n = rng.randrange(0, 4)
        times = [1] * t.dim()
        times[d] = n
        return op(t.repeat(times), v, k, ld, n)
    if k == "sum":
        if not t.dtype.is_floating_point: return op(t.sum(d, keepdim=True).to(t.dtype), v, k, ld)
        return op(t.double().sum(d, keepdim=True).to(t.dtype), v, k, ld, loose=near(t.dtype))
    if k == "mean" and size > 0: return op(t.double().mean(d, keepdim=True).to(t.dtype), v, k, ld, loose=near(t.dtype))
    if k == "scale":
        x = rng.choice([0.5, -2.0, 4.0]) if t.dtype.is_floating_point else rng.randrange(0, 4)
        return op(t * x, v, k, x)
    if k == "add":
        x = rng.choice([0.5, -2.0, 4.0]) if t.dtype.is_floating_point else rng.randrange(0, 4)
        return op(t + x, v, k, x)
    if k == "addt":
        us = [case.leaf(str(t.dtype)[6:], list(t.shape)) for _ in range(rng.randrange(1, 3))]
        total = t
        for u in us: total = total + u.value
        return op(total, [v] + us, "add")
    if k == "cast":
        name = rng.choice(["float16", "bfloat16", "float32", "float64"]) if t.dtype.is_floating_point else rng.choice(DTYPES)
        return Node(t.to(getattr(torch, name)), op(t, v, k, name).text, max(v.loose, near(getattr(torch, name)) if v.loose else 0))
    if k == "pad" and t.numel() < 500:
        a, b = rng.randrange(3), rng.randrange(3)
        out = torch.full([s + (a + b if i == d else 0) for i, s in enumerate(t.shape)], 1, dtype=t.dtype)
        out.narrow(d, a, size).copy_(t)
        return op(out, v, k, ld, a, b, 1)
    if k in ("rope_split", "rope_merge") and t.dim() > 0 and t.shape[0] >= 2 and t.shape[0] % 2 == 0:
        h = rng.choice([x for x in range(1, t.shape[0] // 2 + 1) if t.shape[0] % (2 * x) == 0])
        return op(rope(t, h, k == "rope_split"), v, k, h, *rng.choice([[], [t.shape[0] // h]]))
    if k == "split" and size > 0:
        a, piece = rng.randrange(size + 1), rng.randrange(2)
        return op(t.split([a, size - a], d)[piece], v, k, ld, [a, size - a], piece)
    if k == "chunk" and size > 0:
        n = rng.choice([x for x in range(1, size + 1) if size % x == 0])
        piece = rng.randrange(n)
        return op(t.chunk(n, d)[piece], v, k, ld, n, piece)
    if k == "cat" and t.numel() < 500:
        shape = list(t.shape)
        shape[d] = rng.randrange(4)
        u = case.leaf(str(t.dtype)[6:], shape)
        return op(torch.cat([t, u.value, t], d), [v, u, v], k, ld)
    if k == "stack" and t.numel() < 500 and t.dim() < 4:
        u, e = case.leaf(str(t.dtype)[6:], list(t.shape)), rng.randrange(t.dim() + 1)
        return op(torch.stack([u.value, t], e), [u, v], k, e)
    if k == "zeros":
        name, shape = rng.choice(DTYPES), [rng.randrange(1, 4) for _ in range(rng.randrange(3))]
        kind = rng.choice(["zeros", "ones", "full"])
        value = {"zeros": 0, "ones": 1, "full": 3}[kind] if name != "bool" else {"zeros": 0, "ones": 1, "full": 1}[kind]
        made = torch.full(shape, value, dtype=getattr(torch, name))
        head = [kind] + ([value] if kind == "full" else [])
        return op(made, None, *head, shape, name)
    if k == "resize" and t.numel() > 0 and t.numel() < 400 and v.loose == 0:
        mode = rng.choice(["nearest", "bilinear", "bicubic"]) if t.dtype.is_floating_point else "nearest"
        if mode == "nearest" and t.dtype not in (torch.float32, torch.float64): return None
        if mode != "nearest" and t.dim() < 2: return None
        dims = rng.sample(range(t.dim()), 2 if mode != "nearest" else rng.randrange(1, min(t.dim(), 2) + 1))
        sizes = [rng.randrange(1, 9) for _ in dims]
        return op(resize(t, dims, sizes, mode), v, k, dims, sizes, mode, loose=0.0 if mode == "nearest" else near(t.dtype))
    return None


def make():
    case = Case()
    v = case.leaf(rng.choice(DTYPES + ["float32"] * 4), [rng.choice([1, 2, 3, 4, 6, 8]) for _ in range(rng.randrange(0, 4))])
    for _ in range(rng.randrange(1, 6)): v = step(case, v) or v
    return case, v


def good(want, loose, line):
    parts = line.split("|")
    if len(parts) != 3: return False
    if [int(x) for x in parts[0].split(",") if x] != list(want.shape) or parts[1] != str(want.dtype)[6:]: return False
    data = bytes.fromhex(parts[2])
    have = raw(want)
    if have == data: return True
    if not want.dtype.is_floating_point or len(data) != len(have): return False
    a = torch.frombuffer(bytearray(have), dtype=want.dtype).double()
    b = torch.frombuffer(bytearray(data), dtype=want.dtype).double()
    same = (a == b) | (a.isnan() & b.isnan())
    scale = max(1.0, float(a[a.isfinite()].abs().max()) if a.isfinite().any() else 1.0)
    return bool((same | ((a - b).abs() <= loose * scale)).all())


def main():
    cases = [make() for _ in range(COUNT)]
    wrong, lines = 0, []
    with tempfile.TemporaryDirectory() as work:
        path, out = os.path.join(work, "cases.lua"), os.path.join(work, "out")
        for at in range(0, COUNT, 100):
            with open(path, "w") as f: f.write("return {\n" + ",\n".join(c.text(v) for c, v in cases[at:at + 100]) + "\n}\n")
            subprocess.run([CKPT, "run", LUA, path, out], check=True)
            with open(out) as f: lines += f.read().splitlines()
    for (case, v), line in zip(cases, lines):
        if good(v.value, v.loose, line): continue
        wrong += 1
        if wrong <= 5:
            print(f"# {v.text} of {[(n, d, list(t.shape)) for n, d, t in case.inputs]}: {line[:200]}")
            print(f"#   PyTorch {list(v.value.shape)} {raw(v.value).hex()[:100]}")
    wrong += COUNT - len(lines)
    absent = {"index_select", "slice", "flip", "roll", "transpose", "permute", "reshape", "unsqueeze", "squeeze", "repeat",
              "sum", "mean", "scale", "add", "cast", "pad", "rope_split", "rope_merge", "resize", "split", "chunk", "cat",
              "stack", "zeros", "ones", "full"} - set(seen)
    if absent: print("# never tried: " + ", ".join(sorted(absent)))
    print(f"{COUNT} expressions of {sum(seen.values())} operations of {len(seen)} kinds: {wrong} differ from PyTorch "
          f"{torch.__version__}")
    return 0 if wrong == 0 and not absent else 1


sys.exit(main())
