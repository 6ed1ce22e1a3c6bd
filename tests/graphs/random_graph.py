"""Random graphs of Python objects. Values are made bottom-up out of those made before, which gives sharing; at the end some are put
into containers that were made earlier, which gives cycles."""
import argparse
import collections
import datetime
import decimal
import fractions
import functools
import pathlib
import random
import struct
import types

import fake_torch
import graph_classes as classes

FLOATS = (0.0, -0.0, 1.5, -0.1, 1e300, 5e-324, -2.5e-310, 1e16, 1e-5, 1e22, 123456789.125, 1 / 3, float("inf"), float("-inf"))
PIECES = ("", "a", "layer.weight", "\0", "é", "中", "😀", "\ud800", "\udfff", "\n\t\r", "'\"\\", "\\u0041", "\x1a", "\x7f\xff")


class Maker:
    torch = fake_torch.torch
    share_arguments = True  # tuples of arguments are held by others, too

    def __init__(self, seed, protocol, doubles):
        self.random = random.Random(seed)
        self.protocol, self.doubles = protocol, doubles
        self.values, self.keys, self.storages, self.serial = [], [], [], 10
        self.makers = [getattr(self, name) for name, least in KINDS if protocol >= least]

    def chance(self, one_in): return self.random.randrange(one_in) == 0
    def below(self, n): return self.random.randrange(n)
    def any(self): return self.random.choice(self.values) if self.values else None
    def key(self): return self.random.choice(self.keys)
    def several(self, n=6): return [self.any() for _ in range(self.below(n))]

    # ---- atoms ----

    def none(self): return None
    def bool(self): return self.chance(2)

    def int(self):
        if self.chance(3): return self.below(300)
        edge = 1 << self.random.choice((7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 2032, 2039, 2040, 2400, self.below(2400)))
        return self.random.choice((1, -1)) * (edge - self.below(3))

    def float(self):
        if self.chance(3): return self.random.choice(FLOATS)
        if self.chance(8): return float("nan")
        f = struct.unpack("<d", self.random.randbytes(8))[0]
        return 0.25 if self.protocol == 0 and f != f else f  # its text says nothing of a nan's bits

    def str(self):
        if self.chance(150): return self.random.choice("xé中") * (66000 if self.chance(3) else 300)
        return "".join(self.random.choice(PIECES) for _ in range(self.below(5)))

    def bytes(self):
        if self.chance(150): return self.random.randbytes(66000 if self.chance(3) else 300)
        return self.random.randbytes(self.below(12))

    def bytearray(self): return bytearray(self.bytes())

    def name(self):
        return self.random.choice((classes.Node, classes.Outer.Inner, classes.make_reduced, classes.SINGLETON, len, dict, Ellipsis,
                                   collections.OrderedDict, self.torch.float32, self.torch.Tensor, ValueError))

    # ---- keys: hashable, and in an order that describe.py can find again ----

    def fresh(self):
        self.serial += 1
        return self.serial

    def node(self):
        node = classes.Node()
        node.serial = self.fresh()
        return node

    def make_key(self):
        n = self.fresh()
        few = self.random.sample(self.keys, min(len(self.keys), self.below(3)))
        return self.random.choice((
            lambda: n, lambda: -n, lambda: n << 70, lambda: n + 0.5, lambda: f"key{n}", lambda: f"é{n}".encode(), lambda: None,
            lambda: True, lambda: (n, *few), lambda: frozenset([n, *few]), lambda: complex(n, 1), lambda: classes.Color.RED,
            lambda: classes.Bits.A | classes.Bits.B, lambda: classes.Point(n, 2), lambda: classes.MyStr(n), lambda: classes.MyInt(n),
            lambda: datetime.date(2000, 1, 1 + n % 28), lambda: decimal.Decimal(n), self.node, self.node))()

    # ---- containers ----

    def count(self):
        if self.chance(300): return 990 + self.below(1100)  # beyond a pickler's batch
        return 1000 * (1 + self.below(2)) if self.chance(600) else self.below(6)

    def many(self):
        n = self.count()
        return [self.any() for _ in range(n)] if n < 100 else [self.random.choice((i, None, self.any())) for i in range(n)]

    def pairs(self):
        n = self.count()
        return {(self.key() if n < 100 else 1000 + i): self.any() for i in range(n)}

    def members(self):
        n = self.count()
        return [self.key() for _ in range(n)] if n < 100 else range(n)

    def list(self): return self.many()
    def tuple(self): return tuple(self.several() if self.chance(50) is False else self.many())
    def dict(self): return self.pairs()
    def set(self): return set(self.members())
    def frozenset(self): return frozenset(self.members())

    def ordered(self):
        d = collections.OrderedDict(self.pairs())
        if self.chance(3): d._metadata = self.any()
        return d

    # ---- objects ----

    def plain_object(self):
        v = self.node()
        for name in self.random.sample(("a", "b", "weight", "é"), self.below(4)): setattr(v, name, self.any())
        return v

    def inner(self):
        v = classes.Outer.Inner()
        v.x = self.any()
        return v

    def slots(self):
        v = self.random.choice((classes.Slots, classes.SlotsAndDict))()
        if self.chance(2): v.a = self.any()
        if self.chance(2): v.b = self.any()
        if type(v) is classes.SlotsAndDict and self.chance(2): v.other = self.any()
        return v

    def getstate(self): return classes.Getstate(self.any())

    def reduced(self):
        args = tuple(self.several(4))
        if self.share_arguments and self.chance(12): self.values.append(args)
        v = classes.Reduced(args)
        if self.chance(2): v.state = self.any()
        return v

    def iterated(self):
        v = classes.Iterated(self.str() if self.doubles else self.any())
        v.extend(self.many())
        for pair in self.pairs().items(): v[pair[0]] = pair[1]
        return v

    def new_args(self): return classes.NewArgs(*self.several(4))
    def new_args_ex(self): return classes.NewArgsEx(*self.several(3), key=self.any())

    def collection(self):
        cls = self.random.choice((classes.MyList, classes.ListWithState, classes.MyDict, classes.DictWithState, classes.MyOrderedDict,
                                  classes.MySet, classes.MyTuple, collections.Counter, collections.defaultdict, collections.deque))
        if issubclass(cls, collections.Counter): return cls(dict(self.pairs()))
        if cls is collections.defaultdict: return cls(self.random.choice((None, list, int, classes.Node)), self.pairs())
        if cls is collections.deque: return cls(self.several(), self.random.choice((None, 7)))
        v = cls(self.pairs() if issubclass(cls, dict) else self.members() if issubclass(cls, set) else self.many())
        if hasattr(v, "__dict__") and self.chance(2): v.attribute = self.any()
        return v

    def number(self):
        return self.random.choice((complex(1.5, -0.0), complex(self.below(9), 1), decimal.Decimal("1.50"), fractions.Fraction(1, 3),
                                   classes.MyInt(self.int()), classes.MyFloat(2.5), classes.MyStr("text")))

    def standard(self):
        return self.random.choice((
            lambda: classes.Color.GREEN, lambda: classes.Bits.B, lambda: classes.Point(self.any(), self.any()), lambda: range(2, 9, 3),
            lambda: slice(1, None, self.any()), lambda: datetime.datetime(2020, 2, 29, 1, 2, 3, 4), lambda: datetime.timedelta(1, 2, 3),
            lambda: pathlib.PurePosixPath("/a/b"), lambda: argparse.Namespace(lr=0.1, other=self.any()),
            lambda: types.SimpleNamespace(x=self.any()), lambda: functools.partial(classes.make_reduced, self.any(), k=self.any()),
            lambda: classes.MyError("a", self.any()), lambda: ValueError(self.any()), lambda: self.torch.device("cuda", 1),
            lambda: self.torch.Size((2, 3)[:self.below(3)])))()

    # ---- tensors ----

    def storage(self):
        if not self.storages or (len(self.storages) < 4 and self.chance(3)):
            dtype = self.random.choice(list(fake_torch.DTYPES))
            cls, size = fake_torch.DTYPES[dtype]
            cls = getattr(fake_torch.torch, cls) if cls else fake_torch.storage_module.UntypedStorage
            self.storages.append((dtype, fake_torch.Storage(cls, self.random.randbytes(size * self.below(40)))))
        return self.random.choice(self.storages)

    def view(self, numel):
        """Any shape and stride that stays inside."""
        offset = self.below(numel) if numel > 0 else 0
        left, size, stride = numel - 1 - offset, [], []
        for _ in range(self.below(5) if numel > 0 else 1 + self.below(4)):
            stride.append(self.below(5))
            n = self.below(4) if numel > 0 else 0
            size.append(1 if n > 1 and (n - 1) * stride[-1] > left else n)
            left -= max(size[-1] - 1, 0) * stride[-1]
        return offset, tuple(size), tuple(stride)

    def plain_tensor(self):
        dtype, storage = self.storage()
        offset, size, stride = self.view(len(storage.data) // fake_torch.DTYPES[dtype][1])
        can_grad, is_complex = dtype in fake_torch.FLOATS + fake_torch.COMPLEX, dtype in fake_torch.COMPLEX
        how = "_rebuild_tensor_v2" if fake_torch.DTYPES[dtype][0] else "_rebuild_tensor_v3"
        grad, conj, neg = can_grad and self.chance(3), is_complex and self.chance(2), can_grad and self.chance(4)
        if dtype.startswith("q"):
            return fake_torch.Tensor("_rebuild_qtensor", storage, dtype, offset, size, stride,
                                     extra=((fake_torch.torch.per_tensor_affine, 0.5, 3),))
        if self.chance(10): return fake_torch.Tensor("_rebuild_meta_tensor_no_storage", None, dtype, 0, size, stride, grad)
        return fake_torch.Tensor(how, storage, dtype, offset, size, stride, grad, conj, neg)

    def tensor(self):
        t = self.plain_tensor()
        if t.how not in ("_rebuild_tensor_v2", "_rebuild_tensor_v3") or self.chance(2): return t
        t.grad = False
        if self.chance(2): self.values.append(t)
        state = {"serial": self.fresh(), "any": self.any()}
        how, extra = self.random.choice((("_rebuild_parameter", ()), ("_rebuild_parameter_with_state", (state,)),
                                         ("_rebuild_from_type_v2", (fake_torch.torch.Tensor, state))))
        return fake_torch.Tensor(how, t.storage, t.dtype, t.offset, t.size, t.stride, "parameter" in how, t.conj, t.neg, t, extra)

    # ---- graphs ----

    def tie(self):
        to, what = self.any(), self.any()
        if self.protocol < 2 and type(to) not in (list, dict, set, collections.OrderedDict, collections.deque) and \
                isinstance(to, (list, dict, set)): return  # these protocols make them from a copy of their items: no cycles
        if isinstance(to, (list, collections.deque)): to.append(what)
        elif isinstance(to, collections.Counter): return  # made from a dict of its items
        elif isinstance(to, dict): to[self.key()] = what
        elif isinstance(to, set): to.add(self.key())
        elif isinstance(to, classes.Iterated): to.items.append(what)
        elif isinstance(to, (classes.Reduced, classes.Getstate)): to.state = what
        elif hasattr(to, "serial"): to.tie = what
        elif isinstance(to, classes.Slots): to.a = what
        elif isinstance(to, (argparse.Namespace, types.SimpleNamespace)): to.tie = what

    def chain(self, root, depth):
        """Hundreds of levels deep, through lists, tuples, dicts and objects."""
        for _ in range(depth):
            kind, outer = self.below(4), self.node()
            outer.inner = root
            root = [root] if kind == 0 else (root, None) if kind == 1 else {"inner": root} if kind == 2 else outer
        return root

    def graph(self):
        n = 100 + self.below(200) if self.chance(12) else 1 + self.below(24)
        self.keys = [self.make_key() for _ in range(3)]
        for _ in range(n):
            if self.chance(4): self.keys.append(self.make_key())
            self.values.append(self.key() if self.chance(5) else self.random.choice(self.makers)())
        for _ in range(self.below(n // 4 + 3)): self.tie()
        root = self.values[-1] if self.chance(3) else self.values[-8:]
        return self.chain(root, 20 + self.below(300)) if self.chance(100) else root


KINDS = [(name, 0) for name in (
    "none bool int int int float float str str str bytes bytearray name list list list tuple tuple tuple tuple dict dict dict set frozenset "
    "ordered ordered plain_object plain_object inner getstate reduced reduced iterated collection collection collection number "
    "standard standard standard").split()]
KINDS += [("tensor", 1), ("tensor", 1), ("tensor", 1), ("slots", 2), ("new_args", 2), ("new_args_ex", 2)]


def make(seed, protocol, doubles):
    """`doubles`: the pickler appends items twice to what its own arguments lead back to (pickle.py does)."""
    return Maker(seed, protocol, doubles).graph()
