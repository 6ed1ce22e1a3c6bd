"""Compares two graphs of Python objects and PyTorch tensors: values, order, sharing, cycles, storages."""
import hashlib
import struct

import torch


class Difference(Exception): pass


class Comparison:
    """Two objects node by node, without recursion: equal, and what is one object here is one object there."""
    def __init__(self, inert=(), parts=()):
        """Objects of the class `inert` are compared by those attributes."""
        self.inert, self.inert_parts = inert, parts
        self.there, self.here, self.storages, self.tensors = {}, {}, {}, 0

    def run(self, a, b):
        self.todo = [(a, b, "")]
        while self.todo:
            a, b, path = self.todo.pop()
            try: self.one(a, b, path)
            except Difference as e: return f"{path or '(root)'}: {e}"
        return None

    def need(self, condition, what):
        if not condition: raise Difference(what)

    def met(self, a, b):
        """True if the two have been compared; an object has one counterpart only."""
        if id(a) in self.there or id(b) in self.here:
            self.need(self.there.get(id(a), (0, 0))[1] is b and self.here.get(id(b), (0, 0))[1] is a, "shared differently")
            return True
        self.there[id(a)], self.here[id(b)] = (a, b), (b, a)  # both are kept alive: ids stay theirs
        return False

    def one(self, a, b, path):
        self.need(type(a) is type(b), f"{type(a).__name__} has become {type(b).__name__}")
        if isinstance(a, float): self.need(struct.pack("d", a) == struct.pack("d", b), f"{a!r} has become {b!r}")
        elif isinstance(a, complex): self.need(struct.pack("2d", a.real, a.imag) == struct.pack("2d", b.real, b.imag), f"{a!r}, {b!r}")
        elif isinstance(a, (type(None), bool, int, str, bytes, type, torch.dtype, torch.device, torch.layout, torch.qscheme)) or callable(a) \
                and not isinstance(a, (self.inert or (), torch.Tensor)):
            self.need(a == b, f"{a!r} has become {b!r}")
        elif isinstance(a, tuple) and a == (): self.need(b == (), "no empty tuple")
        elif not self.met(a, b): self.parts(a, b, path)

    def parts(self, a, b, path):
        if isinstance(a, torch.Tensor): self.tensor(a, b, path)
        elif isinstance(a, dict):
            self.sequence(list(a.items()), list(b.items()), path)
            self.sequence(sorted(getattr(a, "__dict__", {}).items()), sorted(getattr(b, "__dict__", {}).items()), path + ".__dict__")
        elif isinstance(a, (list, tuple)): self.sequence(a, b, path)
        elif isinstance(a, (set, frozenset)): self.sequence(sorted(a, key=repr), sorted(b, key=repr), path)
        elif isinstance(a, bytearray): self.need(a == b, "other bytes")
        elif isinstance(a, self.inert):
            for name in self.inert_parts: self.todo.append((getattr(a, name), getattr(b, name), f"{path}.{name}"))
        elif isinstance(a, (torch.UntypedStorage, torch.storage.TypedStorage)): self.storage(a, b)
        else: raise Difference(f"a {type(a).__name__}, which this test does not know")

    def sequence(self, a, b, path):
        self.need(len(a) == len(b), f"{len(a)} items have become {len(b)}")
        self.todo.extend((x, y, f"{path}[{i}]") for i, (x, y) in enumerate(zip(a, b)))

    def tensor(self, a, b, path):
        self.tensors += 1
        for what in ("dtype", "shape", "requires_grad", "layout", "is_quantized", "is_meta"):
            self.need(getattr(a, what) == getattr(b, what), f"{what} {getattr(a, what)} has become {getattr(b, what)}")
        self.todo.append((vars(a), vars(b), path + ".__dict__"))
        if a.layout == torch.sparse_coo:
            self.todo += [(a._indices(), b._indices(), path + "._indices"), (a._values(), b._values(), path + "._values")]
        elif a.layout != torch.strided:
            names = ("crow_indices", "col_indices") if a.layout in (torch.sparse_csr, torch.sparse_bsr) else ("ccol_indices", "row_indices")
            self.todo += [(getattr(a, n)(), getattr(b, n)(), f"{path}.{n}") for n in (*names, "values")]
        else: self.strided(a, b)

    def strided(self, a, b):
        self.need(a.stride() == b.stride(), f"stride {a.stride()} has become {b.stride()}")
        self.need(a.storage_offset() == b.storage_offset(), f"offset {a.storage_offset()} has become {b.storage_offset()}")
        self.need((a.is_conj(), a.is_neg()) == (b.is_conj(), b.is_neg()), "conjugate or negative bit")
        if a.is_quantized:
            self.need(a.qscheme() == b.qscheme(), "qscheme")
            names = ("q_scale", "q_zero_point") if a.qscheme() == torch.per_tensor_affine else (
                "q_per_channel_scales", "q_per_channel_zero_points", "q_per_channel_axis")
            for n in names: self.need(str(getattr(a, n)()) == str(getattr(b, n)()), n)
        if not a.is_meta: self.storage(a.storage(), b.storage())

    def storage(self, a, b):
        """The same bytes; and one storage there for one storage here."""
        a, b = untyped(a), untyped(b)
        self.need(a.nbytes() == b.nbytes(), f"a storage of {a.nbytes()} bytes has become one of {b.nbytes()}")
        if a.nbytes() == 0: return
        known = self.storages.setdefault(a.data_ptr(), b.data_ptr())
        self.need(known == b.data_ptr(), "storage shared differently")
        self.need(raw(a).digest() == raw(b).digest(), "other bytes in the storage")


def untyped(storage): return storage if isinstance(storage, torch.UntypedStorage) else storage.untyped()


def raw(storage):
    """Hash of an untyped storage's bytes."""
    if storage.nbytes() == 0: return hashlib.sha256()
    t = torch.empty(0, dtype=torch.uint8).set_(torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.uint8))
    return hashlib.sha256(t.numpy().tobytes())
