#!/usr/bin/env python3
"""check_casts.py CKPT CAST_LUA [COUNT]: ckpt's casts against those of the PyTorch that python3 has.

Every value of every 8- and 16-bit dtype, and COUNT (a million) random ones of every wider dtype, go to every other
dtype. Bytes must be equal; NaN is equal to NaN (how many differ in their bits is told). A float that does not fit an
integer has no defined result in PyTorch: there ckpt's own rule is checked (the nearest bound, NaN is 0; uint8 takes the
low bits of the nearest int64, which PyTorch defines within int64). Complex to real is refused by ckpt and not compared.
"""
import os, subprocess, sys, tempfile, warnings
import torch

warnings.filterwarnings("ignore")
CKPT, LUA = sys.argv[1], sys.argv[2]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 1_000_000
SEED = int(os.environ.get("SEED", "20240607"))

INTS = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float8_e5m2", "float8_e4m3fn", "float8_e5m2fnuz", "float8_e4m3fnuz", "float8_e8m0fnu", "float16", "bfloat16",
          "float32", "float64"]
COMPLEX = ["complex32", "bcomplex32", "complex64", "complex128"]
SIZE = {"bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
        "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "bcomplex32": 4, "complex64": 8,
        "complex128": 16}
PART = {"complex32": "float16", "bcomplex32": "bfloat16", "complex64": "float32", "complex128": "float64"}
have = [d for d in INTS + FLOATS + COMPLEX if hasattr(torch, d)]
RAW = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def size(d): return SIZE.get(d, 1)
def raw_bytes(t): return bytes(t.contiguous().view(torch.uint8).numpy()) if t.numel() else b""
def dtype(d): return getattr(torch, d)


def of_bytes(b, d):
    t = torch.frombuffer(bytearray(b), dtype=torch.uint8)
    return t.view(dtype(d)) if d != "bool" else t.view(torch.bool)


def ties(n, g, bits, low, high):
    """Numbers half way between two of `bits` significant bits, as float64, a third of them one float64 or float32 step off."""
    k = torch.randint(2 ** (bits - 1), 2 ** bits, (n,), generator=g).double()
    e = torch.randint(low, high, (n,), generator=g).double()
    v = (k + 0.5) * torch.pow(torch.tensor(2.0, dtype=torch.float64), e)
    sign = torch.randint(0, 2, (n,), generator=g).double() * 2 - 1
    nudge = torch.randint(-1, 2, (n,), generator=g)
    return (v * sign).view(torch.int64) + nudge * torch.where(torch.rand(n, generator=g) < 0.5, 1, 1 << 29)


