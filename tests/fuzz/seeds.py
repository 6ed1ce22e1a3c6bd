#!/usr/bin/env python3
"""seeds.py DIR: what the fuzz targets start from, as DIR/TARGET/: the files of tests/data and of tests/hostile, Python's own
pickles of protocols 0 to 5, and the minimised corpus that is kept in tests/fuzz/corpus.

seeds.py --pack CORPUS PACK: writes the inputs of a directory into one file, which is how they are kept: for each, shortest
first, its length in 4 bytes and its bytes.
"""
import collections
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "..", "data")
# What a target once found, cut down; replayed with the seeds ever after.
FOUND = [
    ("fuzz_pickle", b"V\\U1000f060\n."),  # beyond the last code point of Unicode: was taken for text that is no UTF-8
    ("fuzz_pickle", b"c\n\n(tR(t}\x92."),  # NEWOBJ_EX of an object: came back as a call of copyreg.__newobj_ex__
]
MOST = 16384
MOST_KEPT = 96 << 10


class Out:
    def __init__(self, top): self.top, self.n = top, 0

    def put(self, target, data):
        if len(data) > MOST: return
        folder = os.path.join(self.top, target)
        os.makedirs(folder, exist_ok=True)
        self.n += 1
        with open(os.path.join(folder, "seed%05d" % self.n), "wb") as f: f.write(data)


def files(top):
    for folder, _, names in sorted(os.walk(top)):
        for name in sorted(names):
            if name == "table.tsv" or name.endswith(".py"): continue
            with open(os.path.join(folder, name), "rb") as f: yield name, f.read()


def sort_in(out, name, data):
    """By content, to the targets that read it."""
    if name == ".metadata": out.put("fuzz_dcp", data)
    elif data[:4] == b"PK\3\4":
        out.put("fuzz_zip", data)
        out.put("fuzz_pth", data)
    elif data[257:262] == b"ustar": out.put("fuzz_tar", data)
    elif name.endswith(".json") or (len(data) > 8 and struct.unpack("<Q", data[:8])[0] < 2**32): out.put("fuzz_safetensors", data)
    else: out.put("fuzz_legacy", data)


def pickles_in(data):
    try:
        import io
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            return [z.read(e) for e in z.infolist() if e.filename.endswith(".pkl")]
    except Exception:
        return []


VALUES = [None, True, 0, -1, 255, 65535, 2**31, -2**63, 2**200, 0.5, float("inf"), "", "aé€😀", b"", b"bytes", bytearray(b"array"), [], [1, [2, [3]]], (), (1,),
          (1, 2), (1, 2, 3, 4), {}, {"a": 1, 2: [3]}, {1, 2}, frozenset((1,)), collections.OrderedDict(a=1), complex(1, 2), range(3), collections.Counter("aab"),
          collections.deque([1]), slice(1, 2)]
CYCLE = []
CYCLE.append(CYCLE)


def script():
    """Archives as torch.jit.save lays them out: modules in modules, one of them shared, containers, enums, extra files."""
    sys.path.insert(0, os.path.join(HERE, "..", "hostile"))
    from forge import Entry, build_zip, call, entries, glob, i, pickle as program, s, storage, t, v2

    def obj(name, fields): return glob("__torch__" + name[0], name[1]) + b")\x81}(" + b"".join(s(k) + v for k, v in fields) + b"ub"

    jit = "torch.jit._pickle"
    inner = obj((".layer", "Conv"), [("weight", v2()), ("training", b"\x88"), ("bias", b"N")])
    layout = call("torch._utils", "_rebuild_sparse_tensor", i(1), call("torch", "Size", i(4)), b"\x89", v2(storage("LongStorage", "1", 2), 0, (1, 2), (2, 1)),
                  v2(storage(numel=4), 0, (2,), (1,)), b"N")
    fields = [("weight", v2()), ("conv", inner + b"q\1"), ("again", b"h\1"), ("sizes", call(jit, "build_intlist", b"](K\1K\2e")), ("sparse", layout),
              ("table", call(jit, "restore_type_tag", b"}(" + s("a") + i(1) + b"u", s("Dict[str, int]"))), ("mode", glob("__torch__", "Mode") + i(2) + b"R")]
    code = b"class M(Module):\n  __parameters__ = [\"weight\", ]\n  __buffers__ = []\n  weight : Tensor\nclass Mode(Enum):\n  pass\n"
    for root in (obj(("", "M"), fields), obj(("", "M"), fields[:4]), t(obj(("", "M"), fields[:2]), i(1))):
        more = [Entry(b"m/constants.pkl", program(t(v2(storage(key="0"))))), Entry(b"m/constants/0", b"\0" * 16), Entry(b"m/code/__torch__.py", code),
                Entry(b"m/code/__torch__/layer.py", b"class Conv(Module):\n  __parameters__ = [\"weight\", \"bias\"]\n", deflated=True),
                Entry(b"m/extra/note.txt", b"hello"), Entry(b"m/extra/raw", b"\xff\xfe")]
        yield build_zip(entries(program(root), {"0": b"\0" * 16, "1": b"\0" * 16}, more=more))


def main():
    if sys.argv[1] == "--pack":
        inputs = sorted((data for _, data in files(sys.argv[2])), key=lambda d: (len(d), d))
        with open(sys.argv[3], "wb") as f:
            for data in inputs:
                if f.tell() + 4 + len(data) <= MOST_KEPT: f.write(struct.pack("<I", len(data)) + data)
        return
    out = Out(sys.argv[1])
    with tempfile.TemporaryDirectory() as hostile:
        subprocess.run([sys.executable, "-B", os.path.join(HERE, "..", "hostile", "make_hostile.py"), hostile], check=True)
        for top in (DATA, hostile):
            for name, data in files(top):
                sort_in(out, name, data)
                for inner in pickles_in(data): out.put("fuzz_pickle", inner)
    for value in VALUES + [VALUES, CYCLE]:
        for protocol in range(6):
            data = pickle.dumps(value, protocol)
            out.put("fuzz_pickle", data)
            out.put("fuzz_legacy", data)
    for data in script(): sort_in(out, "script", data)
    chance = random.Random(1)
    for n in range(64): out.put("fuzz_roundtrip", chance.randbytes(8 + 4 * n))
    for n in range(48): out.put("fuzz_manager", chance.randbytes(42))
    for target, data in FOUND: out.put(target, data)
    corpus = os.path.join(HERE, "corpus")
    for pack in sorted(os.listdir(corpus)):
        with open(os.path.join(corpus, pack), "rb") as f: data = f.read()
        at = 0
        while at < len(data):
            n = struct.unpack_from("<I", data, at)[0]
            out.put(pack.rsplit(".", 1)[0], data[at + 4:at + 4 + n])
            at += 4 + n


main()
