"""inside_same.py ORIGINAL COPY | inside_same.py --weights-only FILE: PyTorch's word on a rewritten or sanitised file.

Loads both and compares them to the last bit: types, tensors with their layout, stride, offset, bits and storages,
attributes, numpy arrays, cycles and sharing. Prints "same", "loads", or what differs; exit status 0 or 1.
"""
import collections
import os
import sys
import warnings

warnings.simplefilter("ignore")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data"))
import numpy as np
import torch


class Compare:
    def __init__(self):
        self.seen = {}  # id in the original -> id in the copy: what was one object is one object

    def check(self, equal, path, *what):
        if not equal:
            raise AssertionError("%s: %s" % (path, ", ".join(map(repr, what))))

    def dense(self, a, b, path):
        self.check(a.stride() == b.stride() and a.storage_offset() == b.storage_offset(), path, "strides differ")
        if a.is_quantized:
            self.check(a.qscheme() == b.qscheme() and torch.equal(a.dequantize(), b.dequantize()), path, "quantised")
        if hasattr(a, "untyped_storage"):
            self.check(bytes(a.untyped_storage()) == bytes(b.untyped_storage()), path, "bytes differ")
        else:
            self.check(list(a.storage()) == list(b.storage()), path, "storages differ")

    def tensor(self, a, b, path):
        for what in ("layout", "dtype", "requires_grad", "is_meta", "is_nested", "is_quantized"):
            self.check(getattr(a, what) == getattr(b, what), path, what)
        self.check(a.is_conj() == b.is_conj() and a.is_neg() == b.is_neg(), path, "conj or neg")
        self.value(vars(a), vars(b), path + ".__dict__")
        if a.is_nested:
            self.value(list(a.unbind()), list(b.unbind()), path)
            return
        self.check(a.shape == b.shape, path, a.shape, b.shape)
        if a.is_meta:
            return
        if a.layout == torch.strided:
            self.dense(a, b, path)
        else:
            self.value(a.to_dense().detach(), b.to_dense().detach(), path)

    def array(self, a, b, path):
        self.check(a.dtype == b.dtype and a.shape == b.shape, path, a.dtype, b.dtype)
        if a.dtype == object:
            self.value(list(a.flat), list(b.flat), path)
        else:
            self.check(a.tobytes() == b.tobytes() and getattr(a, "strides", 0) == getattr(b, "strides", 0), path, a, b)

    def mapping(self, a, b, path):
        self.check(len(a) == len(b), path, len(a), len(b))
        for (i, x), (k, y) in zip(a.items(), b.items()):
            self.value(i, k, path + " key")
            self.value(x, y, "%s.%s" % (path, i if isinstance(i, (str, int)) else "?"))

    def attributes(self, a, b, path):
        if hasattr(a, "__dict__"):
            self.value(vars(a), vars(b), path + ".__dict__")
        for name in getattr(type(a), "__slots__", ()):
            if hasattr(a, name) and not name.startswith("__"):
                self.value(getattr(a, name), getattr(b, name), path + "." + name)

    def value(self, a, b, path):
        self.check(type(a) is type(b), path, type(a), type(b))
        if a is None or isinstance(a, (bool, int, str, bytes, type, torch.dtype, torch.layout)) or callable(a) and a is b:
            return self.check(a == b, path, a, b)
        if isinstance(a, float):
            return self.check(a == b or (a != a and b != b), path, a, b)
        if id(a) in self.seen:
            return self.check(self.seen[id(a)][0] == id(b), path, "not the same object as before")
        self.seen[id(a)] = id(b), a, b
        if isinstance(a, torch.Tensor):
            self.tensor(a, b, path)
        elif isinstance(a, (np.ndarray, np.generic)):
            self.array(a, b, path)
        elif isinstance(a, dict):
            self.mapping(a, b, path)
            self.attributes(a, b, path)
        elif isinstance(a, (list, tuple, collections.deque)):
            self.check(len(a) == len(b) and getattr(a, "maxlen", 0) == getattr(b, "maxlen", 0), path, a, b)
            for i, (x, y) in enumerate(zip(a, b)):
                self.value(x, y, "%s[%d]" % (path, i))
        elif type(a).__eq__ is object.__eq__:
            self.attributes(a, b, path)
            if hasattr(a, "func"):
                self.value((a.func, a.args, a.keywords), (b.func, b.args, b.keywords), path)
        else:
            self.check(a == b, path, a, b)


def load(path, weights_only):
    options = {} if not weights_only and not hasattr(torch, "uint16") else {"weights_only": weights_only}
    return torch.load(path, **options)


def main(first, second):
    try:
        if first == "--weights-only":
            load(second, True)
            print("loads")
        else:
            Compare().value(load(first, False), load(second, False), "")
            print("same")
    except Exception as error:
        print("%s: %s" % (type(error).__name__, str(error)[-300:]))
        sys.exit(1)


main(sys.argv[1], sys.argv[2])
