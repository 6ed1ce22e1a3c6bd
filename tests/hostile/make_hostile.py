#!/usr/bin/env python3
"""make_hostile.py DIR: writes hostile checkpoints into DIR and, as DIR/table.tsv, what must become of each.

A line of the table: file, the row that it is of (8.N: of torch-format section 8, 2.2: of reliability.md), stage, code, a
part of the message. "zip" in the fifth column marks what T11 counts: archives that two readers may read differently.
"""
import os
import struct
import sys
import zlib

from forge import (Entry, FLOATS, GOOD, HOOKS, MAGIC, build_zip, call, deflate, descriptor, entries, glob, i, ints, legacy,
                   legacy_storage, p16, p32, p64, pickle, pth, s, safetensors, state, storage, t, tar, tar_member, tar_storages,
                   tar_tensors, v2)

CASES = []


def case(name, row, data, code, text="", stage="open", ambiguous=False):
    """data: bytes, or {file below a directory: bytes} with `@` before the one that is opened, or "" for the directory."""
    CASES.append((name, row, data, stage, code, text, ambiguous))


def ok(name, row, data): case(name, row, data, "ok", stage="done")


def refuse(row, code, text, files, prefix):
    for name, data in files: case(prefix + "-" + name, row, data, code, text)


# ---- zip: rows 1 to 18 ----

TWO_WAYS = "can be read in more than one way"


def good(**kw): return entries(**kw)


def changed(which=2, **kw):
    """The good archive with one record made by other means: data/0, or the one of that number."""
    e = good()
    name = e[which].name
    e[which] = Entry(name, e[which].data, **kw)
    return e


