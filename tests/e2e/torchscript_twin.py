#!/usr/bin/env python3
"""torchscript_twin.py make DIR | check SCRIPT.pt CONVERTED.pth [--weights-only]

make: writes TorchScript files of many kinds and prints their names, "NAME weights_only" for those that weights_only
takes. check: torch.load of the converted file gives what torch.jit.load gives, walked independently: the fields of every
class as the archive's own source declares them, read through torch._C.ScriptModule.
"""
import io, math, os, re, sys, zipfile
from enum import Enum
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn as nn


class Color(Enum):
    RED = 1
    GREEN = 2


class Named(NamedTuple):
    a: int
    b: torch.Tensor


@torch.jit.script
class Plain:
    def __init__(self, x: int):
        self.x = x
        self.t = torch.full([2], 1.5)


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv = nn.Conv2d(n, n, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(n)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(2), nn.Sequential(Block(2), nn.ReLU(), nn.Dropout())])
        self.heads = nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(2, 3, bias=False)})
        self.scales = nn.ParameterList([nn.Parameter(torch.randn(1)), nn.Parameter(torch.randn(2, 2))])
        self.rnn = nn.LSTM(2, 3)
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x.mean([2, 3]))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embed.weight
        self.again = self.out
        base = torch.randn(10)
        self.register_buffer("head", base[:4])
        self.register_buffer("tail", base[4:].view(2, 3).t())

    def forward(self, x):
        return self.again(self.out(self.embed(x)) @ self.embed.weight)


class Values(nn.Module):
    table: Dict[str, int]

    def __init__(self):
        super().__init__()
        self.ints = [1, -2, 1 << 40]
        self.floats = [1.5, -0.0, math.inf]
        self.bools = torch.jit.annotate(List[bool], [True, False])
        self.tensors = [torch.randn(2), torch.randn(0, 3)]
        self.texts = ["a", "ü\n"]
        self.table = {"z": 1, "a": 2}
        self.by_int = torch.jit.Attribute({3: [torch.randn(2)], 1: []}, Dict[int, List[torch.Tensor]])
        self.pair = (1, "x", (torch.randn(1), [2.5]))
        self.named = Named(3, torch.randn(2))
        self.empty = torch.jit.Attribute([], List[int])
        self.scale = 2.5
        self.flag = True
        self.name = "hello"
        self.nothing = None
        self.no_number = torch.jit.Attribute(None, Optional[int])
        self.number = torch.jit.Attribute(3, Optional[int])
        self.register_buffer("absent", None)
        self.register_buffer("passing", torch.randn(2), persistent=False)

    def forward(self, x):
        return x + self.scale + len(self.ints) + self.pair[0]


class Dtypes(nn.Module):
    def __init__(self):
        super().__init__()
        for name in "uint8 int8 int16 int32 int64 bool".split():
            self.register_buffer("as_" + name, torch.tensor([[0, 1, 1], [1, 0, 1]], dtype=getattr(torch, name)))
        for name in "float16 bfloat16 float32 float64".split():
            self.register_buffer("as_" + name, torch.randn(2, 3).to(getattr(torch, name)))
        self.register_buffer("scalar", torch.tensor(2.5))
        self.register_buffer("strided", torch.randn(4, 6)[::2, 1::3])

    def forward(self, x):
        return x


class Exotic(nn.Module):
    def __init__(self):
        super().__init__()
        self.color = Color.GREEN
        self.plain = Plain(3)
        self.plains = [Plain(4), Plain(5)]
        self.device = torch.device("cpu")
        self.number = 1 - 2j
        self.register_buffer("complex", torch.randn(2, dtype=torch.complex64))
        self.register_buffer("wide", torch.randn(2, dtype=torch.complex128))
        self.register_buffer("per_tensor", torch.quantize_per_tensor(torch.randn(3), 0.1, 2, torch.quint8))
        self.register_buffer("per_channel", torch.quantize_per_channel(
            torch.randn(3, 2), torch.tensor([0.1, 0.2]), torch.tensor([0, 1]), 1, torch.qint8))
        self.register_buffer("sparse", torch.eye(3).to_sparse())

    def forward(self, x):
        if self.color == Color.RED:
            x = x + 1
        return x + self.plain.x + len(self.plains)


