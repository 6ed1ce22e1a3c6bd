#!/usr/bin/env python3
"""differential.py JUDGE COUNT [SEED]: T16, accept or reject. Pickles of protocols 0 to 5 are mutated, and ckpt's pickle machine
(JUDGE: pickles.c) and Python's own unpickler, with every class an inert stand-in, must agree on each, or disagree for one of
the reasons below, which are counted and printed. pickletools.dis is asked as well. Speaks TAP; a disagreement without a reason
is a failure.
"""
import collections
import io
import os
import pickle
import pickletools
import random
import re
import resource
import struct
import subprocess
import sys

# What Python says when it refuses what ckpt takes (a part of "exception: message"): why that is right.
PYTHON_REFUSES = (
    ("unhashable type", "a key or set item that cannot be hashed: kept, as an inert graph may hold it"),
    ("not hashable", "a key or set item that cannot be hashed: kept, as an inert graph may hold it"),
    ("exhausted before end of frame", "a frame that ends inside an opcode: frames are only for buffering"),
    ("frame", "a frame that ends inside an opcode: frames are only for buffering"),
    ("could not convert string to int", "an integer spelled as no pickler writes it (I with leading zeros or an L)"),
    ("class argument must be a type", "NEWOBJ of a function: nothing is called, so it does not matter what it is"),
    ("NEWOBJ class", "NEWOBJ of a function: nothing is called, so it does not matter what it is"),
    ("__newobj__", "NEWOBJ of a function: nothing is called, so it does not matter what it is"),
    ("codec can't decode", "text of Python 2 outside ASCII: kept as bytes"),
    ("invalid \\x escape", "an escape that Python 2 never wrote: taken as it stands"),
    ("Trailing \\ in string", "an escape that Python 2 never wrote: taken as it stands"),
    ("truncated \\u", "an escape that no pickler writes: taken as it stands"),
    ("truncated \\U", "an escape that no pickler writes: taken as it stands"),
    ("illegal Unicode character", "an escape that no pickler writes: taken as it stands"),
    ("persistent IDs in protocol 0 must be ASCII", "a persistent id outside ASCII: kept as bytes"),
    ("unexpected MARK found", "an empty mark where Python looks one place further down"),
    ("MemoryError", "Python takes memory for a length that the pickle only claims"),
    ("keywords must be strings", "keyword arguments of another kind: nothing is called"),
    ("NEWOBJ_EX", "arguments of another kind: nothing is called"),
    ("state is not a dictionary", "a state of another kind: kept as it is"),
    ("slot state", "a state of another kind: kept as it is"),
    ("attribute name must be string", "an attribute that is no name: kept as a key"),
    ("surrogates not allowed", "a name with surrogates: a name is only kept"),
    ("Invalid extension code", "an extension code"),
    ("must be str, not", "a module or class name of another kind"),
)
# What ckpt says when it refuses what Python takes: why that is right.
CKPT_REFUSES = (
    ("memo index", "a memo index beyond the pickle's length: it costs memory out of proportion"),
    ("is no decimal integer", "an integer spelled as no pickler writes it (0x10, 1_000, blanks)"),
    ("is no float", "a float spelled as no pickler writes it (1_0.5, blanks, infinity)"),
    ("a memo index that is no number", "a memo index spelled as no pickler writes it"),
    ("keys set in what is no dict", "SETITEM on a list: CVE-2026-24747"),
    ("items appended to what is no list", "APPEND to a bytearray or set, which no pickler writes"),
    ("items added to what is no set", "ADDITEMS to what is no set, which no pickler writes"),
    ("BUILD on what has no state", "a state for what has none (None, or an empty one)"),
    ("BUILD twice", "two states for one object"),
    ("is no class or function", "a call of a value that Python can call or make"),
    ("arguments that are no tuple", "arguments that are no tuple"),
    ("a name that is not UTF-8", "a class name that is not UTF-8"),
    ("a string without its quotes", "quotes that differ, or blanks around them"),
    ("a key without its value", "an odd number of items, of which Python 3.11 drops the last"),
    ("levels deep", "deeper than the limit"),
    ("the objects need more", "objects out of proportion to the pickle"),
    ("that is not UTF-8", "text that is not UTF-8"),
    ("a line without its end", "a last line without its end"),
    ("STACK_GLOBAL without", "names of another kind"),
    ("an integer of", "an integer longer than Python's own limit"),
    ("OBJ without a class", "OBJ without a class"),
    ("ends behind it", "an opcode across the end of a frame, which Python's two readers read differently"),
    ("a frame inside a frame", "a frame inside a frame, which Python's two readers read differently"),
    ("an out-of-band buffer", "READONLY_BUFFER of a value that lies in the pickle, which no pickler writes"),
    ("is no pickle opcode", "an opcode that there is none of"),
)


class Inert:
    """Stands for every class: takes anything, does nothing."""
    def __new__(cls, *args, **kwargs): return object.__new__(cls)
    def __init__(self, *args, **kwargs): pass
    def __setstate__(self, state): pass
    def __setitem__(self, key, item): pass
    def __call__(self, *args): return Inert()
    def append(self, item): pass
    def extend(self, items): pass
    def add(self, item): pass


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name): return Inert
    def persistent_load(self, pid): return Inert()


def python(data):
    try:
        Unpickler(io.BytesIO(data), encoding="bytes").load()
        return ""
    except Exception as e:  # whatever it is: it is refused
        return "%s: %s" % (type(e).__name__, e)