def zip_ends():
    g = pth()
    at = g.rindex(b"PK\5\6")
    case("zip-empty", "8.1", b"", "format", "the file is empty")
    case("zip-only-magic", "8.1", b"PK\3\4", "corrupt", "zip end record missing")
    for part in (1, 3, 30, 64, len(g) // 3, len(g) // 2, at - 1, at, at + 1, len(g) - 1):
        case("zip-cut-%d" % part, "8.1", g[:part], "format" if part < 4 else "corrupt", "" if part < 4 else "end record")
    case("zip-no-end", "8.1", g[:at], "corrupt", "zip end record missing")
    case("zip-70k-behind", "8.1", g + b"\0" * 70000, "corrupt", "zip end record missing")

    def two(name, data, text=TWO_WAYS, code="corrupt", row="8.2"): case("zip-" + name, row, data, code, text, ambiguous=True)

    two("100-behind", g + b"\0" * 100, "is followed by 100 bytes", row="8.1")
    two("1-behind", g + b"\n", "is followed by 1 bytes", row="8.1")
    two("comment", build_zip(good(), comment=b"hello"))
    two("comment-is-end", build_zip(good(), comment=g[at:]), "two end records")
    two("comment-holds-end", build_zip(good(), comment=b"ab" + g[at:] + b"cd"), "two end records")
    two("comment-too-long", build_zip(good(), end={"comment_n": 7}), "is followed by 0 bytes")
    two("comment-65535", build_zip(good(), end={"comment_n": 65535}), "is followed by 0 bytes")
    two("two-archives", g + pth(pickle(i(1))), "")
    two("end-twice", g + g[at:], "")
    two("prefix", build_zip(good(), prefix=b"PK\3\4 a program of its own"))
    two("prefix-unadjusted", build_zip(good(), prefix=b"PK\3\4....", shift=False), "")
    two("disk", build_zip(good(), end={"disk": 1}), "")
    two("start-disk", build_zip(good(), end={"start_disk": 1}), "")
    two("on-disk", build_zip(good(), end={"on_disk": 3}), "")
    ok("zip-end-in-data", "8.2", pth(data={"0": g[at:at + 16]}))
    ok("zip-whole-zip-in-data", "8.2", pth(pickle(state(w=v2(storage("ByteStorage", numel=len(g)), size=(len(g),), stride=(1,)))),
                                           {"0": g}))
    w = {}
    two("locator-self", build_zip(good(), wide={"at": 0x7fff}), "")
    two("locator-zero", build_zip(good(), wide={"at": 0}), "")
    two("locator-far", build_zip(good(), wide={"at": 2**63}), "")
    two("locator-wraps", build_zip(good(), wide={"at": 2**64 - 8}), "")
    two("locator-disks", build_zip(good(), wide={"disks": 2}), "")
    two("locator-disk", build_zip(good(), wide={"locator_disk": 1}), "")
    two("zip64-gap", build_zip(good(), wide=w, between=b"12345678"), "")
    two("zip64-n", build_zip(good(), wide={"n": 3, "on_disk": 3}), "")
    two("zip64-on-disk", build_zip(good(), wide={"on_disk": 3}), "")
    two("zip64-size", build_zip(good(), wide={"size": 10}), "")
    two("zip64-offset", build_zip(good(), wide={"offset": 4}), "")
    two("zip64-record-size", build_zip(good(), wide={"record": 60}), "")
    two("zip64-record-huge", build_zip(good(), wide={"record": 2**64 - 12}), "")
    two("zip64-disk", build_zip(good(), wide={"disk": 7}), "")
    two("zip64-other-offset-in-32", build_zip(good(), wide=w, end={"offset": 4}), "")
    two("zip64-other-n-in-32", build_zip(good(), wide=w, end={"n": 3, "on_disk": 3}), "")
    two("zip64-behind-directory", build_zip(good(), wide=w, behind=b"PK\3\4 more"), "")
    two("behind-directory", build_zip(good(), behind=b"PK\1\2 more"), "")
    ok("zip64-plain", "8.2", build_zip(good(), wide={}))
    ok("zip64-full-32", "8.2", build_zip(good(), wide={}, end={"n": 65535, "on_disk": 65535, "offset": 2**32 - 1, "size": 2**32 - 1}))
    for name, end in (("n-65535", {"n": 65535, "on_disk": 65535}), ("n-more", {"n": 5, "on_disk": 5}), ("n-less", {"n": 3, "on_disk": 3}),
                      ("n-0", {"n": 0, "on_disk": 0}), ("size-0", {"size": 0}), ("size-huge", {"size": 2**32 - 2}), ("size-1", {"size": 1}),
                      ("offset-huge", {"offset": 2**32 - 2}), ("offset-0", {"offset": 0}), ("offset-plus-1", {"offset": 1})):
        two("end-" + name, build_zip(good(), end=end), "", row="8.3")
    for bits in (20, 31, 40, 63):
        case("zip64-n-2^%d" % bits, "8.3", build_zip(good(), wide={"n": 1 << bits, "on_disk": 1 << bits},
                                                     end={"n": 65535, "on_disk": 65535}), "corrupt", "", ambiguous=True)
    case("zip64-offset-wraps", "8.3", build_zip(good(), wide={"offset": 2**64 - 4, "size": 2**63}), "corrupt", "", ambiguous=True)
    case("zip64-size-wraps", "8.3", build_zip(good(), wide={"size": 2**64 - 1}), "corrupt", "", ambiguous=True)


def zip_names():
    def two(name, e, text=TWO_WAYS, row="8.4", code="corrupt"): case("zip-name-" + name, row, build_zip(e), code, text, ambiguous=True)

    two("twice", good() + [Entry(b"m/data/0", b"other bytes 1234")], "the same name")
    two("twice-version", good() + [Entry(b"m/version", b"4\n")], "the same name")
    two("case", good() + [Entry(b"m/DATA.PKL", GOOD)], "differ only in case")
    two("nul", good() + [Entry(b"m/x\0y", b"1")], "", row="8.5")
    two("backslash", good() + [Entry(b"m\\x", b"1")], "", row="8.5")
    two("backslash-below", good() + [Entry(b"m/a\\b", b"1")], row="8.5")
    two("dotdot", good() + [Entry(b"m/../../etc/passwd", b"1")], row="8.5")
    two("dotdot-first", [Entry(b"../" + e.name[2:], e.data) for e in good()], row="8.5")
    two("dot", good() + [Entry(b"m/./x", b"1")], row="8.5")
    two("double-slash", good() + [Entry(b"m//x", b"1")], row="8.5")
    two("absolute", [Entry(b"/" + e.name, e.data) for e in good()], row="8.5")
    two("no-prefix", [Entry(b"/" + e.name[2:], e.data) for e in good()], row="8.6")
    two("drive", good() + [Entry(b"m/c:x", b"1")], row="8.5")
    two("newline", good() + [Entry(b"m/a\nb", b"1")], row="8.5")
    two("escape", good() + [Entry(b"m/\x1b[2J", b"1")], row="8.5")
    two("empty", good() + [Entry(b"", b"1")], "", row="8.5")
    two("bad-utf8", good() + [Entry(b"m/\xff\xfe", b"1", both={"flags": 0x800})], "", row="8.5")
    two("unmarked-utf8", good() + [Entry("m/é".encode(), b"1")], row="8.5")
    ok("zip-name-utf8", "8.5", build_zip(good() + [Entry("m/é".encode(), b"1", both={"flags": 0x800})]))
    ok("zip-name-long", "8.5", build_zip(good() + [Entry(b"m/" + b"x" * 65533, b"1")]))
    case("zip-stray", "8.6", build_zip(good() + [Entry(b"foo.txt", b"1")]), "format", "lies outside the folder")
    case("zip-stray-macosx", "8.6", build_zip(good() + [Entry(b"__MACOSX/._m", b"1")]), "format", "lies outside the folder")
    case("zip-no-folder", "8.6", build_zip([Entry(b"data.pkl", GOOD), Entry(b"version", b"3")]), "format", "no folder inside")
    case("zip-prefix-300", "8.6", build_zip(entries(prefix=b"p" * 300)), "limit", "folder name is too long")
    ok("zip-directory-first", "8.6", build_zip([Entry(b"m/", b"", attrs=0x10)] + good()))
    two("local-differs", changed(local={"name": b"m/data/1"}), "", row="8.7")
    two("local-shorter", changed(local={"name": b"m/data/"}), "", row="8.7")
    two("unicode-extra", changed(lextra=b"up" + p16(9) + b"\1\0\0\0\0evil", cextra=b"up" + p16(9) + b"\1\0\0\0\0evil"), row="8.7")
    two("unicode-extra-central", changed(cextra=b"up" + p16(9) + b"\1\0\0\0\0evil"), "", row="8.7")


def zip_headers():
    def two(name, e, text="", row="8.7", code="corrupt", **kw):
        case("zip-head-" + name, row, build_zip(e, **kw), code, text, ambiguous=True)

    for field, value in (("size", 15), ("size", 0), ("packed", 12), ("packed", 2**32 - 1), ("crc", 0x12345678), ("method", 8),
                         ("flags", 1), ("flags", 8), ("flags", 0x800), ("time", 1), ("date", 99)):
        two("local-%s-%x" % (field, value), changed(local={field: value}))
    for field, value, code, text in (("size", 15, "corrupt", ""), ("size", 2**32 - 2, "corrupt", ""), ("packed", 12, "corrupt", ""),
                                     ("crc", 0, "corrupt", ""), ("method", 8, "corrupt", ""), ("method", 12, "", ""), ("flags", 0x800, "corrupt", "")):
        two("central-%s-%x" % (field, value), changed(central={field: value}), text, code=code or "corrupt")
    for bit, code in ((0x01, "unsupported"), (0x20, "unsupported"), (0x40, "unsupported"), (0x2000, "unsupported")):
        two("flag-%x" % bit, changed(both={"flags": bit}), row="8.8", code=code)
        two("flag-central-%x" % bit, changed(central={"flags": bit}), row="8.8", code=code)
        two("flag-local-%x" % bit, changed(local={"flags": bit}), row="8.8")
    case("zip-method-99", "8.8", build_zip(changed(both={"method": 99})), "corrupt", "")
    for method in (1, 6, 9, 12, 14, 93, 95, 98):
        case("zip-method-%d" % method, "8.8", build_zip(changed(both={"method": method})), "unsupported", "neither stored nor deflated")
    two("stored-sizes", changed(both={"size": 20}), "two sizes differ", row="8.9")
    two("stored-sizes-time", changed(both={"size": 20, "time": 1}), "two sizes differ", row="8.9")
    two("size-without-bytes", changed(both={"packed": 0}), "", row="8.9")
    zeros = b"\0" * 1000000
    bomb = pickle(state(w=v2(storage(numel=10**10), size=(10**10,), stride=(1,))))
    case("zip-bomb-lies", "8.10", build_zip(entries(bomb, {}) + [Entry(b"m/data/0", zeros, deflated=True, both={"size": 4 * 10**9})]),
         "corrupt", "its storage needs 40000000000")
    lie = pickle(state(w=v2(storage(numel=10**9), size=(10**9,), stride=(1,))))
    case("zip-bomb-ratio", "8.10", build_zip(entries(lie, {}) + [Entry(b"m/data/0", zeros, deflated=True, both={"size": 4 * 10**9})]),
         "limit", "cannot inflate to the 4000000000", stage="verify")
    case("zip-bomb-pickle", "8.10", build_zip([Entry(b"m/data.pkl", zeros, deflated=True, both={"size": 4 * 10**9}), Entry(b"m/version", b"3")]),
         "limit", "cannot inflate")
    for name, size in (("longer", 17), ("shorter", 15)):
        pkl = pickle(state(w=v2(storage("ByteStorage", numel=size), size=(size,), stride=(1,))))
        case("zip-deflate-" + name, "8.10", build_zip(entries(pkl, {}) + [Entry(b"m/data/0", FLOATS, deflated=True, both={"size": size})]),
             "corrupt", "inflates to", stage="verify")
    e = Entry(b"m/data/0", FLOATS, deflated=True)
    e.packed = b"\xff" * len(e.packed)
    case("zip-deflate-garbage", "8.10", build_zip(entries(data={}) + [e]), "corrupt", "record 'm/data/0'", stage="verify")
    two("directory-bit", changed(attrs=0x10), "it is a directory", row="8.11")
    two("directory-name", good(data={"0/": FLOATS}), "it is a directory", row="8.11")
    two("offset-shared", good() + [Entry(b"m/other", FLOATS, offset=0)], "", row="8.12")
    two("offset-into-data", changed(offset=40), "", row="8.12")
    two("offset-end", changed(offset=10**6), "", row="8.12")
    two("offset-4g", changed(offset=2**32 - 2), "", row="8.12")
    inner = build_zip([Entry(b"m/version", b"3\n")])
    two("gap-between", changed(before=b"PK\3\4 hidden"), row="8.12")
    two("gap-with-record", changed(before=inner[:41]), row="8.12")
    two("gap-before-directory", good(), TWO_WAYS, row="8.12", gap=b"hidden bytes")
    q = Entry(b"m/inner", b"x" * 10)
    payload = build_zip([q])[:30 + 7 + 10]
    two("quoted-overlap", quoted(payload, q), "share the byte", row="8.12")
    two("extra-long", changed(local={"extra_n": 65535}), "", row="8.13")
    two("extra-cut", changed(lextra=b"\1\0\x20\0abcd"), "", row="8.13")
    two("extra-odd", changed(cextra=b"\x99"), "", row="8.13")
    two("extra-odd-local", changed(lextra=b"\x99"), "", row="8.13")
    two("zip64-cut", changed(both={"size": 2**32 - 1}, cextra=b"\1\0\4\0\20\0\0\0"), "", row="8.13")
    two("zip64-missing", changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}), "", row="8.13")
    both64 = b"\1\0\x10\0" + p64(16) + p64(16)
    two("zip64-twice", changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}, cextra=both64 * 2, lextra=both64), "", row="8.13")
    two("zip64-long", changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}, cextra=b"\1\0\x18\0" + p64(16) + p64(16) + p64(16), lextra=both64), "",
        row="8.13")
    two("zip64-huge", changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}, cextra=b"\1\0\x10\0" + p64(2**63) + p64(2**63), lextra=both64), "",
        row="8.13")
    two("zip64-wraps", changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}, cextra=b"\1\0\x10\0" + p64(2**64 - 1) * 2, lextra=both64), "", row="8.13")
    ok("zip64-sizes", "8.13", build_zip(changed(both={"size": 2**32 - 1, "packed": 2**32 - 1}, cextra=both64, lextra=both64)))
    two("entry-comment", changed(comment=b"hello"), row="8.13")
    two("entry-disk", changed(disk=1), "", row="8.13")
    descr = {"flags": 8}
    zero = {"crc": 0, "packed": 0, "size": 0, **descr}
    for signed in (True, False):
        for wide in (True, False):
            ok("zip-descriptor-%s-%s" % ("signed" if signed else "bare", "wide" if wide else "narrow"), "2.2",
               build_zip(changed(both=descr, local=zero, after=descriptor(FLOATS, signed, wide))))
    for name, after in (("missing", b""), ("crc", descriptor(FLOATS, crc=1)), ("size", descriptor(FLOATS, size=15)),
                        ("long", descriptor(FLOATS) + b"\0\0\0\0"), ("unsigned", b"PK\3\4" + descriptor(FLOATS)[4:])):
        two("descriptor-" + name, changed(both=descr, local=zero, after=after), "", row="2.2")
    two("descriptor-unannounced", changed(after=descriptor(FLOATS)), TWO_WAYS, row="2.2")
    case("zip-crc", "8.14", build_zip(changed(both={"crc": 1})), "corrupt", "CRC-32", stage="verify")
    case("zip-crc-pickle", "8.14", build_zip(changed(0, both={"crc": 1})), "corrupt", "CRC-32")
    ok("zip-crc-absent", "8.14", build_zip(changed(both={"crc": 0})))


def quoted(payload, q):
    """A record whose bytes are another record with an entry of its own."""
    outer = Entry(b"m/data/1", payload)
    e = entries() + [outer]
    build_zip(e)
    q.offset = outer.bytes_at
    return _Laid(e, q)


