#!/usr/bin/env python3
"""make_optdigits.py - writes optdigits.pth from UCI's optdigits.tra and optdigits.tes. Standard library only.

usage: make_optdigits.py [SOURCE_DIR [OUT]]

The file is the dict {"train_x": uint8 [3823, 64], "train_y": uint8 [3823], "test_x": uint8 [1797, 64],
"test_y": uint8 [1797]} as torch.save would write it, except that its storages are deflated zip members (PyTorch
itself never compresses, but reads it). The output depends on the input and on zlib alone: no time stamps.
"""
import os
import struct
import sys
import zipfile

PREFIX = "optdigits"
PIXELS = 64


def read_rows(path, expected):
    """Pixels and classes of a file of 65 integers a line."""
    x, y = bytearray(), bytearray()
    with open(path, encoding="ascii") as f:
        for number, line in enumerate(f, 1):
            row = [int(v) for v in line.split(",")]
            if len(row) != PIXELS + 1 or not all(0 <= v <= 16 for v in row) or row[PIXELS] > 9:
                sys.exit(f"{path}:{number}: expected {PIXELS} integers 0..16 and a class 0..9")
            x += bytes(row[:PIXELS])
            y.append(row[PIXELS])
    if len(y) != expected:
        sys.exit(f"{path}: {len(y)} rows, expected {expected}")
    return bytes(x), bytes(y)


def integer(n):
    if n < 256:
        return b"K" + struct.pack("<B", n)
    return b"M" + struct.pack("<H", n) if n < 65536 else b"J" + struct.pack("<i", n)


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode("ascii")


def sizes(dims):
    items = b"".join(integer(d) for d in dims)
    return items + (b"\x85" if len(dims) == 1 else b"\x86")


def tensor(key, shape, n_bytes):
    """The pickle of a contiguous uint8 tensor over storage `key` (protocol 2, nothing memoised)."""
    stride = (shape[1], 1) if len(shape) == 2 else (1,)
    storage = b"(" + text("storage") + b"ctorch\nByteStorage\n" + text(key) + text("cpu") + integer(n_bytes) + b"tQ"
    arguments = storage + integer(0) + sizes(shape) + sizes(stride) + b"\x89" + b"ccollections\nOrderedDict\n)R"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def build(splits):
    """The pickle and the storages of [(name, bytes, shape)]."""
    items = b"".join(text(name) + tensor(str(i), shape, len(data)) for i, (name, data, shape) in enumerate(splits))
    return b"\x80\x02}(" + items + b"u.", [data for _, data, _ in splits]


def write(path, pickle, storages):
    def put(name, data, method):
        info = zipfile.ZipInfo(f"{PREFIX}/{name}", (1980, 1, 1, 0, 0, 0))
        info.create_system = 0
        z.writestr(info, data, method, 9)

    with zipfile.ZipFile(path, "w") as z:
        put("data.pkl", pickle, zipfile.ZIP_STORED)
        put("byteorder", b"little", zipfile.ZIP_STORED)
        for i, data in enumerate(storages):
            put(f"data/{i}", data, zipfile.ZIP_DEFLATED)
        put("version", b"3\n", zipfile.ZIP_STORED)


def main(argv):
    here = os.path.dirname(os.path.abspath(__file__))
    source = argv[1] if len(argv) > 1 else "."
    out = argv[2] if len(argv) > 2 else os.path.join(here, "optdigits.pth")
    splits = []
    for split, name, rows in (("train", "optdigits.tra", 3823), ("test", "optdigits.tes", 1797)):
        x, y = read_rows(os.path.join(source, name), rows)
        splits += [(f"{split}_x", x, (rows, PIXELS)), (f"{split}_y", y, (rows,))]
    write(out, *build(splits))
    print(f"{out}: {os.path.getsize(out)} bytes")


if __name__ == "__main__":
    main(sys.argv)