def float_values(n, g, d):
    """Random bit patterns, ties of all narrower formats, integers and their neighbours, and what is special."""
    quarter = n // 4
    parts = [torch.randint(-2 ** 63, 2 ** 63 - 1, (quarter,), generator=g).view(torch.float64)]
    for bits, low, high in ((2, -24, 18), (3, -24, 18), (4, -16, 8), (8, -140, 124), (11, -30, 10), (24, -150, 104)):
        parts.append(ties(quarter // 6, g, bits, low, high).view(torch.float64))
    whole = torch.randint(-2 ** 63, 2 ** 63 - 1, (quarter,), generator=g)
    whole = whole >> torch.randint(0, 64, (quarter,), generator=g)
    parts.append(whole.double() + torch.randint(-3, 4, (quarter,), generator=g).double() / 4)
    inf, nan = float("inf"), float("nan")
    parts.append(torch.tensor([0.0, -0.0, inf, -inf, nan, 1, -1, 2.0 ** 63, -2.0 ** 63, 2.0 ** 64, 1e308, 5e-324, -5e-324,
                               240, 248, 448, 464, 480, 57344, 61440, 65504, 65520, 2.0 ** -127, 2.0 ** -128, 0.5, 127.5,
                               255.5, 256, -0.9, -1.1], dtype=torch.float64))
    wide = torch.cat(parts)
    if d == "float32":
        patterns = torch.randint(-2 ** 31, 2 ** 31 - 1, (n - wide.numel(),), generator=g).int().view(torch.float32)
        return torch.cat([wide.float(), patterns])
    rest = n - wide.numel()
    scaled = torch.randn(rest, generator=g, dtype=torch.float64) * torch.pow(
        torch.tensor(2.0, dtype=torch.float64), torch.randint(-60, 60, (rest,), generator=g).double())
    return torch.cat([wide, scaled])


def int_values(n, g, d):
    """Patterns of all magnitudes, and the middles between neighbouring floats of 4 to 53 bits, and one beside them."""
    half = n // 2
    a = torch.randint(-2 ** 63, 2 ** 63 - 1, (half,), generator=g) >> torch.randint(0, 64, (half,), generator=g)
    bits = torch.tensor([4, 8, 11, 24, 53])[torch.randint(0, 5, (n - half,), generator=g)]
    shift = (torch.rand(n - half, generator=g) * (63 - bits)).long()
    k = (torch.randint(0, 2 ** 62, (n - half,), generator=g) >> (63 - bits)) | (1 << (bits - 1))
    b = (k * 2 + 1) << shift
    v = torch.cat([a, b + torch.randint(-1, 2, (n - half,), generator=g)])
    return v if size(d) == 8 else v.int()


def source_of(d, g):
    """The source's values, as a tensor of PyTorch's and as bytes."""
    if d == "bool": return torch.tensor([False, True])
    if d in PART:
        parts = source_of(PART[d], g) if size(d) > 4 else None
        if parts is None:
            b = torch.randint(0, 1 << 16, (2 * COUNT,), generator=g).to(torch.int32)
            b = torch.stack([b & 255, b >> 8], 1).to(torch.uint8).flatten()
            return b.view(dtype(d))
        parts = parts[torch.randperm(parts.numel(), generator=g)]
        return parts[: parts.numel() // 2 * 2].view(dtype(d))
    if size(d) == 1: return torch.arange(256).to(torch.uint8).view(dtype(d))
    if size(d) == 2:
        all16 = torch.arange(65536).to(torch.int32)
        return torch.stack([all16 & 255, all16 >> 8], 1).to(torch.uint8).flatten().view(dtype(d))
    values = (float_values if d in FLOATS else int_values)(COUNT, g, d)
    return values.view(torch.uint8).view(dtype(d))


def as_float(t): return t.to(torch.float64) if t.dtype != torch.float64 else t


def undefined(v, to):
    """Where a float has no defined integer result in PyTorch, and what ckpt's rule says there."""
    b = 64 if to == "uint8" else 8 * size(to)
    signed = to.startswith("int") or to == "uint8"
    low, high = (-2.0 ** (b - 1), 2.0 ** (b - 1)) if signed else (0.0, 2.0 ** b)
    t = v.trunc()
    outside = ~((t >= low) & (t < high))
    bits = 8 * size(to)
    top = -1 if to in ("uint8", "uint64") else (2 ** (bits - 1) - 1 if to.startswith("int") else 2 ** bits - 1)
    bottom = -2 ** (bits - 1) if to.startswith("int") else 0
    rule = torch.where(v > 0, torch.tensor(top), torch.tensor(bottom))
    return outside, torch.where(v.isnan(), torch.tensor(0), rule)


def rows(t): return t.contiguous().view(torch.uint8).reshape(t.numel(), -1)


def compare(source, d, to, got):
    """(values compared, mismatches, undefined ones, NaNs of other bits) or None where PyTorch has no such cast."""
    try: want = source.to(dtype(to))
    except (RuntimeError, NotImplementedError, TypeError): return None
    got = of_bytes(got, to)
    if got.numel() != want.numel(): return want.numel(), want.numel(), 0, 0
    free = 0
    if to in PART:
        part = PART[to]
        want, got = want.contiguous().view(torch.uint8).view(dtype(part)), got.view(torch.uint8).view(dtype(part))
    differ = (rows(want) != rows(got)).any(1)
    nan_bits = 0
    if to in FLOATS or to in PART:
        both = as_float(want).isnan() & as_float(got).isnan()
        nan_bits = int((differ & both).sum())
        differ &= ~both
    elif d in FLOATS and to != "bool":
        outside, rule = undefined(as_float(source), to)
        rule = rows(rule)[:, : size(to)]
        differ = torch.where(outside, (rule != rows(got)).any(1), differ)
        free = int(outside.sum())
    for i in differ.nonzero().flatten()[:3].tolist():
        at = i // 2 if to in PART else i
        print(f"#   {d} {rows(source)[at].tolist()} -> {to}: {rows(got)[i].tolist()}, PyTorch {rows(want)[i].tolist()}")
    return source.numel(), int(differ.sum()), free, nan_bits


def main():
    print(f"# PyTorch {torch.__version__}, seed {SEED}, {len(have)} dtypes")
    pairs = total = wrong = free = nans = 0
    missing = []
    with tempfile.TemporaryDirectory() as work:
        for d in have:
            g = torch.Generator().manual_seed(SEED)
            source = source_of(d, g)
            targets = [t for t in have if t != d and not (d in PART and t not in PART)]
            path = os.path.join(work, "in")
            with open(path, "wb") as f: f.write(raw_bytes(source))
            subprocess.run([CKPT, "run", LUA, d, path, os.path.join(work, "out"), *targets], check=True)
            for to in targets:
                with open(os.path.join(work, "out." + to), "rb") as f: got = f.read()
                result = compare(source, d, to, got)
                if result is None:
                    missing.append(f"{d}->{to}")
                    continue
                pairs += 1
                total, wrong, free, nans = total + result[0], wrong + result[1], free + result[2], nans + result[3]
    if missing: print(f"# PyTorch has no cast for {len(missing)} pairs: {' '.join(missing)}")
    print(f"{pairs} pairs of dtypes, {total} values checked, {wrong} mismatches "
          f"({free} undefined in PyTorch checked by rule, {nans} NaN with other bits)")
    return 0 if wrong == 0 and pairs > 0 else 1


sys.exit(main())
