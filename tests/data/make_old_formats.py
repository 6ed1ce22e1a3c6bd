#!/usr/bin/env python3
"""make_old_formats.py DIRECTORY: writes the files of tests/data/old, opcode by opcode where Python 3 no longer would.

No PyTorch is needed. What the files hold is stated where each is made; tests/c/test_pth_legacy.c, test_pth_tar.c and
test_bare_pickle.c expect it, and tests/e2e/old_formats.sh compares with PyTorch's own reading.
"""
import collections, io, pickle, struct, sys, tarfile, types

# ---- opcodes ----

def u(s): s = s.encode(); return b"X" + struct.pack("<I", len(s)) + s         # str
def s2(s): s = s.encode("latin1"); return b"U" + bytes([len(s)]) + s          # Python 2's str
def i(n): return b"K" + bytes([n]) if 0 <= n < 256 else b"M" + struct.pack("<H", n) if n < 65536 else \
    b"\x8a\x08" + struct.pack("<q", n)
def t(*items): return b"(" + b"".join(items) + b"t"
def c(module, name): return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
def d(*pairs): return b"}(" + b"".join(pairs) + b"u"
def call(f, *args): return f + t(*args) + b"R"
def new(cls, *args): return cls + t(*args) + b"\x81"
def build(obj, state): return obj + state + b"b"
def stop(x): return b"\x80\x02" + x + b"."

NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
HOOKS = c("collections", "OrderedDict") + b")R"
V1, V2 = c("torch._utils", "_rebuild_tensor"), c("torch._utils", "_rebuild_tensor_v2")

def storage(key, numel, view=NONE, cls="FloatStorage", text=u):
    return t(text("storage"), c("torch", cls), text(key), text("cpu"), i(numel), view) + b"Q"

def v2(storage, offset, size, stride):
    return call(V2, storage, i(offset), t(*map(i, size)), t(*map(i, stride)), FALSE, HOOKS)

# ---- the legacy stream ----

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
SYS_INFO = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))

def floats(*values): return struct.pack("<q", len(values)) + struct.pack(f"<{len(values)}f", *values)
def longs(*values): return struct.pack("<q", len(values)) + struct.pack(f"<{len(values)}q", *values)

def legacy(obj, storages):
    """`storages`: key -> its bytes with their count before them."""
    keys = sorted(storages)
    return (MAGIC + stop(i(1001)) + pickle.dumps(SYS_INFO, 2) + stop(obj) + pickle.dumps(keys, 2) +
            b"".join(storages[k] for k in keys))

def two_saves():
    """Two saves: {"epoch": 1, "w": [1, 2]}, {"epoch": 2, "w": [3, 4]}."""
    return b"".join(legacy(d(u("epoch"), i(n), u("w"), v2(storage("7", 2), 0, [2], [1])), {"7": floats(*w)})
                    for n, w in ((1, (1, 2)), (2, (3, 4))))

def views():
    """A root of 6 and parts of it: all [[0,1,2],[3,4,5]], part [2,3] of elements 1-3, tail and typed [4,5], a storage."""
    part, tail = t(u("100"), i(1), i(3)), t(u("101"), i(4), i(2))
    typed = call(c("torch._tensor", "_rebuild_from_type_v2"), V2, c("torch", "Tensor"),
                 t(storage("99", 6, tail), i(0), t(i(2)), t(i(1)), FALSE, HOOKS), NONE)
    return legacy(d(u("all"), v2(storage("99", 6), 0, [2, 3], [3, 1]),
                    u("part"), v2(storage("99", 6, part), 1, [2], [1]),
                    u("tail"), v2(storage("99", 6, tail), 0, [2], [1]),
                    u("typed"), typed,
                    u("parameter"), call(c("torch._utils", "_rebuild_parameter"),
                                         v2(storage("99", 6, part), 0, [3], [1]), TRUE, HOOKS),
                    u("storage"), storage("99", 6, part)), {"99": floats(0, 1, 2, 3, 4, 5)})

def python2():
    """What PyTorch 0.1 to 0.3 wrote under Python 2: strs, a module class with its source, three spellings of tensors."""
    net = t(s2("module"), c("oldnet", "Net"), s2("/home/me/oldnet.py"), s2("class Net(nn.Module): pass\n")) + b"Q"
    a = storage("50", 4, text=s2)
    old = build(c("torch", "FloatTensor") + b")\x81", t(a, i(0), t(i(2), i(2)), t(i(2), i(1))))
    weight = build(new(c("torch.nn.parameter", "Parameter"), call(V1, a, i(0), t(i(4)), t(i(1)))), t(TRUE, FALSE, HOOKS))
    frozen = build(call(c("torch.nn.parameter", "Parameter"), call(V1, a, i(2), t(i(2)), t(i(1)))), t(FALSE, FALSE, HOOKS))
    variable = build(call(c("torch.autograd.variable", "Variable"),
                          call(V1, storage("60", 2, cls="LongStorage", text=s2), i(0), t(i(2)), t(i(1)))),
                     t(FALSE, FALSE, NONE))
    module = build(net + b")\x81", d(s2("training"), FALSE, s2("_parameters"),
                                     call(c("collections", "OrderedDict"),
                                          b"](" + b"](" + s2("weight") + weight + b"e](" + s2("frozen") + frozen + b"ee")))
    return legacy(d(s2("model"), module, s2("old"), old, s2("variable"), variable, s2("name"), s2("caf\xc3\xa9"),
                    s2("raw"), s2("\xff\xfe")), {"50": floats(1, 2, 3, 4), "60": longs(-1, 2)})