class _Laid(list):
    """Entries of which the last has no bytes of its own."""

    def __init__(self, e, inner):
        super().__init__(e)
        self.inner = inner


_build_zip = build_zip


def build_zip(e, **kw):  # noqa: F811 - the same, for _Laid too
    if isinstance(e, _Laid): return _build_zip(list(e), order=list(e) + [e.inner], **kw)
    return _build_zip(e, **kw)


def zip_records():
    case("version-missing", "8.15", pth(version=None), "format", "version' is missing")
    for name, text, code, part in (("0", b"0\n", "corrupt", "no version number"), ("11", b"11\n", "unsupported", "file format version 11"),
                                   ("minus", b"-1\n", "corrupt", ""), ("empty", b"", "corrupt", ""), ("huge", b"18446744073709551616", "unsupported", ""),
                                   ("word", b"abc", "corrupt", ""), ("long", b"3" + b" " * 100, "corrupt", "longer than it can be")):
        case("version-" + name, "8.15", pth(version=text), code, part)
    ok("version-junk", "8.15", pth(version=b"3junk"))
    ok("version-two", "8.15", pth(more=[Entry(b"m/.data/version", b"6")]))
    case("version-two-bad", "8.15", pth(more=[Entry(b"m/.data/version", b"99")]), "unsupported", "version 99")
    ok("byteorder-missing", "8.16", pth(byteorder=None))
    ok("byteorder-big", "8.16", pth(byteorder=b"big"))
    for name in (b"LITTLE", b"little\n", b"", b"middle"): case("byteorder-%s" % name.strip().decode(), "8.16", pth(byteorder=name), "corrupt", "byteorder")
    for name in (b"x", b"0", b"1099511627776"):
        ok("alignment-" + name.decode(), "8.16", pth(more=[Entry(b"m/.storage_alignment", name), Entry(b"m/.format_version", b"1")]))
    for name, data in (("longer", FLOATS + b"\0"), ("shorter", FLOATS[:-1]), ("empty", b"")):
        case("record-" + name, "8.17", pth(data={"0": data}), "corrupt", "its storage needs 16")
    case("record-missing", "8.17", pth(data={}), "corrupt", "is missing")
    case("record-none-of-0", "8.17", pth(pickle(state(w=v2(storage(numel=0), size=(0,), stride=(1,)))), {}), "corrupt", "is missing")
    ok("constants-added", "8.18", pth(more=[Entry(b"m/constants.pkl", b"\x80\2).")]))
    case("constants-garbage", "8.18", pth(more=[Entry(b"m/constants.pkl", b"\xff")]), "corrupt", "constants.pkl+0x0")
    case("package", "8.18", pth(more=[Entry(b"m/.data/extern_modules", b"")]), "unsupported", "torch.package")
    case("model-json", "8.18", pth(more=[Entry(b"m/model.json", b"{}")]), "unsupported", "TorchScript archive of PyTorch 1.0")
    case("data-pkl-missing", "8.17", build_zip([Entry(b"m/version", b"3")]), "format", "data.pkl' is missing")


# ---- pickle: rows 19 to 28 ----

def bad_pickle(name, row, body, code="corrupt", text="data.pkl+0x", **kw): case("pickle-" + name, row, pth(body), code, text, **kw)


def pickle_ends():
    whole = {"int": b"J\1\0\0\0", "binunicode": s("abcdef"), "short-unicode": b"\x8c\3abc", "unicode8": b"\x8d" + p64(3) + b"abc",
             "bytes": b"C\3abc", "bytes4": b"B" + p32(3) + b"abc", "bytes8": b"\x8e" + p64(3) + b"abc", "float": b"G" + b"\0" * 8,
             "global": glob("m", "n"), "int-line": b"I1\n", "long-line": b"L1L\n", "long1": b"\x8a\2\1\1", "long4": b"\x8b" + p32(2) + b"ab",
             "frame": b"\x95" + p64(1), "put": b"Nq\1", "long-put": b"Nr" + p32(1), "string": b"S'a'\n", "binstring": b"T" + p32(1) + b"a",
             "short-string": b"U\1a", "persid": b"Pa\n", "ext": b"\x84" + p32(1), "bytearray": b"\x96" + p64(3) + b"abc", "proto": b"\x80\2",
             "text-get": b"g1\n", "float-line": b"F1.5\n", "unicode-line": b"Vabc\n", "inst": b"(im\nn\n"}
    for name, code in whole.items(): bad_pickle("cut-" + name, "8.19", b"\x80\2" + code[:-1], "unsupported" if name == "ext" else "corrupt")
    bad_pickle("empty", "8.19", b"", text="ends without STOP")
    bad_pickle("no-stop", "8.19", b"\x80\2N", text="ends without STOP")
    bad_pickle("stop-alone", "8.19", b".", text="the stack is empty")
    ok("pickle-no-proto", "8.19", pth(b"N."))
    ok("pickle-proto-0", "8.19", pth(b"\x80\0N."))
    for n in (6, 255): bad_pickle("proto-%d" % n, "8.19", pickle(b"N", n), "unsupported", "protocol later than 5")
    for n in (0, 0x0a, 0x3f, 0x7f, 0x99, 0xff): bad_pickle("opcode-%02x" % n, "8.19", b"\x80\2" + bytes([n]) + b".", text="is no pickle opcode")
    ok("pickle-behind-stop", "8.19", pth(pickle(b"N") + pickle(call("os", "system", s("true")))))
    for name, op in (("unicode", b"X"), ("bytes", b"B"), ("long4", b"\x8b"), ("string", b"T")):
        for n in (2**31 - 1, 2**31, 2**32 - 1): bad_pickle("%s-%x" % (name, n), "8.20", pickle(op + p32(n)))
    for name, op in (("unicode8", b"\x8d"), ("bytes8", b"\x8e"), ("bytearray8", b"\x96"), ("frame", b"\x95")):
        for n in (2**33, 2**63 - 1, 2**63, 2**64 - 1): bad_pickle("%s-%x" % (name, n), "8.20", pickle(op + p64(n), 5))
    bad_pickle("frame-crossed", "8.20", pickle(b"\x95" + p64(1) + s("abc"), 4), text="ends behind it")
    bad_pickle("frame-in-frame", "8.20", pickle(b"\x95" + p64(11) + b"N\x95" + p64(1) + b"0", 4), text="a frame inside a frame")
    ok("pickle-frame-of-0", "8.20", pth(pickle(b"\x95" + p64(0) + s("abc"), 4)))
    bad_pickle("frame-past-end", "8.20", pickle(b"\x95" + p64(100) + b"N", 4))
    ok("pickle-long1-0", "8.20", pth(pickle(b"\x8a\0")))
    ok("pickle-long1-255", "8.20", pth(pickle(b"\x8a\xff" + b"\7" * 255)))
    for name, line in (("int", b"I%s\n"), ("long", b"L%sL\n")):
        bad_pickle(name + "-million-digits", "2.2", pickle(line % (b"9" * 1000000)), "limit", "an integer of 1000000 digits")
    bad_pickle("int-word", "2.2", pickle(b"Iabc\n"))
    bad_pickle("int-hex", "2.2", pickle(b"I0x10\n"))
    bad_pickle("float-word", "2.2", pickle(b"Fabc\n"))
    bad_pickle("float-long", "2.2", pickle(b"F" + b"1" * 100000 + b"\n"))
    bad_pickle("string-no-quotes", "2.2", pickle(b"Sabc\n"))
    bad_pickle("string-negative", "2.2", pickle(b"T\xff\xff\xff\xff"), text="negative length")


