"""Python objects as the text of describe.h: what a pickler of that protocol would say of them, node by node.

With `canonical`, sets are walked in the order of their items' sort keys instead of Python's own, so that two graphs which are
isomorphic have one text however they came about; else the text is that of one very pickle.
"""
import _compat_pickle
import copyreg
import enum
import functools
import struct
import sys
import threading
import traceback
import types
from collections import OrderedDict

import fake_torch


class Line(str):
    """A line to be written as it is, among the values still to be walked."""


NONE = Line("-\n")


def sort_key(v):
    """Orders what may be in a set: by kind, then by value."""
    t = type(v)
    if t is tuple or isinstance(v, tuple): return "tuple", tuple(map(sort_key, v))
    if t is frozenset: return "frozenset", sorted(map(sort_key, v))
    if hasattr(v, "serial"): return "node", v.serial
    if isinstance(v, enum.Enum): return "enum", v.name
    if t in (int, float, str, bytes): return t.__name__, v
    return t.__name__, repr(v)


def module_and_name(v, name, protocol):
    """As the pickle has it: protocols before 3 use Python 2's names."""
    module = getattr(v, "__module__", "builtins")
    if protocol < 3:
        if (module, name) in _compat_pickle.REVERSE_NAME_MAPPING: return _compat_pickle.REVERSE_NAME_MAPPING[module, name]
        module = _compat_pickle.REVERSE_IMPORT_MAPPING.get(module, module)
    return module, name


