"""forge.py - the containers of checkpoints with every field open to a lie: zip, tar, legacy stream, pickle opcodes.

Nothing here knows what is wrong with a file; make_hostile.py says that. No PyTorch is needed.
"""
import struct
import zlib


def p16(n): return struct.pack("<H", n & 0xffff)
def p32(n): return struct.pack("<I", n & 0xffffffff)
def p64(n): return struct.pack("<Q", n & 0xffffffffffffffff)


# ---- zip ----

def deflate(data):
    c = zlib.compressobj(9, zlib.DEFLATED, -15)
    return c.compress(data) + c.flush()


class Entry:
    """One record. `local` and `central` replace fields of the one header or the other; `both` of both."""

    def __init__(self, name, data=b"", deflated=False, before=b"", lextra=b"", cextra=b"", comment=b"", after=b"", attrs=0,
                 disk=0, offset=None, local=None, central=None, both=None):
        self.name, self.data, self.before, self.after = name, data, before, after
        self.lextra, self.cextra, self.comment, self.attrs, self.disk, self.offset = lextra, cextra, comment, attrs, disk, offset
        self.packed = deflate(data) if deflated else data
        fields = {"version": 20, "flags": 0, "method": 8 if deflated else 0, "time": 0, "date": 0, "crc": zlib.crc32(data),
                  "packed": len(self.packed), "size": len(data), "name": name}
        fields.update(both or {})
        self.local = {**fields, **(local or {})}
        self.central = {**fields, **(central or {})}

    @staticmethod
    def header(f, extra):
        return struct.pack("<HHHHHIIIHH", f["version"], f["flags"], f["method"], f["time"], f["date"], f["crc"],
                           f["packed"], f["size"], f.get("name_n", len(f["name"])), f.get("extra_n", len(extra)))


def build_zip(entries, prefix=b"", gap=b"", behind=b"", comment=b"", suffix=b"", between=b"", end=None, wide=None, order=None,
              shift=True):
    """end: fields of the end record; wide: {} for a zip64 end record, or fields of it and of its locator."""
    out = bytearray(prefix)
    base = 0 if shift else len(prefix)
    for e in entries:
        out += e.before
        e.at = len(out) - base
        out += b"PK\3\4" + Entry.header(e.local, e.lextra) + e.local["name"] + e.lextra
        e.bytes_at = len(out)
        out += e.packed + e.after
    out += gap
    directory = len(out) - base
    for e in order or entries:
        out += b"PK\1\2" + p16(20) + Entry.header(e.central, e.cextra)
        out += struct.pack("<HHHII", len(e.comment), e.disk, 0, e.attrs, (e.at if e.offset is None else e.offset) & 0xffffffff)
        out += e.central["name"] + e.cextra + e.comment
    size = len(out) - base - directory
    out += behind
    n = len(entries) if order is None else len(order)
    f = {"n": n, "on_disk": n, "size": size, "offset": directory, "disk": 0, "start_disk": 0, "comment_n": len(comment)}
    if wide is not None:
        w = {"record": 44, "n": n, "on_disk": n, "size": size, "offset": directory, "disk": 0, "start_disk": 0,
             "at": len(out) - base, "disks": 1, "locator_disk": 0, "sign": b"PK\6\6"}
        w.update(wide)
        out += w["sign"] + p64(w["record"]) + p16(45) + p16(45) + p32(w["disk"]) + p32(w["start_disk"])
        out += p64(w["on_disk"]) + p64(w["n"]) + p64(w["size"]) + p64(w["offset"])
        out += between + b"PK\6\7" + p32(w["locator_disk"]) + p64(w["at"]) + p32(w["disks"])
    f.update(end or {})
    out += b"PK\5\6" + p16(f["disk"]) + p16(f["start_disk"]) + p16(f["on_disk"]) + p16(f["n"])
    out += p32(f["size"]) + p32(f["offset"]) + p16(f["comment_n"]) + comment + suffix
    return bytes(out)


def descriptor(data, signed=True, wide=False, crc=None, size=None):
    crc, size = zlib.crc32(data) if crc is None else crc, len(data) if size is None else size
    return (b"PK\7\10" if signed else b"") + p32(crc) + ((p64(size) * 2) if wide else (p32(size) * 2))


# ---- pickle ----

def s(text):
    text = text.encode() if isinstance(text, str) else text
    return b"X" + p32(len(text)) + text