# ---- through Python's pickler: other protocols ----

torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
class FloatStorage: __module__ = "torch"
def _rebuild_tensor_v2(*args): raise NotImplementedError
_rebuild_tensor_v2.__module__ = "torch._utils"
def _load_from_bytes(b): raise NotImplementedError
_load_from_bytes.__module__ = "torch.storage"
torch.FloatStorage, utils._rebuild_tensor_v2 = FloatStorage, _rebuild_tensor_v2
torch.storage = types.ModuleType("torch.storage")
torch.storage._load_from_bytes = _load_from_bytes
sys.modules.update({"torch": torch, "torch._utils": utils, "torch.storage": torch.storage})

class Storage:
    """A storage of floats; with `inline` it carries its bytes along, as pickle.dump writes one."""
    def __init__(self, key, values, inline=False): self.key, self.values, self.inline = key, values, inline
    def __reduce__(self):
        return _load_from_bytes, (legacy(storage(self.key, len(self.values)), {self.key: floats(*self.values)}),)

class Tensor:
    def __init__(self, storage): self.storage = storage
    def __reduce__(self):
        return _rebuild_tensor_v2, (self.storage, 0, (len(self.storage.values),), (1,), False, collections.OrderedDict())

class Pickler(pickle._Pickler):
    def persistent_id(self, x):
        if isinstance(x, Storage) and not x.inline: return ("storage", FloatStorage, x.key, "cpu", len(x.values), None)
        return None

def dump(obj, protocol):
    out = io.BytesIO()
    Pickler(out, protocol).dump(obj)
    return out.getvalue()

def legacy_protocol(protocol):
    """{"n": 2**70, "w": [0.5, 1.5]}; without the tensor in protocol 0, whose persistent ids are text."""
    w = Storage("1", [0.5, 1.5])
    obj = {"n": 2**70, "w": Tensor(w)} if protocol > 0 else {"n": 2**70}
    parts = [0x1950A86A20F9469CFC6C, 1001, SYS_INFO, obj, ["1"] if protocol > 0 else []]
    return b"".join(dump(x, protocol) for x in parts) + (floats(*w.values) if protocol > 0 else b"")

def bare(protocol):
    """{"int": -5, "big": 2**70, "float": 0.5, "text": "\u00e9", "bytes": b"\xff", "list": [True, None], "pair": (1, 2)}."""
    return pickle.dumps({"int": -5, "big": 2**70, "float": 0.5, "text": "\u00e9", "bytes": b"\xff", "list": [True, None],
                         "pair": (1, 2)}, protocol)

def inline_tensors(protocol):
    """{"a": t, "b": a view of the same storage, "same": t}, the storage's bytes inside the pickle."""
    w = Storage("33", [1, 2, 3], inline=True)
    a = Tensor(w)
    return dump({"a": a, "b": Tensor(w), "same": a}, protocol)

def several():
    """Three dumps into one file: {"epoch": 1}, {"epoch": 2}, [3]."""
    return pickle.dumps({"epoch": 1}, 2) + pickle.dumps({"epoch": 2}, 4) + pickle.dumps([3], 3)

# ---- tar ----

def tensor_entry(key, storage_key, size, stride, offset, cls="FloatTensor"):
    n = len(size)
    return stop(t(i(key), i(storage_key), c("torch", cls))) + struct.pack(f"<iI{n}q{n}qq", n, 0, *size, *stride, offset)

def tar():
    """w [[1,2],[3,4]], w again, tail [3,4] over a part of the same storage, a Parameter, a bare storage, a module class."""
    storages = (stop(i(2)) + stop(t(i(100), u("cpu"), c("torch", "FloatStorage"))) + floats(1, 2, 3, 4) +
                stop(t(i(101), u("cpu"), c("torch", "LongStorage"))) + longs(7, 8) +
                stop(b"](" + t(i(110), i(100), i(2), i(2)) + b"e"))
    tensors = (stop(i(3)) + tensor_entry(200, 100, [2, 2], [2, 1], 0) + tensor_entry(201, 110, [2], [1], 0) +
               tensor_entry(202, 101, [2], [1], 0, "LongTensor"))
    net = t(c("oldnet", "Net"), u("/home/me/oldnet.py"), u("class Net(nn.Module): pass\n")) + b"Q"
    w = i(200) + b"Q"
    obj = d(u("w"), w, u("again"), w, u("tail"), u("201") + b"Q", u("count"), i(202) + b"Q",
            u("parameter"), build(new(c("torch.nn.parameter", "Parameter"), i(201) + b"Q"), t(TRUE, FALSE, HOOKS)),
            u("storage"), i(110) + b"Q", u("net"), net)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("sys_info", stop(b"}")), ("pickle", stop(obj)), ("tensors", tensors), ("storages", storages)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()[:5120]  # two blocks of zeros end it; tarfile pads to 10240

FILES = {"two_saves.pth": two_saves(), "views.pth": views(), "python2.pth": python2(), "tar.pth": tar(),
         "several.pkl": several()}
FILES.update({f"legacy_protocol{p}.pth": legacy_protocol(p) for p in (0, 1, 4)})
FILES.update({f"bare_protocol{p}.pkl": bare(p) for p in range(6)})
FILES.update({f"inline_protocol{p}.pkl": inline_tensors(p) for p in (2, 4)})

for name, data in FILES.items():
    with open(f"{sys.argv[1]}/{name}", "wb") as f: f.write(data)