class Modern(nn.Module):
    """Dtypes that PyTorch 1.13 has not."""

    def __init__(self):
        super().__init__()
        names = "uint16 uint32 uint64 float8_e5m2 float8_e4m3fn float8_e5m2fnuz float8_e4m3fnuz float8_e8m0fnu"
        for name in names.split():
            self.register_buffer("as_" + name, torch.tensor([0, 1, 2]).to(getattr(torch, name)))

    def forward(self, x):
        return x


class Traced(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer("mean", torch.randn(2))
        self.bias = self.fc.bias
        self.constant = torch.randn(2)

    def forward(self, x):
        return self.fc(x) - self.mean + self.bias + self.constant + torch.arange(2)


class Quantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = torch.ao.quantization.QuantStub()
        self.fc = nn.Linear(2, 3)
        self.dequant = torch.ao.quantization.DeQuantStub()

    def forward(self, x):
        return self.dequant(self.fc(self.quant(x)))


def quantised():
    m = Quantised().eval()
    m.qconfig = torch.ao.quantization.get_default_qconfig("fbgemm")
    torch.ao.quantization.prepare(m, inplace=True)
    m(torch.ones(1, 2))
    return torch.jit.script(torch.ao.quantization.convert(m))


def make(directory):
    torch.manual_seed(7)
    files = {
        "nested": (lambda: torch.jit.script(Nested()), True),
        "evaluated": (lambda: torch.jit.script(Nested().eval()), True),
        "tied": (lambda: torch.jit.script(Tied()), True),
        "values": (lambda: torch.jit.script(Values()), False),  # 1.13 takes no floats
        "dtypes": (lambda: torch.jit.script(Dtypes()), True),
        "traced": (lambda: torch.jit.trace(Traced(), torch.ones(1, 2)), True),
        "frozen": (lambda: torch.jit.freeze(torch.jit.script(Traced().eval())), True),
        "exotic": (lambda: torch.jit.script(Exotic()), False),
        "quantised": (quantised, False),
        "function": (lambda: torch.jit.script(lambda_free), True),
    }
    if hasattr(torch, "uint16"):
        files["modern"] = (lambda: torch.jit.script(Modern()), False)
    for name, (build, weights_only) in files.items():
        extra = {"notes.txt": "ü", "raw/bytes.bin": b"\xff\x00"} if name == "values" else {}
        build().save(os.path.join(directory, name + ".pt"), _extra_files=extra)
        print(name, "weights_only" if weights_only else "")


def lambda_free(x):
    return x + 1


# ---- the walk ----


def declared(path):
    """Class -> the names of its fields, in order, from the source texts of the archive."""
    fields = {}
    with zipfile.ZipFile(path) as z:
        for record in z.namelist():
            if "/code/" not in record or not record.endswith(".py"):
                continue
            module = record.split("/code/", 1)[1][:-3].replace("/", ".")
            for part in re.split(r"^(?=class )", z.read(record).decode(), flags=re.M):
                head = re.match(r"class (\w+)", part)
                if not head:
                    continue
                body = part.split("\n  def ", 1)[0]
                names = re.findall(r'^  (?:__annotations__\["(\w+)"\] =|(\w+) :) (?!Final)', body, flags=re.M)
                fields[module + "." + head.group(1)] = [a or b for a, b in names]
    return fields


UNREADABLE = object()


def walk(module, name, fields, entries, about):
    cls = module.qualified_name
    mine = about.setdefault(name, {"__class__": cls})
    for field in fields[cls]:
        full = name + "." + field if name else field
        try:
            value = module.getattr(field)
        except RuntimeError:  # an enum or an object of a class compiled into PyTorch: Python cannot have it
            entries[full] = UNREADABLE
            continue
        if isinstance(value, torch._C.ScriptModule):
            walk(value, full, fields, entries, about)
        elif value is None or (isinstance(value, bool) and field in ("training", "_is_full_backward_hook")) or (
                cls.startswith("__torch__.torch.nn.modules.") and not isinstance(value, torch.Tensor)):
            mine[field] = value
        else:
            entries[full] = value


def same(a, b, where):
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor), (where, type(b))
        facts = lambda t: (t.dtype, t.layout, t.is_quantized, t.requires_grad, tuple(t.shape))
        assert facts(a) == facts(b), (where, facts(a), facts(b))
        if a.layout == torch.strided:
            assert (a.stride(), a.storage_offset()) == (b.stride(), b.storage_offset()), (where, a.stride(), b.stride())
        if a.is_quantized:
            assert a.qscheme() == b.qscheme(), where
            same(a.dequantize(), b.dequantize(), where)
            same(a.int_repr(), b.int_repr(), where)
        elif a.layout != torch.strided:
            same(a.to_dense().detach(), b.to_dense().detach(), where)
        else:
            first, second = io.BytesIO(), io.BytesIO()
            torch.save(a.detach().contiguous().clone(), first)
            torch.save(b.detach().contiguous().clone(), second)
            assert first.getvalue() == second.getvalue(), (where, a, b)
    elif isinstance(a, dict):
        assert list(a) == list(b), (where, list(a), list(b))
        for k in a:
            same(a[k], b[k], f"{where}[{k!r}]")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b) and isinstance(b, list if isinstance(a, list) else tuple), (where, a, b)
        for i, (x, y) in enumerate(zip(a, b)):
            same(x, y, f"{where}[{i}]")
    elif a is UNREADABLE:
        assert isinstance(b, dict) and "__class__" in b, (where, b)
    elif isinstance(b, dict) and "__class__" in b:
        for field in [f for f in b if f not in ("__class__", "__state__")]:
            same(getattr(a, field), b[field], f"{where}.{field}")
    else:
        assert type(a) is type(b) and repr(a) == repr(b), (where, a, b)