def i(n):
    if 0 <= n < 256: return b"K" + bytes([n])
    if 0 <= n < 65536: return b"M" + p16(n)
    if -2**31 <= n < 2**31: return b"J" + struct.pack("<i", n)
    raw = n.to_bytes((n.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def t(*items): return b"(" + b"".join(items) + b"t"
def ints(*ns): return t(*[i(n) for n in ns])
def glob(module, name): return b"c" + module.encode() + b"\n" + name.encode() + b"\n"
def call(module, name, *args): return glob(module, name) + t(*args) + b"R"
def pickle(body, proto=2): return b"\x80" + bytes([proto]) + body + b"."


HOOKS = glob("collections", "OrderedDict") + b")R"


def storage(cls="FloatStorage", key="0", numel=4, location="cpu", tag="storage", more=b""):
    key = s(key) if isinstance(key, (str, bytes)) else i(key)
    numel = numel if isinstance(numel, bytes) else i(numel)
    cls = cls if isinstance(cls, bytes) else glob("torch", cls)
    return t(s(tag), cls, key, s(location), numel) + b"Q" if not more else t(s(tag), cls, key, s(location), numel, more) + b"Q"


def v2(st=None, offset=0, size=(2, 2), stride=(2, 1), grad=b"\x89", hooks=HOOKS):
    return call("torch._utils", "_rebuild_tensor_v2", st or storage(), i(offset), ints(*size), ints(*stride), grad, hooks)


def state(**tensors): return b"}(" + b"".join(s(k) + v for k, v in tensors.items()) + b"u"


FLOATS = struct.pack("<4f", 1, 2, 3, 4)
GOOD = pickle(state(w=v2()))


def entries(pkl=GOOD, data=None, more=(), version=b"3\n", byteorder=b"little", prefix=b"m"):
    out = [Entry(prefix + b"/data.pkl", pkl)]
    if byteorder is not None: out.append(Entry(prefix + b"/byteorder", byteorder))
    for key, raw in (data if data is not None else {"0": FLOATS}).items():
        out.append(Entry(prefix + b"/data/" + key.encode(), raw))
    if version is not None: out.append(Entry(prefix + b"/version", version))
    return out + list(more)


def pth(pkl=GOOD, data=None, **kw): return build_zip(entries(pkl, data, **kw))


# ---- legacy stream ----

MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."


def legacy(obj=None, keys=None, data=None, version=1001, info=pickle(b"}"), magic=MAGIC):
    view = t(s("storage"), glob("torch", "FloatStorage"), s("0"), s("cpu"), i(4), b"N") + b"Q"
    out = magic + pickle(i(version)) + info
    out += obj if obj is not None else pickle(state(w=v2(view)))
    out += keys if keys is not None else pickle(b"](" + s("0") + b"e")
    return out + (data if data is not None else p64(4) + FLOATS)


def legacy_storage(view=b"N", key="0", numel=4, cls="FloatStorage"):
    return t(s("storage"), glob("torch", cls), s(key), s("cpu"), i(numel), view) + b"Q"


# ---- tar ----

def tar_member(name, data, size=None, kind=b"0", link=b"", mode=b"0000644\0"):
    field = b"%011o\0" % (len(data) if size is None else size) if not isinstance(size, bytes) else size
    head = bytearray(name.ljust(100, b"\0") + mode + b"0000000\0" * 2 + field + b"00000000000\0" + b" " * 8 + kind +
                     link.ljust(100, b"\0") + b"ustar\00000" + b"\0" * 32 * 2 + b"0000000\0" * 2 + b"\0" * 155)
    head = head.ljust(512, b"\0")
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data + b"\0" * (-len(data) % 512)


def tar_storages(count=1, key=1, numel=4, raw=FLOATS, views=b"]", cls="FloatStorage"):
    return pickle(i(count)) + pickle(t(i(key), s("cpu"), glob("torch", cls))) + struct.pack("<q", numel) + raw + pickle(views)


def tar_tensors(count=1, key=2, root=1, ndim=1, size=(4,), stride=(1,), offset=0):
    out = pickle(i(count)) + pickle(t(i(key), i(root), glob("torch", "FloatTensor")))
    out += struct.pack("<iI", ndim, 0)
    return out + b"".join(struct.pack("<q", n) for n in size + stride) + struct.pack("<q", offset)


def tar(storages=None, tensors=None, obj=None, more=b"", names=(b"storages", b"tensors", b"pickle")):
    parts = (storages if storages is not None else tar_storages(), tensors if tensors is not None else tar_tensors(),
             obj if obj is not None else pickle(state(w=i(2) + b"Q")))
    return b"".join(tar_member(n, d) for n, d in zip(names, parts)) + more + b"\0" * 1024


# ---- safetensors ----

def safetensors(header, data=b"", n=None):
    header = header.encode() if isinstance(header, str) else header
    return p64(len(header) if n is None else n) + header + data