def dis(data):
    try:
        pickletools.dis(data, io.StringIO())
        return ""
    except Exception as e:
        return "%s: %s" % (type(e).__name__, e)


def seeds():
    point = collections.namedtuple("Point", "x y")
    globals()["Point"], point.__module__ = point, __name__
    point.__qualname__ = "Point"
    values = [None, True, 7, -1, 300, 2**40, -2**100, 1.5, "text", "é€", b"bytes", bytearray(b"ba"), [1, [2, (3,)]], (1, 2), (1, 2, 3, 4), {"a": {"b": 1}}, {1, 2}, frozenset((3,)),
              collections.OrderedDict(a=1), complex(1, 2), point(1, 2), collections.Counter("ab"), range(2), [[], {}, ()], ValueError("x")]
    cycle = [1]
    cycle.append(cycle)
    return [pickle.dumps(v, p) for v in values + [values, cycle] for p in range(6)]


def ops(data):
    """The opcodes of a pickle with their arguments, as pieces of it."""
    starts = [at for _, _, at in pickletools.genops(data)]
    return [data[a:b] for a, b in zip(starts, starts[1:] + [len(data)])]


def shuffle(chance, pieces):
    """Whole opcodes dropped, doubled, exchanged or brought in from another pickle."""
    out = list(chance.choice(pieces))
    for _ in range(chance.randint(1, 3)):
        at, other = chance.randrange(len(out)), chance.randrange(len(out))
        what = chance.randrange(5)
        if what == 0 and len(out) > 1: del out[at]
        elif what == 1: out.insert(at, out[other])
        elif what == 2: out[at], out[other] = out[other], out[at]
        else: out[at:at] = [p for p in chance.choice(pieces)[chance.randrange(3):][:chance.randint(1, 3)] if p != b"."]
    return b"".join(out)


def mutate(chance, pool, codes):
    data = bytearray(chance.choice(pool))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data)) if data else 0
        what = chance.randrange(7)
        if what == 0 and data: data[at] = chance.randrange(256)
        elif what == 1 and data: data[at] ^= 1 << chance.randrange(8)
        elif what == 2 and data: del data[at:at + chance.randint(1, 4)]
        elif what == 3: data[at:at] = bytes([chance.choice(codes)])
        elif what == 4:
            other = chance.choice(pool)
            cut = chance.randrange(len(other))
            data[at:at] = other[cut:cut + chance.randint(1, 12)]
        elif what == 5 and data: data[at] = chance.choice(codes)
        else: data[at:at] = data[at:at + chance.randint(1, 8)]
    return bytes(data)


def ours(judge, pickles):
    text = subprocess.run([judge], input=b"".join(struct.pack("<I", len(p)) + p for p in pickles), stdout=subprocess.PIPE, check=True).stdout
    lines = text.decode("utf-8", "replace").split("\n")[:-1]
    assert len(lines) == len(pickles), (len(lines), len(pickles))
    return [line.split("\t", 1) for line in lines]


def reason(text, table, data):
    if "truncated" in text and table is PYTHON_REFUSES and b"\x95" in data: return "a frame that ends inside an opcode: frames are only for buffering"
    if "truncated" in text and table is PYTHON_REFUSES and re.search(rb"[ci](\n|[^\n]+\n\n)", data): return "a module or class without a name: a name is only kept"
    for part, why in table:
        if part in text: return why
    return None


def main():
    judge, count = sys.argv[1], int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    if os.environ.get("SANITIZED") != "1":  # whose shadow memory is larger than any limit
        resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    sys.setrecursionlimit(5000)
    chance = random.Random(seed)
    pool = seeds()
    pieces = [ops(p) for p in pool]
    codes = [ord(o.code) for o in pickletools.opcodes]
    agree, refused, reasons, unexplained, dis_agrees = 0, 0, collections.Counter(), [], 0
    for start in range(0, count, 5000):
        pickles = [mutate(chance, pool, codes) if n % 3 == 0 else shuffle(chance, pieces) for n in range(min(5000, count - start))]
        for data, (code, message) in zip(pickles, ours(judge, pickles)):
            theirs = python(data)
            dis_agrees += (dis(data) == "") == (code == "ok")
            refused += code != "ok"
            if (theirs == "") == (code == "ok"):
                agree += 1
                continue
            why = reason(theirs, PYTHON_REFUSES, data) if code == "ok" else reason(message, CKPT_REFUSES, data)
            if why: reasons[("ckpt takes, Python refuses: " if code == "ok" else "Python takes, ckpt refuses: ") + why] += 1
            else: unexplained.append((data, code, message, theirs))
    print("1..1")
    for why, n in reasons.most_common(): print("# %6d  %s" % (n, why))
    for data, code, message, theirs in unexplained[:20]: print("# UNEXPLAINED %r\n#   ckpt %s %s\n#   Python %s" % (data, code, message, theirs or "takes it"))
    print("# pickletools.dis agrees on %d; it neither builds values nor forbids less than STOP leaves" % dis_agrees)
    print("%sok 1 - %d mutated pickles (seed %d, %d refused): agreement on %d, %d differences with a reason, %d without" %
          ("not " if unexplained else "", count, seed, refused, agree, sum(reasons.values()), len(unexplained)))
    sys.exit(bool(unexplained))


main()