def pointers(entries):
    """Which tensors are one object, and which share a storage."""
    tensors = {k: v for k, v in entries.items() if isinstance(v, torch.Tensor) and v.layout == torch.strided}
    ends = {k: v.storage().data_ptr() for k, v in tensors.items() if v.numel() > 0 and not v.is_quantized}
    return sorted((a, b) for a in ends for b in ends if a < b and ends[a] == ends[b])


def check(script, converted, weights_only):
    module = torch.jit.load(script)
    got = torch.load(converted, weights_only=weights_only)
    entries, about = {}, {}
    root = getattr(module, "_c", None)
    if isinstance(root, torch._C.ScriptModule):
        walk(root, "", declared(script), entries, about)
        assert list(entries) == list(got), (list(entries), list(got))
        for key in entries:
            same(entries[key], got[key], key)
        assert pointers(entries) == pointers(got), (pointers(entries), pointers(got))
        same(about, dict(got._metadata), "_metadata")
    constants = [v for _, v in sorted(zip_constants(script).items())]
    same(constants, list(getattr(got, "_constants", ())), "_constants")
    if os.path.basename(script) in ("nested.pt", "evaluated.pt"):
        Nested().load_state_dict(got, strict=True)
    if os.path.basename(script) == "exotic.pt":
        assert got["color"] == {"__class__": root.qualified_name.replace("Exotic", "Color"), "value": 2}, got["color"]
        assert [p["x"] for p in got["plains"]] == [4, 5] and got["plain"]["x"] == 3
    if os.path.basename(script) == "values.pt":
        assert got._extra_files == {"notes.txt": "ü", "raw/bytes.bin": b"\xff\x00"}, got._extra_files


def zip_constants(script):
    module = torch.jit.load(script)
    try:
        consts = module.code_with_constants[1].const_mapping
    except (AttributeError, RuntimeError):
        return {}
    return {int(k[1:]): v for k, v in consts.items() if isinstance(v, torch.Tensor)}


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2])
    else:
        check(sys.argv[2], sys.argv[3], "--weights-only" in sys.argv)