def pickle_stack():
    for name, op in (("append", b"a"), ("appends", b"e"), ("build", b"b"), ("dup", b"2"), ("pop", b"0"), ("pop-mark", b"1"), ("list", b"l"),
                     ("tuple", b"t"), ("dict", b"d"), ("setitem", b"s"), ("setitems", b"u"), ("reduce", b"R"), ("tuple1", b"\x85"), ("tuple2", b"\x86"),
                     ("tuple3", b"\x87"), ("newobj", b"\x81"), ("newobj-ex", b"\x92"), ("obj", b"o"), ("inst", b"im\nn\n"), ("put", b"q\1"), ("memoize", b"\x94"),
                     ("persid", b"Q"), ("additems", b"\x90"), ("frozenset", b"\x91"), ("stack-global", b"\x93")):
        bad_pickle("underflow-" + name, "8.21", pickle(op, 4))
    bad_pickle("mark-below-target", "8.21", pickle(b"]((Na"))
    bad_pickle("append-under-mark", "8.21", pickle(b"](a"))
    bad_pickle("pop-mark-of-target", "8.21", pickle(b"(]1a"))
    ok("pickle-pop-of-mark", "8.21", pth(pickle(b"(0N")))
    for name, target in (("list", b"]"), ("tuple", b")"), ("int", b"K\1"), ("str", s("a")), ("none", b"N"), ("tensor", v2())):
        bad_pickle("setitem-on-" + name, "8.21", pickle(target + s("k") + b"Ns"), text="keys set in what is no dict")
        bad_pickle("setitems-on-" + name, "8.21", pickle(target + b"(" + s("k") + b"Nu"), text="keys set in what is no dict")
    for name, target in (("tuple", b")"), ("str", s("a")), ("dict", b"}"), ("none", b"N"), ("tensor", v2())):
        bad_pickle("append-on-" + name, "8.21", pickle(target + b"Na"), text="items appended to what is no list")
    for name, target in (("dict", b"}"), ("int", b"K\1"), ("str", s("a")), ("list", b"]")):
        bad_pickle("build-on-" + name, "8.21", pickle(target + b"}b"), text="BUILD on what has no state")
    bad_pickle("setitems-odd", "8.21", pickle(b"}(" + s("k") + b"u"), text="a key without its value")
    bad_pickle("dict-odd", "8.21", pickle(b"(" + s("k") + b"d"), text="a key without its value")
    bad_pickle("build-twice", "8.21", pickle(glob("m", "C") + b")\x81}(K\1K\2ub}(K\1K\3ub"), "unsupported", "BUILD twice")
    bad_pickle("get-unset", "8.22", pickle(b"h\7"), text="memo entry 7 was never stored")
    bad_pickle("get-text-word", "8.22", pickle(b"gabc\n"), text="no number")
    bad_pickle("get-text-minus", "8.22", pickle(b"g-1\n"), text="no number")
    for n in (10**6, 2**31, 2**32 - 1): bad_pickle("put-%x" % n, "8.22", pickle(b"Nr" + p32(n)), "limit", "memo index %d in a pickle" % n)
    bad_pickle("put-text-10^17", "8.22", pickle(b"Np%d\n" % 10**17), "limit", "memo index")
    bad_pickle("put-text-10^40", "8.22", pickle(b"Np%d\n" % 10**40))
    ok("pickle-put-twice", "8.22", pth(pickle(b"Nq\1]q\1h\1a")))
    ok("pickle-memoize-flood", "8.22", pth(pickle(b"N" + b"\x94" * 20000, 4)))