class Describer:
    def __init__(self, protocol, canonical):
        self.protocol, self.canonical = protocol, canonical
        self.out, self.todo, self.numbers, self.storages, self.kept = [], [], {}, {}, []

    def run(self, root):
        self.todo.append(root)
        todo, methods, other = self.todo, METHODS, Describer.other
        while todo:
            v = todo.pop()
            methods.get(type(v), other)(self, v)
        return b"".join(self.out)

    def later(self, *values): self.todo.extend(reversed(values))

    def put(self, line): self.out.append(line if type(line) is bytes else line.encode())

    def node(self, v):
        """Numbers v; False, and a reference written, if it has been met before."""
        at = self.numbers.get(id(v))
        if at is not None:
            self.put(b"@%d\n" % at)
            return False
        self.numbers[id(v)] = len(self.numbers)
        self.kept.append(v)  # what a reduction made must not give its id to the next one
        return True

    def line(self, v): self.out.append(v.encode())
    def none(self, v): self.out.append(b"N\n")
    def bool(self, v): self.out.append(b"T\n" if v else b"F\n")

    def int(self, v):
        n = (v.bit_length() if v >= 0 else (v + 1).bit_length()) // 8 + 1
        self.put("i%s\n" % v.to_bytes(n, "little", signed=True).hex())

    def float(self, v): self.put("f%s %r\n" % (struct.pack(">d", v).hex(), v))

    def counted(self, kind, data): self.out += (b"%c%d:" % (kind, len(data)), data, b"\n")
    def str(self, v): self.counted(b"s", v.encode("utf-8", "surrogatepass"))
    def bytes(self, v): self.counted(b"b", v)

    def bytearray(self, v):
        if self.node(v): self.counted(b"a", bytes(v))

    def seq(self, kind, v):
        if len(v) == 0 and kind in b"tz":
            self.put(b"%c0\n" % kind)
        elif self.node(v):
            self.put(b"%c%d\n" % (kind, len(v)))
            self.later(*(sorted(v, key=sort_key) if self.canonical and kind in b"Sz" else v))

    def list(self, v): self.seq(b"l", v)
    def tuple(self, v): self.seq(b"t", v)
    def size(self, v): self.seq(b"Z", v)
    def set(self, v): self.seq(b"S", v)
    def frozenset(self, v): self.seq(b"z", v)

    def dict(self, v):
        if not self.node(v): return
        self.put(b"d%d\n" % len(v))
        self.later(*(x for pair in v.items() for x in pair))

    def ordered(self, v):
        if not self.node(v): return
        state = v.__reduce__()[2]
        self.put(b"o%d\n" % len(v))
        self.later(*(x for pair in v.items() for x in pair), NONE if state is None else state)

    def named(self, v, name):
        """A class, a function, or an object that is found under a name."""
        self.put("c%s %s\n" % module_and_name(v, name, self.protocol))

    def cls(self, v): self.named(v, v.__qualname__)

    def tensor(self, v):
        if not self.node(v): return
        flags = "".join(" " + f for f in ("grad", "conj", "neg") if getattr(v, f))
        self.put("X%s %s (%s) (%s) %d%s" % (v.how, v.dtype, ",".join(map(str, v.size)), ",".join(map(str, v.stride)), v.offset, flags))
        self.put(" meta\n" if v.storage is None else " #%s\n" % self.storage(v.storage))
        self.later(*(() if v.inner is None or v.how == "_rebuild_from_type_v2" else (v.inner,)), *(v.extra or ()))

    def storage(self, s):
        if id(s) in self.storages: return self.storages[id(s)]
        self.storages[id(s)] = at = str(len(self.storages))
        return at + "=" + bytes(s.data).hex()

    def object(self, how, callable_, args, kwargs=NONE, items=(), pairs=(), state=NONE):
        self.put("O%s\n" % how)
        self.later(callable_, args, kwargs, Line("l%d\n" % len(items)), *items, Line("d%d\n" % len(pairs)),
                   *(x for pair in pairs for x in pair), state)

    def other(self, v):
        if isinstance(v, type): return self.cls(v)
        reduce = copyreg.dispatch_table.get(type(v))
        rv = reduce(v) if reduce else v.__reduce_ex__(self.protocol)
        if type(rv) is str: return self.named(v, rv)
        if not self.node(v): return None
        function, args, state, items, pairs = rv + (None,) * (5 - len(rv))
        items, pairs = list(items or ()), list(pairs or ())
        name, kwargs, how = getattr(function, "__name__", ""), NONE, "reduce"
        if self.canonical and isinstance(v, (set, frozenset)):
            args = tuple(sorted(a, key=sort_key) if type(a) is list else a for a in args)
        if name == "__newobj__" and self.protocol >= 2:
            how, function, args = "newobj", args[0], args[1:]
        elif name == "__newobj_ex__" and self.protocol >= 4:
            how, (function, args, kwargs) = "newobj_ex", args
        elif name == "__newobj_ex__" and self.protocol >= 2:
            cls, args, kwargs = args
            function, args, kwargs = functools.partial(cls.__new__, cls, *args, **kwargs), (), NONE
        self.object(how, function, args, kwargs, items, pairs, NONE if state is None else state)


METHODS = {
    Line: Describer.line, type(None): Describer.none, bool: Describer.bool, int: Describer.int, float: Describer.float,
    str: Describer.str, bytes: Describer.bytes, bytearray: Describer.bytearray, list: Describer.list, tuple: Describer.tuple,
    fake_torch.Size: Describer.size, set: Describer.set, frozenset: Describer.frozenset, dict: Describer.dict,
    fake_torch.Tensor: Describer.tensor, type: Describer.cls, types.FunctionType: Describer.cls,
    OrderedDict: Describer.ordered,
}


def describe(root, protocol, canonical=False):
    return Describer(protocol, canonical).run(root)


def first_difference(want, got):
    want, got = want.split(b"\n"), got.split(b"\n")
    for i, (a, b) in enumerate(zip(want, got)):
        if a != b: return f"line {i + 1}: {a[:100]!r} has become {b[:100]!r}"
    return f"{len(want)} lines have become {len(got)}"


def deep(function):
    """Runs it in a thread with room for graphs that are hundreds of levels deep."""
    sys.setrecursionlimit(100000)
    threading.stack_size(512 << 20)
    raised = []

    def guarded():
        try: function()
        except BaseException as e:
            traceback.print_exc()
            raised.append(e)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if raised: raise RuntimeError(f"{type(raised[0]).__name__}: {raised[0]}")
