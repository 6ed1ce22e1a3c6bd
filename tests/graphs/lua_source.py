"""Python objects as Lua source that builds the same with ckpt's constructors: nodes are made empty and filled afterwards, so that
sharing and cycles come out as they are and depth costs nothing."""
import collections
import copyreg
import struct
import types

import fake_torch

NUMBERS = {"uint8": "B", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "float32": "f", "float64": "d", "bool": "?"}


def quoted(data):
    """A Lua string literal of any bytes."""
    return '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:03d}" for b in data) + '"'


def number(f):
    if f != f: return f'(("<d"):unpack({quoted(struct.pack("<d", f))}))'  # a nan has bits, too
    if f in (float("inf"), float("-inf")): return "1/0" if f > 0 else "-1/0"
    return f.hex() if f != 0 else ("-0.0" if str(f)[0] == "-" else "0.0")


class Translator:
    """Lines of Lua that leave the graph in `n[0]`; `n` is a table that the chunk makes."""
    def __init__(self):
        self.lines, self.numbers, self.kept, self.todo = [], {}, [], []

    def run(self, root):
        self.lines.append(f"n.root = {self.refer(root)}")
        root_line = self.lines.pop()
        while self.todo:
            fill, v, at = self.todo.pop()
            fill(self, v, at)
        return "\n".join([*self.lines, root_line])

    def refer(self, v):
        """An expression for v. A node is made at its first mention and filled later."""
        method = ATOMS.get(type(v))
        if method: return method(v)
        if id(v) in self.numbers: return f"n[{self.numbers[id(v)]}]"
        if isinstance(v, type) or isinstance(v, (types.FunctionType, types.BuiltinFunctionType)): return named(v, v.__qualname__)
        at = self.numbers[id(v)] = len(self.numbers)
        self.kept.append(v)
        make = NODES.get(type(v), Translator.make_object)
        return make(self, v, at)

    def node(self, at, expression, fill=None, v=None):
        self.lines.append(f"n[{at}] = {expression}")
        if fill: self.todo.append((fill, v, at))
        return f"n[{at}]"

    def sequence(constructor):
        def make(self, v, at): return self.node(at, f"ckpt.{constructor} {{}}", Translator.fill_sequence, v)
        return make

    def fill_sequence(self, v, at):
        for i, item in enumerate(v): self.lines.append(f"n[{at}][{i + 1}] = {self.refer(item)}")

    def make_dict(self, v, at): return self.node(at, "ckpt.items {}", Translator.fill_pairs, v.items())
    def make_ordered(self, v, at): return self.node(at, "ckpt.ordered {}", Translator.fill_ordered, v)

    def fill_pairs(self, pairs, at, field=""):
        for i, (key, item) in enumerate(pairs):
            self.lines.append(f"n[{at}]{field}[{i + 1}] = {{ {self.refer(key)}, {self.refer(item)} }}")

    def fill_ordered(self, v, at):
        self.fill_pairs(v.items(), at)
        state = v.__reduce__()[2]
        if state is not None: self.lines.append(f"n[{at}].state = {self.refer(state)}")

    def make_bytearray(self, v, at): return self.node(at, f"ckpt.bytearray({quoted(v)})")
    def make_complex(self, v, at): return self.node(at, f"ckpt.complex({number(v.real)}, {number(v.imag)})")

    def make_object(self, v, at):
        reduce = copyreg.dispatch_table.get(type(v))
        rv = reduce(v) if reduce else v.__reduce_ex__(4)
        if type(rv) is str: return self.node(at, named(v, rv))
        function, args, *rest = rv
        how, kwargs = "reduce", None
        if function is copyreg.__newobj__: how, function, args = "newobj", args[0], args[1:]
        elif getattr(function, "__name__", "") == "__newobj_ex__": how, (function, args, kwargs) = "newobj_ex", args
        made = self.node(at, f"ckpt.object {{ callable = {self.refer(function)}, how = \"{how}\", args = ckpt.tuple {{}} }}")
        self.todo.append((Translator.fill_object, (args, kwargs, rest), at))
        return made

    def fill_object(self, parts, at):
        args, kwargs, rest = parts
        state, items, pairs = rest + [None] * (3 - len(rest))
        self.kept.append((args, kwargs, state))
        for i, item in enumerate(args): self.lines.append(f"n[{at}].args[{i + 1}] = {self.refer(item)}")
        if kwargs is not None: self.lines.append(f"n[{at}].kwargs = {self.refer(kwargs)}")
        if state is not None: self.lines.append(f"n[{at}].state = {self.refer(state)}")
        if items is not None:
            self.lines.append(f"n[{at}].items = {{}}")
            for i, item in enumerate(items): self.lines.append(f"n[{at}].items[{i + 1}] = {self.refer(item)}")
        if pairs is not None:
            self.lines.append(f"n[{at}].pairs = {{}}")
            self.fill_pairs(pairs, at, ".pairs")

    def make_tensor(self, v, at):
        if v.how == "_rebuild_parameter":
            return self.node(at, f"ckpt.parameter({self.refer(v.inner)}, {str(v.grad).lower()})")
        s = v.storage
        if id(s) not in self.numbers:
            self.numbers[id(s)] = len(self.numbers)
            self.kept.append(s)
            items = memoryview(s.data).cast(NUMBERS[v.dtype]).tolist()
            literal = ", ".join(number(x) if isinstance(x, float) else str(x).lower() if isinstance(x, bool) else str(x) for x in items)
            self.lines.append(f"n[{self.numbers[id(s)]}] = ckpt.tensor(\"{v.dtype}\", {{ {len(items)} }}, {{ {literal} }})")
        return self.node(at, f"n[{self.numbers[id(s)]}]{v.made_by}")


def named(v, name): return f"ckpt.class({quoted(getattr(v, '__module__', 'builtins').encode())}, {quoted(name.encode())})"


def integer(v):
    if -2**63 < v < 2**63: return str(v)
    return f'ckpt.bigint("{v}")'


ATOMS = {
    type(None): lambda v: "ckpt.none", bool: lambda v: str(v).lower(), int: integer, float: number,
    str: lambda v: quoted(v.encode("utf-8", "surrogatepass")), bytes: lambda v: f"ckpt.bytes({quoted(v)})",
}
NODES = {
    list: Translator.sequence("list"), tuple: Translator.sequence("tuple"), set: Translator.sequence("set"),
    frozenset: Translator.sequence("frozenset"), fake_torch.Size: Translator.sequence("size"), dict: Translator.make_dict,
    collections.OrderedDict: Translator.make_ordered, bytearray: Translator.make_bytearray, complex: Translator.make_complex,
    fake_torch.Tensor: Translator.make_tensor,
}


def translate(root): return Translator().run(root)