def pickle_depth():
    deep = 10**6

    def limit(name, body): bad_pickle("deep-" + name, "8.23", pickle(body), "limit", "levels deep in one another")

    limit("lists", b"]" * deep + b"a" * (deep - 1))
    limit("tuples", b")" + b"\x85" * deep)
    limit("tuples-of-3", b"NNN" + b"\x87NN" * (deep // 3) + b"\x87")
    limit("marks", b"(" * deep + b"t" * deep)
    limit("dicts", b"}K\1" * (deep // 3) + b"N" + b"s" * (deep // 3))
    limit("objects", b"N" + (b"\x85q\1" + glob("m", "f") + b"h\1R") * 20000)
    limit("states", (glob("m", "C") + b")\x81") * 20000 + b"N" + b"b" * 20000)
    limit("persid", b"N" + b"\x85Q" * deep)
    limit("key", b"}N" + b"\x85" * deep + b"Ns")
    bad_pickle("deep-outside-in", "8.23", pickle(b"]q\0q\1" + b"h\1]q\1a0" * 20000 + b"h\0"), "limit", "levels deep in one another")
    ok("pickle-cycle-list", "8.23", pth(pickle(b"]q\0h\0a")))
    ok("pickle-cycle-dict", "8.23", pth(pickle(b"}q\0K\1h\0s")))
    ok("pickle-cycle-tuple", "8.23", pth(pickle(b"]q\0h\0\x85a")))
    ok("pickle-cycle-object", "8.23", pth(pickle(glob("m", "C") + b")\x81q\0}(" + s("me") + b"h\0ub")))
    ok("pickle-cycle-set-list", "8.23", pth(pickle(b"\x8fq\0(]h\0a\x90", 4)))
    case("pickle-cycle-set-tuple", "8.23", pth(pickle(b"\x8fq\0(h\0\x85\x90", 4)), "unsupported", "a set whose items hold it", stage="convert")
    case("pickle-cycle-set-pairs", "8.23", pth(pickle(b"\x8fq\0(h\0h\0\x86" + b"2" * 20 + b"\x90", 4)), "unsupported", "a set whose items hold it", stage="convert")
    ok("pickle-cycle-of-two", "8.23", pth(pickle(b"]q\0]q\1h\0ah\0h\1a0")))
    ok("pickle-laughs-get", "8.23", pth(pickle(b"]q\0" + b"".join(b"](" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1])
                                                                  for n in range(60)))))
    ok("pickle-laughs-dup", "2.2", pth(pickle(s("ha") + b"2\x86" * 60)))
    ok("pickle-laughs-tuple3", "2.2", pth(pickle(s("ha") + b"22\x87" * 40)))
    keys = b"N" + b"2\x86" * 30
    for name, body in (("key", b"}" + keys + b"Ns"), ("two-keys", b"}" + keys + b"Ns" + keys + b"Ns")):
        case("pickle-laughs-" + name, "2.2", pth(pickle(body)), "limit", "a path longer than 65536 bytes", stage="walk")


def pickle_values():
    ok("pickle-key-twice", "8.24", pth(pickle(b"}(K\1K\2K\1K\3u")))
    ok("pickle-key-none", "8.24", pth(pickle(b"}NNs")))
    ok("pickle-key-list", "8.24", pth(pickle(b"}]Ns")))
    ok("pickle-key-tensor", "8.24", pth(pickle(b"}" + v2() + b"Ns")))
    ok("pickle-key-nul", "8.24", pth(pickle(b"}" + s("a\0b") + b"Ns")))
    case("pickle-key-1mb", "8.24", pth(pickle(b"}" + s("k" * 1000000) + b"Ns")), "limit", "a path longer than", stage="walk")
    bad_pickle("bad-utf8", "8.24", pickle(s(b"\xff\xfe")), text="not UTF-8")
    ok("pickle-surrogate", "8.24", pth(pickle(s(b"\xed\xa0\x80"))))  # Python's pickles have them (surrogatepass)
    bad_pickle("overlong", "8.24", pickle(s(b"\xc0\x80")), text="not UTF-8")
    bad_pickle("global-cut", "8.25", pickle(b"cos\nsystem"), text="")
    bad_pickle("global-bad-utf8", "8.25", pickle(b"c\xff\nx\n"), text="not UTF-8")
    ok("pickle-global-1mb", "8.25", pth(pickle(b"c" + b"m" * 1000000 + b"\nx\n")))
    ok("pickle-global-nul", "8.25", pth(pickle(glob("\0", "x" * 200) + b")R" + glob("builtins\0" + "y" * 300, "set") + b")R\x86")))
    ok("pickle-global-spaces", "8.25", pth(pickle(b"ca b.c\n d e \n")))
    ok("pickle-global-empty", "8.25", pth(pickle(b"c\n\n")))
    ok("pickle-os-system", "8.25", pth(pickle(call("os", "system", s("touch /tmp/hostile-was-run")))))
    ok("pickle-eval", "8.25", pth(pickle(call("builtins", "eval", s("1/0")))))
    ok("pickle-pip-main", "8.25", pth(pickle(call("pip", "main", t(s("install"), s("x"))))))
    ok("pickle-getattr-chain", "8.25", pth(pickle(call("builtins", "getattr", glob("os", "path"), s("__builtins__")))))
    ok("pickle-jit-annotations", "8.25", pth(pickle(call("torch.jit.annotations", "parse_type_line", s("f()")))))
    ok("pickle-inst", "8.25", pth(pickle(b"(" + s("id") + b"ios\nsystem\n")))
    ok("pickle-obj", "8.25", pth(pickle(b"(" + glob("os", "system") + s("id") + b"o")))
    ok("pickle-obj-popped", "2.2", pth(pickle(b"(" + glob("os", "system") + s("id") + b"o0N")))
    ok("pickle-newobj-ex", "8.25", pth(pickle(glob("os", "system") + b")}\x92", 4)))
    for name, body in (("text", b"Pos.system\n"), ("int", i(5) + b"Q"), ("empty", b")Q"), ("other-tag", storage(tag="module"))):
        case("pickle-persid-" + name, "8.27", pth(pickle(body)), "unsupported", "a persistent id of something", stage="convert")
    for n, arg in (("1", b"\x82\1"), ("2", b"\x83\1\0"), ("4", b"\x84\1\0\0\0")): bad_pickle("ext" + n, "8.25", pickle(arg), "unsupported", "an extension code")
    bad_pickle("next-buffer", "8.25", pickle(b"\x97", 5), "unsupported", "out-of-band")
    bad_pickle("readonly-buffer", "8.25", pickle(b"N\x98", 5), "unsupported", "out-of-band")
    for name, a, b in (("int", i(1), s("x")), ("bytes", b"C\1m", b"C\1n"), ("list", b"]", b"]"), ("none", b"N", b"N")):
        bad_pickle("stack-global-" + name, "8.25", pickle(a + b + b"\x93", 4), text="STACK_GLOBAL without two strings")
    bad_pickle("stack-global-string", "2.2", pickle(b"U\2os" + b"K\1\x93", 4), text="STACK_GLOBAL without two strings")
    bad_pickle("stack-global-memo", "2.2", pickle(b"h\5" + s("x") + b"\x93", 4), text="memo entry 5")
    for name, f in (("int", i(1)), ("str", s("f")), ("list", b"]"), ("tensor", v2()), ("dict", b"}")):
        bad_pickle("reduce-of-" + name, "8.25", pickle(f + b")R"), text="no class or function")
    for name, a in (("int", i(1)), ("list", b"]"), ("none", b"N"), ("str", s("a"))):
        bad_pickle("reduce-args-" + name, "8.25", pickle(glob("m", "f") + a + b"R"), text="arguments that are no tuple")


def pickle_calls():
    functions = (("_rebuild_tensor_v2", {6, 7}), ("_rebuild_tensor_v3", {7, 8}), ("_rebuild_tensor", {4}), ("_rebuild_parameter", {3}), ("_rebuild_qtensor", {7}),
                 ("_rebuild_meta_tensor_no_storage", {4}), ("_rebuild_device_tensor_from_numpy", {4}), ("_rebuild_parameter_with_state", {4}),
                 ("_rebuild_device_tensor_from_cpu_tensor", {4}))
    for name, _ in functions:
        for n in (0, 1, 3, 4, 6, 7, 12): bad_pickle("%s-%d-ints" % (name.strip("_"), n), "8.26", pickle(call("torch._utils", name, *[i(k) for k in range(n)])))
    full = [storage(), i(0), ints(2, 2), ints(2, 1), b"\x89", HOOKS]
    for at in range(5):
        for name, wrong in (("none", b"N"), ("str", s("x")), ("dict", b"}"), ("float", b"G" + b"\x7f\xf0" + b"\0" * 6)):
            bad_pickle("v2-arg%d-%s" % (at, name), "8.26", pickle(call("torch._utils", "_rebuild_tensor_v2", *[wrong if k == at else a for k, a in enumerate(full)])))
    for codec in ("rot13", "utf-8", "zlib", "hex"): bad_pickle("encode-" + codec, "8.26", pickle(call("_codecs", "encode", s("abc"), s(codec))), text="_codecs.encode")
    bad_pickle("encode-wide", "8.26", pickle(call("_codecs", "encode", s("€"), s("latin1"))), text="not Latin-1")
    ok("pickle-bytearray-10^12", "8.26", pth(pickle(call("builtins", "bytearray", i(10**12)))))
    ok("pickle-float-tensor-10^12", "8.26", pth(pickle(call("torch", "FloatTensor", i(10**12)))))
    ok("pickle-untyped-storage-10^12", "8.26", pth(pickle(call("torch", "UntypedStorage", i(10**12)))))
    bad_pickle("ordered-dict-no-pairs", "8.26", pickle(call("collections", "OrderedDict", b"](K\1K\2e")), text="no pairs")
    bad_pickle("persid-4", "8.27", pickle(t(s("storage"), glob("torch", "FloatStorage"), s("0"), s("cpu")) + b"Q"), text="fewer than five parts")
    ok("persid-6", "8.27", pth(pickle(state(w=v2(storage(more=b"N"))))))
    bad_pickle("persid-key-list", "8.27", pickle(t(s("storage"), glob("torch", "FloatStorage"), b"]", s("cpu"), i(4)) + b"Q"), text="no short string")
    bad_pickle("persid-key-long", "8.27", pickle(storage(key="k" * 1000)), text="no short string")
    bad_pickle("persid-key-absent", "8.27", pickle(storage(key="77")), text="is missing")
    bad_pickle("persid-key-path", "8.27", pickle(storage(key="../../x")), text="is missing")
    for name, n in (("minus", -1), ("2^60", 2**60), ("2^62", 2**62), ("2^63", 2**63 - 1)):
        bad_pickle("numel-" + name, "8.27", pickle(storage(numel=n)), text="")
    bad_pickle("numel-none", "8.27", pickle(storage(numel=b"N")), text="no count")
    bad_pickle("class-unknown", "8.27", pickle(storage("EvilStorage")), text="no storage class")
    bad_pickle("class-string", "8.27", pickle(storage(s("FloatStorage"))), text="without a class")
    ok("location-garbage", "8.27", pth(pickle(state(w=v2(storage(location="tpu:\n999"))))))
    bad_pickle("key-two-sizes", "8.28", pickle(b"]" + v2() + b"a" + v2(storage(numel=2), size=(1,), stride=(1,)) + b"a"), text="said to hold 8 bytes")
    bad_pickle("key-two-dtypes", "8.28", pickle(b"]" + v2() + b"a" + v2(storage("DoubleStorage", numel=4), size=(1,), stride=(1,)) + b"a"), text="said to hold 32")
    ok("key-two-dtypes-one-size", "8.28", pth(pickle(b"]" + v2() + b"a" + v2(storage("IntStorage"), size=(4,), stride=(1,)) + b"a")))


# ---- tensors: rows 29 to 33 ----

def tensors():
    def bad(name, body, code="corrupt", text="data.pkl+0x", row="8.29", **kw): case("tensor-" + name, row, pth(pickle(state(w=body))), code, text, **kw)

    big = 2**62
    for name, kw in (("offset-minus", {"offset": -1}), ("offset-1", {"offset": 1}), ("offset-2^62", {"offset": big}), ("size-minus", {"size": (-2, 2)}),
                     ("size-product-wraps", {"size": (2**32, 2**32)}), ("size-2^63", {"size": (2**63 - 1, 2), "stride": (1, 1)}),
                     ("stride-minus", {"stride": (-2, 1)}), ("stride-3", {"stride": (3, 1)}), ("stride-wraps", {"stride": (big, big)}),
                     ("sum-wraps", {"offset": big, "stride": (big, 1)}), ("ndim-differs", {"stride": (1,)}), ("ndim-65", {"size": (1,) * 65, "stride": (1,) * 65}),
                     ("ndim-10^5", {"size": (1,) * 100000, "stride": (1,) * 100000})):
        code = "limit" if name.startswith("ndim-6") or name.startswith("ndim-1") else "corrupt"
        bad(name, v2(**kw), code, "")
    ok("tensor-zero-before-huge", "8.29", pth(pickle(state(w=v2(size=(0, 2**62, 2**62), stride=(1, 1, 1))))))
    ok("tensor-zero-behind-huge", "8.29", pth(pickle(state(w=v2(size=(2**62, 2**62, 0), stride=(1, 1, 1))))))
    ok("tensor-empty-far", "8.29", pth(pickle(state(w=v2(offset=3, size=(0,), stride=(1,))))))
    ok("tensor-empty-very-far", "8.29", pth(pickle(state(w=v2(offset=10**9, size=(0,), stride=(1,))))))
    for bits in (40, 60):
        case("tensor-stride-0-2^%d" % bits, "8.29", pth(pickle(state(w=v2(size=(1 << bits,), stride=(0,))))), "limit", "", stage="digest")
    q = lambda scale, zero: t(glob("torch", "per_tensor_affine"), scale, zero)  # noqa: E731
    qs = storage("QInt8Storage", numel=4)

    def qt(quantizer, st=qs, size=(2, 2), stride=(2, 1)):
        return call("torch._utils", "_rebuild_qtensor", st, i(0), ints(*size), ints(*stride), quantizer, b"\x89", HOOKS)

    def qcase(name, body, code, text, stage="open"): case("quantized-" + name, "8.30", pth(pickle(state(w=body)), {"0": b"\1\2\3\4"}), code, text, stage=stage)

    one = b"G" + struct.pack(">d", 1.0)
    ok("quantized-good", "8.30", pth(pickle(state(w=qt(q(one, i(0))))), {"0": b"\1\2\3\4"}))
    qcase("stride", qt(q(one, i(0)), stride=(4, 1)), "corrupt", "")
    qcase("scale-nan", qt(q(b"G" + struct.pack(">d", float("nan")), i(0))), "corrupt", "scale", "verify")
    qcase("scale-0", qt(q(b"G" + struct.pack(">d", 0.0), i(0))), "corrupt", "scale", "verify")
    qcase("scale-str", qt(q(s("x"), i(0))), "corrupt", "")
    qcase("zero-str", qt(q(one, s("x"))), "corrupt", "")
    qcase("scheme-int", qt(t(i(1), one, i(0))), "corrupt", "")
    qcase("scheme-unknown", qt(t(glob("torch", "per_moon"), one, i(0))), "corrupt", "unknown scheme")
    packed = qt(q(one, i(0)), storage("QUInt4x2Storage", numel=1), size=(9,), stride=(1,))
    case("quantized-packed-small", "8.30", pth(pickle(state(w=packed)), {"0": b"\1"}), "corrupt", "")

    def channel(scales, zeros, axis): return t(glob("torch", "per_channel_affine"), scales, zeros, i(axis))

    def vector(key, cls, numel, n): return v2(storage(cls, key=key, numel=numel), size=(n,), stride=(1,))

    def channels(axis=0, n=2, m=2):
        body = qt(channel(vector("1", "DoubleStorage", n, n), vector("2", "LongStorage", m, m), axis))
        return pth(pickle(state(w=body)), {"0": b"\1\2\3\4", "1": struct.pack("<%dd" % n, *[1.0] * n), "2": b"\0" * 8 * m})

    ok("quantized-channels", "8.30", channels())
    case("quantized-axis-2", "8.30", channels(axis=2), "corrupt", "")
    case("quantized-axis-minus", "8.30", channels(axis=-1), "corrupt", "")
    case("quantized-scales-short", "8.30", channels(n=1), "corrupt", "")
    case("quantized-zeros-long", "8.30", channels(m=3), "corrupt", "")

    def sparse(indices, nnz=2, ndim=1, dense=(4,), values=2):
        layout = call("torch.serialization", "_get_layout", s("torch.sparse_coo"))
        args = t(v2(storage("LongStorage", key="1", numel=len(indices)), size=(ndim, nnz), stride=(nnz, 1)),
                 v2(storage(key="0"), size=(values,), stride=(1,)), call("torch", "Size", ints(*dense)))
        return pth(pickle(state(w=call("torch._utils", "_rebuild_sparse_tensor", layout, args))),
                   {"0": FLOATS, "1": struct.pack("<%dq" % len(indices), *indices)})

    ok("sparse-good", "8.31", sparse((0, 3)))
    for name, data, stage in (("index-4", sparse((0, 4)), "verify"), ("index-minus", sparse((-1, 0)), "verify"), ("index-2^62", sparse((2**62, 0)), "verify"),
                              ("nnz", sparse((0, 1, 2), nnz=3), "verify"), ("values", sparse((0, 1), values=3), "verify"),
                              ("size-product", sparse((0, 1), dense=(2**40, 2**40)), "verify"), ("ndim", sparse((0, 1), dense=()), "verify")):
        case("sparse-" + name, "8.31", data, "corrupt", "", stage=stage)

    def csr(rows, columns, size=(2, 4)):
        layout = call("torch.serialization", "_get_layout", s("torch.sparse_csr"))
        n, m = len(rows), len(columns)
        args = t(v2(storage("LongStorage", key="1", numel=n), size=(n,), stride=(1,)), v2(storage("LongStorage", key="2", numel=m), size=(m,), stride=(1,)),
                 v2(storage(key="0"), size=(2,), stride=(1,)), call("torch", "Size", ints(*size)))
        return pth(pickle(state(w=call("torch._utils", "_rebuild_sparse_tensor", layout, args))),
                   {"0": FLOATS, "1": struct.pack("<%dq" % n, *rows), "2": struct.pack("<%dq" % m, *columns)})

    ok("sparse-csr-good", "8.31", csr((0, 1, 2), (0, 3)))
    for name, data in (("falls", csr((0, 2, 1), (0, 3))), ("begins-1", csr((1, 1, 2), (0, 3))), ("ends-3", csr((0, 1, 3), (0, 3))), ("column", csr((0, 1, 2), (0, 4))),
                       ("rows", csr((0, 2), (0, 3)))):
        case("sparse-csr-" + name, "8.31", data, "corrupt", "", stage="verify")

    def v3(dtype=glob("torch", "uint16"), numel=16, offset=0, size=(4,), st=None):
        return call("torch._utils", "_rebuild_tensor_v3", st or storage(glob("torch.storage", "UntypedStorage"), numel=numel), i(offset), ints(*size), ints(1), b"\x89", HOOKS, dtype)

    ok("tensor-v3-good", "8.32", pth(pickle(state(w=v3()))))
    bad("v3-dtype-none", v3(b"N"), row="8.32", text="no torch dtype")
    bad("v3-dtype-unknown", v3(glob("torch", "uint17")), "unsupported", "'uint17' is no dtype", row="8.32")
    bad("v3-dtype-evil", v3(glob("os", "system")), row="8.32", text="no torch dtype")
    bad("v3-offset", v3(offset=5), row="8.32", text="")
    case("tensor-v3-odd-bytes", "8.32", pth(pickle(state(w=v3(numel=7, size=(4,)))), {"0": b"1234567"}), "corrupt", "")
    ok("tensor-bool-bytes", "8.33", pth(pickle(state(w=v2(storage("BoolStorage"), size=(4,), stride=(1,)))), {"0": b"\0\1\2\xff"}))
    meta = call("torch._utils", "_rebuild_meta_tensor_no_storage", glob("torch", "float32"), ints(2**40), ints(1), b"\x89")
    ok("tensor-meta-huge", "8.33", pth(pickle(state(w=meta))))
    ok("tensor-attributes-cycle", "8.33", pth(pickle(b"]q\0" + v2() + b"ah\0a")))


# ---- numpy ----

def numpy():
    dtype = call("numpy", "dtype", s("f8"), b"\x89", b"\x88") + t(i(3), s("<"), b"N", b"N", b"N", i(-1), i(-1), i(0)) + b"b"

    def array(shape, raw, d=dtype, order=b"\x89"):
        base = call("numpy.core.multiarray", "_reconstruct", glob("numpy", "ndarray"), ints(0), b"C\1b")
        return pth(pickle(state(a=base + t(i(1), ints(*shape), d, order, b"B" + p32(len(raw)) + raw) + b"b"), 3))

    ok("numpy-good", "2.2", array((2,), b"\0" * 16))
    for name, data in (("short", array((2,), b"\0" * 15)), ("long", array((2,), b"\0" * 17)), ("minus", array((-2,), b"\0" * 16)),
                       ("wraps", array((2**40, 2**40), b"\0" * 16)), ("dims", array((1,) * 100, b"\0" * 8)), ("dtype-int", array((2,), b"\0" * 16, i(1)))):
        case("numpy-" + name, "2.2", data, "limit" if name == "dims" else "corrupt", "a: a numpy array", stage="verify")


# ---- legacy and tar: rows 34 and 35 ----

def old():
    def bad(name, data, code="corrupt", text="file+0x"): case("legacy-" + name, "8.34", data, code, text)

    ok("legacy-good", "8.34", legacy())
    whole = legacy()
    for part in (15, 16, 20, 25, 40, len(whole) // 2, len(whole) - 17, len(whole) - 16, len(whole) - 8, len(whole) - 1): bad("cut-%d" % part, whole[:part], text="")
    bad("version", legacy(version=1002), "unsupported", "protocol version 1002")
    bad("version-none", MAGIC + pickle(b"N") + pickle(b"}"), "unsupported", "")
    bad("info-missing", MAGIC + pickle(i(1001)) + pickle(state(w=v2(legacy_storage()))) + pickle(b"](" + s("0") + b"e") + p64(4) + FLOATS)
    bad("keys-none", legacy(keys=pickle(b"N")), text="list of storage keys")
    bad("keys-missing", legacy(keys=pickle(b"]")), text="not in the list of keys")
    bad("keys-twice", legacy(keys=pickle(b"](" + s("0") + s("0") + b"e"), data=(p64(4) + FLOATS) * 2), text="twice in the list")
    bad("keys-unknown", legacy(keys=pickle(b"](" + s("9") + b"e")), text="not in the object")
    bad("keys-int", legacy(keys=pickle(b"](K\0e")), text="no string")
    for name, n in (("3", 3), ("5", 5), ("0", 0), ("minus", 2**64 - 1), ("2^63", 2**63)): bad("numel-" + name, legacy(data=p64(n) + FLOATS), text="elements here")
    bad("data-short", legacy(data=p64(4) + FLOATS[:-1]), text="cut off")
    huge = pickle(state(w=v2(legacy_storage(numel=2**40), size=(2,), stride=(1,))))
    bad("data-2^42", legacy(obj=huge, data=p64(2**40) + FLOATS), text="cut off")
    view = lambda key, off, n: t(s(key), i(off), i(n))  # noqa: E731
    good = pickle(state(w=v2(legacy_storage(view("1", 1, 2)), size=(2,), stride=(1,))))
    ok("legacy-view", "8.34", legacy(obj=good))
    for name, v in (("past", view("1", 3, 2)), ("minus", view("1", -1, 2)), ("numel-minus", view("1", 0, -1)), ("wraps", view("1", 2**62, 2**62)), ("int", i(1)),
                    ("two", t(s("1"), i(0))), ("key-int", t(i(1), i(0), i(2)))):
        bad("view-" + name, legacy(obj=pickle(state(w=v2(legacy_storage(v), size=(2,), stride=(1,))))), text="")
    bad("view-of-itself", legacy(obj=pickle(state(w=v2(legacy_storage(view("0", 1, 2)), size=(4,), stride=(1,))))), text="")
    ok("legacy-behind", "8.34", legacy() + b"anything")
    bad("deep", legacy(obj=pickle(b")" + b"\x85" * 10**6)), "limit", "levels deep in one another")
    bad("keys-deep", legacy(keys=pickle(b")" + b"\x85" * 10**6)), "limit", "levels deep in one another")
    case("preview", "8.34", b"PYTORCH1" + b"\0" * 100, "unsupported", "preview release")

    def tbad(name, data, code="corrupt", text=""): case("tar-" + name, "8.35", data, code, text)

    ok("tar-good", "8.35", tar())
    whole = tar()
    for part in (300, 512, 700, 1024, 2000, len(whole) // 2): tbad("cut-%d" % part, whole[:part], "format" if part in (1024, len(whole) // 2) else "corrupt")
    for name, size in (("past", 10**9), ("8g", b"77777777777\0"), ("garbage", b"9x!zzzzzzzz\0"), ("minus", b"\xff" * 12), ("base256", b"\x80" + b"\xff" * 11)):
        tbad("size-" + name, tar_member(b"storages", tar_storages(), size) + tar()[1024:], text="the tar archive is broken")
    for kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
        tbad("type-%s" % kind.decode(), tar_member(b"storages", tar_storages(), kind=kind, link=b"/etc/passwd") + tar(names=(b"x", b"tensors", b"pickle")), text="is no regular file")
    tbad("twice", tar(more=tar_member(b"tensors", tar_tensors())), text="is there twice")
    tbad("missing", tar(names=(b"storages", b"tensors", b"x")), "format", "has no member 'pickle'")
    ok("tar-traversal", "8.35", tar(more=tar_member(b"../../etc/passwd", b"x")))
    tbad("count-minus", tar(tar_storages(count=-1)))
    tbad("count-2^31", tar(tar_storages(count=2**31)))
    tbad("count-2^62", tar(tensors=pickle(i(2**62))))
    tbad("count-str", tar(pickle(s("x"))))
    for name, n in (("minus", -1), ("2^61", 2**61), ("5", 5), ("2^63", 2**63 - 1)): tbad("numel-" + name, tar(tar_storages(numel=n)))
    for name, n in (("minus", -1), ("65", 65), ("2^31", 2**31 - 1)): tbad("ndim-" + name, tar(tensors=tar_tensors(ndim=n)), "corrupt" if n < 0 else "limit", "dimensions")
    for name, kw in (("size", {"size": (5,)}), ("size-minus", {"size": (-1,)}), ("stride", {"stride": (2,)}), ("offset", {"offset": 1}), ("offset-minus", {"offset": -1}),
                     ("root", {"root": 9}), ("key-of-storage", {"key": 1})):
        tbad("tensor-" + name, tar(tensors=tar_tensors(**kw)))
    tbad("class", tar(tar_storages(cls="EvilStorage")), text="no storage class")
    tbad("view-past", tar(tar_storages(views=b"](" + ints(7, 1, 3, 2) + b"e")))
    tbad("view-of-none", tar(tar_storages(views=b"](" + ints(7, 8, 0, 1) + b"e")))
    tbad("persid-unknown", tar(obj=pickle(i(77) + b"Q")), text="neither a tensor nor a storage")


# ---- bare pickles ----

def bare():
    ok("bare-good", "2.2", pickle(state(a=i(1))))
    case("bare-7-bytes", "2.2", b"\x80\2Nr\xff\xff\xff\x7f.", "limit", "memo index")
    case("bare-2gb", "2.2", b"\x80\4\x8e" + p64(2**33) + b".", "corrupt", "")
    case("bare-key-depth", "2.2", pickle(b"}N" + b"\x85" * 200000 + b"Ns"), "limit", "levels deep")
    case("bare-storage", "2.2", pickle(storage()), "unsupported", "a persistent id of something", stage="convert")
    for name, data in (("text", b"hello, world\n"), ("html", b"<!DOCTYPE html><html></html>"), ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
                       ("elf", b"\x7fELF\2\1\1" + b"\0" * 100), ("gzip", b"\x1f\x8b\x08" + b"\0" * 30), ("zeros", b"\0" * 1000), ("ones", b"\xff" * 1000), ("7z", b"7z\xbc\xaf\x27\x1c"),
                       ("one-byte", b"."), ("flatbuffer", b"\x1c\0\0\0PTMF" + b"\0" * 50)):
        case("foreign-" + name, "2.2", data, "format", "not a checkpoint")
    case("inner-storage", "2.2", pickle(call("torch.storage", "_load_from_bytes", b"B" + p32(len(MAGIC) + 3) + MAGIC + b"\x80\2("), 3), "corrupt", "a storage inside the pickle")


# ---- safetensors, index, DCP: rows 36 to 38 ----

def safe():
    def bad(name, header, data=FLOATS, code="corrupt", text="safetensors", n=None, row="8.36"): case("safe-" + name, row, safetensors(header, data, n), code, text)

    w = '"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}'
    ok("safe-good", "8.36", safetensors("{%s}" % w, FLOATS))
    ok("safe-spaces", "8.36", safetensors("{%s}     " % w, FLOATS))
    ok("safe-unknown-field", "8.36", safetensors(w.join(("{", ',"x":{"dtype":"U8","shape":[0],"data_offsets":[16,16],"more":1}}')), FLOATS))
    bad("header-past-file", "{%s}" % w, n=1000, text="the safetensors header ends at byte")
    bad("header-100mb", "{%s}" % w, n=100000001, code="limit", text="a safetensors header of")
    bad("header-100mb-less", "{%s}" % w, n=100000000, text="the safetensors header ends at byte")
    for n, code in ((2**31, "limit"), (2**32, "format"), (2**63, "format"), (2**64 - 1, "format"), (0, "corrupt")): bad("header-%x" % n, "{%s}" % w, n=n, code=code, text="")
    bad("header-1", "{", n=1)
    bad("no-brace", " {%s}" % w, text="must begin with '{'")
    bad("bom", b"\xef\xbb\xbf{}", b"", "format", "")
    bad("list", "[]", b"", "format", "")
    for name, text in (("junk", "{%s}x" % w), ("nul", "{%s}\0" % w), ("cut", "{%s" % w), ("comma", "{%s,}" % w), ("comment", "{/**/%s}" % w), ("single", w.replace('"', "'").join("{}")),
                       ("bad-utf8", b'{"\xff":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'), ("surrogate", '{"\\ud800":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'),
                       ("twice", "{%s,%s}" % (w, w)), ("twice-escaped", "{%s,%s}" % (w, w.replace('"w"', '"\\u0077"'))),
                       ("metadata-twice", '{"__metadata__":{},"__metadata__":{},%s}' % w), ("metadata-int", '{"__metadata__":{"a":1},%s}' % w), ("metadata-list", '{"__metadata__":[],%s}' % w),
                       ("metadata-deep", '{"__metadata__":{"a":{}},%s}' % w)):
        bad(name, text, text="")
    bad("deep", "{" + '"a":[' * 1 + "[" * 100000 + "]" * 100000 + "]}", b"", "limit", "nests more than")
    bad("many-lists", '{"a":[' + ",".join(["[]"] * 20000) + "]}", b"", "limit", "lists and objects")
    e = '{"w":{"dtype":%s,"shape":%s,"data_offsets":%s}}'
    for name, d, shape, off, code in (("dtype-case", '"f32"', "[4]", "[0,16]", "corrupt"), ("dtype-int", "1", "[4]", "[0,16]", "corrupt"), ("dtype-unknown", '"F12"', "[4]", "[0,16]", "corrupt"),
                                      ("dtype-nul", '"F32\\u0000"', "[4]", "[0,16]", "corrupt"), ("dtype-f6", '"F6_E3M2"', "[4]", "[0,3]", "unsupported"), ("shape-minus", '"F32"', "[-4]", "[0,16]", "corrupt"),
                                      ("shape-float", '"F32"', "[4.0]", "[0,16]", "corrupt"), ("shape-str", '"F32"', '"4"', "[0,16]", "corrupt"), ("shape-2^53", '"F32"', "[9007199254740993]", "[0,16]", "corrupt"),
                                      ("shape-2^64", '"F32"', "[18446744073709551616]", "[0,16]", "corrupt"), ("shape-wraps", '"F32"', "[4294967296,4294967296]", "[0,16]", "corrupt"),
                                      ("shape-wraps-to-16", '"U8"', "[4611686018427387908,4]", "[0,16]", "corrupt"), ("shape-65", '"F32"', "[%s]" % ",".join(["1"] * 65), "[0,4]", "limit"),
                                      ("offsets-three", '"F32"', "[4]", "[0,8,16]", "corrupt"), ("offsets-reversed", '"F32"', "[4]", "[16,0]", "corrupt"), ("offsets-past", '"F32"', "[4]", "[0,17]", "corrupt"),
                                      ("offsets-minus", '"F32"', "[4]", "[-1,15]", "corrupt"), ("offsets-float", '"F32"', "[4]", "[0,16.0]", "corrupt"), ("offsets-2^64", '"F32"', "[4]", "[0,18446744073709551615]", "corrupt"),
                                      ("offsets-hole", '"F32"', "[2]", "[8,16]", "corrupt"), ("offsets-tail", '"F32"', "[2]", "[0,8]", "corrupt"), ("shape-small", '"F32"', "[3]", "[0,16]", "corrupt"),
                                      ("f4-half-byte", '"F4"', "[3]", "[0,1]", "corrupt"), ("not-object", '"F32"', "[4]", "null", "corrupt")):
        bad(name, e % (d, shape, off), text="", code=code)
    two = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[%d,%d]},"b":{"dtype":"F32","shape":[2],"data_offsets":[%d,%d]}}'
    bad("overlap", two % (0, 8, 4, 12), FLOATS[:12], text="inside the one before it")
    bad("hole", two % (0, 8, 12, 20), FLOATS + b"1234", text="behind a hole")
    bad("same-place", two % (0, 8, 0, 8), FLOATS[:8], text="")
    ok("safe-reversed-order", "8.36", safetensors(two % (8, 16, 0, 8), FLOATS))
    bad("empty-inside", '{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}')
    bad("entry-list", '{"w":[]}', b"", text="must be described by an object")
    bad("missing-shape", '{"w":{"dtype":"F32","data_offsets":[0,16]}}')
    bad("missing-dtype", '{"w":{"shape":[4],"data_offsets":[0,16]}}')
    bad("missing-offsets", '{"w":{"dtype":"F32","shape":[4]}}')
    bad("more-data", "{%s}" % w, FLOATS + b"x", text="the last tensor ends at byte")
    ok("safe-name-empty", "8.36", safetensors("{%s}" % w.replace('"w"', '""'), FLOATS))

    shard = safetensors("{%s}" % w, FLOATS)

    def index(name, text, files=None, code="corrupt", part=""):
        f = {"@model.safetensors.index.json": text.encode(), "a.safetensors": shard}
        f.update(files or {})
        case("index-" + name, "8.37", f, code, part)

    m = '{"metadata":{"total_size":16},"weight_map":{"w":"%s"}}'
    case("index-good", "8.37", {"@model.safetensors.index.json": (m % "a.safetensors").encode(), "a.safetensors": shard}, "ok", stage="done")
    for name, path in (("parent", "../a.safetensors"), ("absolute", "/etc/passwd"), ("below", "x/a.safetensors"), ("backslash", "..\\\\a"), ("dot", "."), ("dotdot", ".."), ("empty", ""),
                       ("nul", "a.safetensors\\u0000x"), ("long", "a" * 300)):
        index("path-" + name, m % path, part="must be the name of a file beside it")
    index("missing-shard", m % "b.safetensors", code="notfound", part="is not there")
    index("absent-tensor", m.replace('"w"', '"v"') % "a.safetensors", part="is not in shard")
    index("two-shards", '{"weight_map":{"w":"a.safetensors","v":"b.safetensors"}}', {"b.safetensors": shard}, part="")
    index("no-map", '{"metadata":{}}', code="format")
    index("map-list", '{"weight_map":[]}', code="format")
    index("map-int", '{"weight_map":{"w":1}}')
    index("twice", '{"weight_map":{"w":"a.safetensors","w":"a.safetensors"}}')
    index("self", m % "model.safetensors.index.json", code="format")
    index("shard-corrupt", m % "a.safetensors", {"a.safetensors": shard[:-1]})
    index("metadata-list", '{"metadata":[],"weight_map":{"w":"a.safetensors"}}')
    index("deep", '{"weight_map":' + "[" * 1000 + "]" * 1000 + "}", code="limit")


def dcp():
    module = "torch.distributed.checkpoint.metadata"
    item = pth(pickle(v2()))

    def obj(cls, fields, m=module): return glob(m, cls) + b")\x81" + b"}(" + b"".join(s(k) + v for k, v in fields.items()) + b"ub"
    def size(*n): return call("torch", "Size", ints(*n))
    def chunk(offsets, sizes): return obj("ChunkStorageMetadata", {"offsets": size(*offsets), "sizes": size(*sizes)})

    properties = glob(module, "TensorProperties") + b")\x81" + t(glob("torch", "float32"), glob("torch", "strided"), b"\x89", t(i(0)), b"\x89") + b"b"

    def directory(shape=(2, 2), chunks=(((0, 0), (2, 2)),), places=((0, None),), file="__0_0.distcp", paths=b"N", fqn="w", data=item, index=None, cls="_StorageInfo"):
        storages, metas = b"", b""
        for (off, sizes), (at, n) in zip(chunks, places):
            key = obj("MetadataIndex", {"fqn": s(fqn), "offset": size(*off)})
            storages += key + obj(cls, {"relative_path": s(file), "offset": i(at), "length": i(len(item) if n is None else n)}, "torch.distributed.checkpoint.filesystem")
            metas += chunk(off, sizes)
        tensor = obj("TensorStorageMetadata", {"properties": properties, "size": size(*shape), "chunks": b"](" + metas + b"e"})
        root = obj("Metadata", {"state_dict_metadata": b"}(" + s(fqn) + tensor + b"u", "planner_data": paths, "storage_data": b"}(" + storages + b"u"})
        return {"": None, ".metadata": pickle(index or root, 4), "__0_0.distcp": data}

    case("dcp-good", "8.38", directory(), "ok", stage="done")

    def bad(name, code="corrupt", text="", **kw): case("dcp-" + name, "8.38", directory(**kw), code, text)

    for name, place in (("offset-past", (len(item), None)), ("length-past", (0, len(item) + 1)), ("offset-minus", (-1, None)), ("length-minus", (0, -1)), ("wraps", (2**62, 2**62)),
                        ("length-0", (0, 0)), ("offset-1", (1, len(item) - 1))):
        bad(name, places=(place,), code="format" if name in ("length-0", "offset-1") else "corrupt")
    bad("chunk-outside", chunks=(((1, 0), (2, 2)),))
    bad("chunk-offset-huge", chunks=(((2**62, 0), (2, 2)),))
    bad("chunk-small", chunks=(((0, 0), (1, 2)),))
    bad("chunk-ndim", chunks=(((0,), (4,)),))
    both = (((0, 0), (2, 2)), ((0, 1), (2, 2)))
    bad("chunks-overlap", shape=(2, 3), chunks=both, places=((0, None), (len(item), None)), data=item * 2, text="overlap")
    bad("items-overlap", shape=(4, 2), chunks=(((0, 0), (2, 2)), ((2, 0), (2, 2))), places=((0, None), (0, None)), text="the same bytes")
    bad("chunks-incomplete", shape=(5, 2), chunks=(((0, 0), (2, 2)), ((2, 0), (2, 2))), places=((0, None), (len(item), None)), data=item * 2, text="the chunks hold 8")
    bad("shape-wraps", shape=(2**40, 2**40), chunks=(((0, 0), (2, 2)),))
    bad("ndim-100", shape=(1,) * 100, code="limit")
    for name, path in (("parent", "../x"), ("absolute", "/etc/passwd"), ("empty", ""), ("dotdot", "..")): bad("path-" + name, file=path, text="no plain file name")
    bad("file-missing", file="__9_9.distcp", text="is missing")
    bad("other-storage", cls="S3Info", code="unsupported", text="a storage other than files")
    bad("item-not-zip", data=b"x" * len(item), code="format")
    bad("item-corrupt", data=item[:-1] + b"x")
    bad("item-changed", data=item.replace(b"K\2K\1", b"K\1K\1"), text="")
    bad("index-deep", paths=b"}(" + s("w") + t(i(2**40)) + b"u", text="")
    bad("path-int", paths=b"}(" + s("w") + t(b"N") + b"u", text="its path in planner_data")
    case("dcp-not-metadata", "8.38", {"": None, ".metadata": pickle(b"}"), "__0_0.distcp": item}, "format", "holds no Metadata")
    case("dcp-empty", "8.38", {"": None, ".metadata": b""}, "corrupt", "")
    case("dcp-os-system", "8.38", {"": None, ".metadata": pickle(call("os", "system", s("true")))}, "format", "")


# ---- writing them ----

def write(top, name, data):
    """The path to open, below top."""
    if isinstance(data, bytes):
        with open(os.path.join(top, name + ".pth"), "wb") as f: f.write(data)
        return name + ".pth"
    os.mkdir(os.path.join(top, name))
    opened = name
    for file, content in data.items():
        if file == "": continue
        if file[0] == "@": opened = os.path.join(name, file[1:])
        with open(os.path.join(top, name, file.lstrip("@")), "wb") as f: f.write(content)
    return opened


def main():
    for make in (zip_ends, zip_names, zip_headers, zip_records, pickle_ends, pickle_stack, pickle_depth, pickle_values, pickle_calls, tensors, numpy, old, bare, safe, dcp): make()
    top = sys.argv[1]
    names = set()
    with open(os.path.join(top, "table.tsv"), "w", encoding="utf-8") as table:
        for name, row, data, stage, code, text, ambiguous in CASES:
            assert name not in names, name
            names.add(name)
            table.write("\t".join((write(top, name, data), row, stage, code, text, "zip" if ambiguous else "")) + "\n")


if __name__ == "__main__":
    main()
