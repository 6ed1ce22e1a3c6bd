#!/usr/bin/env python3
"""check_ops.py CKPT OPS_LUA [COUNT]: chains of random tensor operations by ckpt against the same ones by PyTorch:
shapes, bytes, and the strides of what is a view in PyTorch."""
import os, random, subprocess, sys, tempfile, warnings
import torch

warnings.filterwarnings("ignore")
CKPT, LUA = sys.argv[1], sys.argv[2]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
SEED = int(os.environ.get("SEED", "20240607"))
rng = random.Random(SEED)
DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
          "complex128"]


def raw(t):
    if t.numel() == 0: return b""
    return bytes(torch.empty(t.numel(), dtype=t.dtype).copy_(t.reshape(-1)).view(torch.uint8).numpy())


def lua_list(v): return "{" + ", ".join(str(x) for x in v) + "}"
def lua_bytes(b): return '"' + "".join("\\x%02x" % x for x in b) + '"'


def random_tensor(dtype, shape):
    n = 1
    for s in shape: n *= s
    if dtype == "bool": t = torch.tensor([rng.random() < 0.5 for _ in range(n)], dtype=torch.bool)
    elif dtype.startswith("complex"):
        t = torch.tensor([complex(rng.gauss(0, 3), rng.gauss(0, 3)) for _ in range(n)], dtype=getattr(torch, dtype))
    elif "float" in dtype: t = torch.tensor([rng.gauss(0, 3) for _ in range(n)], dtype=getattr(torch, dtype))
    else: t = torch.tensor([rng.randrange(-100, 100) for _ in range(n)]).to(getattr(torch, dtype))
    return t.reshape(shape)


class Case:
    """Tensors, and the same statements in Lua and in PyTorch."""
    def __init__(self):
        self.inputs, self.lua, self.view = [], [], True  # view: nothing has been copied so far

    def new(self, dtype, shape):
        t = random_tensor(dtype, shape)
        self.inputs.append(t)
        return t, f"t[{len(self.inputs)}]"

    def text(self):
        tensors = ", ".join('{ "%s", %s, %s }' % (str(t.dtype)[6:], lua_list(t.shape), lua_bytes(raw(t)))
                            for t in self.inputs)
        return "{ { %s }, function(ckpt, t)\nlocal v = t[1]\n%s\nreturn v end }" % (tensors, "\n".join(self.lua))


def number_for(t):
    if t.dtype.is_complex and rng.random() < 0.5:
        z = complex(rng.choice([0.5, -2.0, 4.0]), rng.choice([0.5, -1.0]))  # exact products, with or without FMA
        return z, "{ %r, %r }" % (z.real, z.imag)
    if t.dtype.is_floating_point or t.dtype.is_complex:
        x = rng.choice([0.1, -1.5, 3.0, 0.3333333333333333, 1e-3])
        if t.dtype in (torch.float16, torch.bfloat16): x = rng.choice([0.5, -1.5, 3.0, 0.15625])  # see ckpt_tensor_scale
        return x, repr(x)
    x = rng.randrange(0, 8) if t.dtype == torch.uint8 else rng.randrange(-7, 8)
    return x, str(x)


def dim_of(t):
    d = rng.randrange(t.dim())
    return d, d + 1 if rng.random() < 0.7 else d - t.dim()


def step(case, t):
    """One operation: (result, Lua expression over v), or None when it does not apply."""
    kinds = ["unsqueeze", "squeeze", "reshape", "flatten", "contiguous", "to", "expand"]
    if t.dim() > 0:
        kinds += ["select", "slice", "permute", "transpose", "index_select", "flip", "roll", "pad", "split", "chunk",
                  "cat", "stack"]
    if t.dtype != torch.bool: kinds += ["scale", "add", "add_tensor"]
    kind = rng.choice(kinds)
    if t.dim() > 0: d, ld = dim_of(t)
    if kind == "select" and t.shape[d] > 0:
        i = rng.randrange(t.shape[d])
        return t.select(d, i), f"v:select({ld}, {i + 1 if rng.random() < 0.5 else i - t.shape[d]})"
    if kind == "slice":
        a = rng.randrange(t.shape[d] + 1)
        b = rng.randrange(a, t.shape[d] + 1)
        s = rng.randrange(1, 4)
        index = [slice(None)] * t.dim()
        index[d] = slice(a, b, s)
        return t[tuple(index)], f"v:slice({ld}, {a + 1}, {b}, {s})"
    if kind == "permute":
        p = rng.sample(range(t.dim()), t.dim())
        return t.permute(p), f"v:permute{lua_list(x + 1 for x in p)}"
    if kind == "transpose":
        e, le = dim_of(t)
        return t.transpose(d, e), f"v:transpose({ld}, {le})"
    if kind == "unsqueeze" and t.dim() < 5:
        e = rng.randrange(t.dim() + 1)
        return t.unsqueeze(e), f"v:unsqueeze({e + 1})"
    if kind == "squeeze": return t.squeeze(), "v:squeeze()"
    if kind == "reshape" and 0 < t.numel():
        n, shape = t.numel(), []
        while n > 1 and len(shape) < 4:
            f = rng.choice([x for x in range(1, min(n, 12) + 1) if n % x == 0])
            shape.append(f)
            n //= f
        shape.append(n)
        rng.shuffle(shape)
        asked = list(shape)
        if rng.random() < 0.3: asked[rng.randrange(len(asked))] = -1
        return t.reshape(shape), f"v:reshape{lua_list(asked)}"
    if kind == "flatten": return t.flatten(), "v:flatten()"
    if kind == "contiguous": return t.contiguous(), "v:contiguous()"
    if kind == "to":
        if t.dtype.is_complex: name = rng.choice(["complex64", "complex128"])
        elif t.dtype.is_floating_point: name = rng.choice(["float16", "bfloat16", "float32", "float64", "bool", "complex64"])
        else: name = rng.choice(DTYPES)
        return t.to(getattr(torch, name)).contiguous(), f'v:to("{name}")'
    if kind == "expand" and 1 in t.shape and t.numel() < 200:
        shape = [3 if s == 1 and rng.random() < 0.7 else -1 for s in t.shape]
        return t.expand(shape), f"v:expand{lua_list(shape)}"
    if kind == "index_select" and t.shape[d] > 0:
        index = [rng.randrange(t.shape[d]) for _ in range(rng.randrange(0, 5))]
        return t.index_select(d, torch.tensor(index, dtype=torch.int64)), f"v:index_select({ld}, {lua_list(i + 1 for i in index)})"
    if kind == "flip":
        dims = rng.sample(range(t.dim()), rng.randrange(1, t.dim() + 1))
        return t.flip(dims), f"v:flip({', '.join(str(x + 1) for x in dims)})"
    if kind == "roll":
        n = rng.randrange(-9, 10)
        return t.roll(n, d), f"v:roll({n}, {ld})"
    if kind == "pad" and t.numel() < 500:
        pairs = [(rng.randrange(3), rng.randrange(3)) for _ in t.shape]
        value = rng.choice([0, 1])
        out = torch.full([s + a + b for s, (a, b) in zip(t.shape, pairs)], value, dtype=t.dtype)
        inner = out
        for e, (a, b) in enumerate(pairs): inner = inner.narrow(e, a, t.shape[e])
        inner.copy_(t)
        return out, "v:pad({" + ", ".join("{%d, %d}" % p for p in pairs) + "}, %d)" % value
    if kind == "split" and t.shape[d] > 0:
        a = rng.randrange(t.shape[d] + 1)
        k = rng.randrange(2)
        return t.split([a, t.shape[d] - a], d)[k], f"v:split({{{a}, {t.shape[d] - a}}}, {ld})[{k + 1}]"
    if kind == "chunk" and t.shape[d] > 0:
        n = rng.randrange(1, 5)
        pieces = t.chunk(n, d)
        k = rng.randrange(len(pieces))
        return pieces[k], f"assert(#v:chunk({n}, {ld}) == {len(pieces)} and v:chunk({n}, {ld})[{k + 1}])"
    if kind == "cat" and t.numel() < 500:
        shape = list(t.shape)
        shape[d] = rng.randrange(4)
        u, name = case.new(str(t.dtype)[6:], shape)
        return torch.cat([t, u, t], d), f"ckpt.cat({{v, {name}, v}}, {ld})"
    if kind == "stack" and t.numel() < 500 and t.dim() < 5:
        u, name = case.new(str(t.dtype)[6:], list(t.shape))
        e = rng.randrange(t.dim() + 1)
        return torch.stack([u, t], e), f"ckpt.stack({{{name}, v}}, {e + 1})"
    if kind == "scale":
        x, text = number_for(t)
        return t * x, f"v:scale({text})"
    if kind == "add":
        x, text = number_for(t)
        return t + x, f"v:add({text})"
    if kind == "add_tensor":
        u, name = case.new(str(t.dtype)[6:], list(t.shape))
        return t + u, f"v:add({name})"
    return None


def make():
    case = Case()
    t, _ = case.new(rng.choice(DTYPES), [rng.choice([1, 1, 2, 3, 4, 5, 7, 0 if rng.random() < 0.1 else 6, 16, 48])
                                         for _ in range(rng.randrange(0, 4))])
    for _ in range(rng.randrange(1, 7)):
        made = step(case, t)
        if made is None: continue
        case.view &= made[0].numel() > 0 and made[0].storage().data_ptr() == case.inputs[0].storage().data_ptr()
        t = made[0]
        case.lua.append("v = assert(" + made[1] + ")")
    return case, t


def same(want, shape, data):
    if list(want.shape) != shape: return False
    have = raw(want)
    if have == data: return True
    part = {torch.complex64: torch.float32, torch.complex128: torch.float64}.get(want.dtype, want.dtype)
    if not part.is_floating_point or len(have) != len(data): return False
    a = torch.frombuffer(bytearray(have), dtype=part).double()
    b = torch.frombuffer(bytearray(data), dtype=part).double()
    return bool(((a == b) | (a.isnan() & b.isnan())).all())  # signs of zero and NaN bits in sums and products


def main():
    cases = [make() for _ in range(COUNT)]
    wrong = exact = operations = views = 0
    with tempfile.TemporaryDirectory() as work:
        path, out = os.path.join(work, "cases.lua"), os.path.join(work, "out")
        lines = []
        for at in range(0, COUNT, 100):
            with open(path, "w") as f: f.write("return {\n" + ",\n".join(c.text() for c, _ in cases[at:at + 100]) + "\n}\n")
            subprocess.run([CKPT, "run", LUA, path, out], check=True)
            with open(out) as f: lines += f.read().splitlines()
    for (case, want), line in zip(cases, lines):
        operations += len(case.lua)
        parts = line.split("|")
        good = len(parts) == 3
        if good:
            shape = [int(x) for x in parts[0].split(",") if x]
            data = bytes.fromhex(parts[2])
            good = same(want, shape, data)
            if case.view and want.numel() > 0:
                views += 1
                good &= list(want.stride()) == [int(x) for x in parts[1].split(",") if x]
            exact += good and raw(want) == data
        if not good:
            wrong += 1
            if wrong <= 5:
                print("# " + " ".join(case.lua) + f" of {[list(t.shape) for t in case.inputs]} {case.inputs[0].dtype}: {line[:200]}")
                print(f"#   PyTorch {list(want.shape)} {raw(want).hex()[:100]}")
    wrong += COUNT - len(lines)
    print(f"{COUNT} chains of {operations} operations, seed {SEED}: {wrong} differ from PyTorch {torch.__version__}, "
          f"{exact} equal in every bit, {views} views with PyTorch's strides")
    return 0 if wrong == 0 else 1


sys.exit(main())
