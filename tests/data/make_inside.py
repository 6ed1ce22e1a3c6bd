#!/usr/bin/env python3
"""make_inside.py DIRECTORY: the files inside_*.pth of the specs and tests about what is inside a checkpoint.

PyTorch 2.7 or later with numpy 2 makes all but inside_numpy1.pth, which an older PyTorch with numpy 1 makes. A composite tensor `x` has beside it `x_dense`: what PyTorch makes of it.
"""
import argparse
import collections
import datetime
import functools
import pathlib
import sys

import numpy as np
import torch

import inside_classes as own

T = torch.tensor


class Say:
    """Is pickled as the call function(*args)."""

    def __init__(self, function, *args):
        self.said = function, args

    def __reduce__(self):
        return self.said


# ---- objects that hold tensors ----

def listed():
    made = own.Listed(T([1.0]), 2)
    made.state = {"buffer": T([2.0])}
    made.append(T([3.0]))
    made["w"] = T([4.0])
    return made


def module():
    torch.manual_seed(0)
    made = torch.nn.Linear(2, 1)
    made.register_buffer("count", T(3))
    return made


def objects():
    shared = [T([7.0])]
    ring = {"name": "ring"}
    ring["self"] = ring
    linear = module()
    sgd = torch.optim.SGD(linear.parameters(), lr=0.5, momentum=0.9)
    linear(torch.ones(1, 2)).sum().backward()
    sgd.step()
    ordered = collections.OrderedDict(w=T([8.0]))
    ordered._metadata = {"": {"version": 1}}
    factory = collections.defaultdict(list)
    factory["w"] = T([9.0])
    return {
        "namespace": argparse.Namespace(lr=0.1, ema=T([1.5]), sub=argparse.Namespace(w=T([2.5]))),
        "listed": listed(), "slots": own.Slots(T([5.0]), "s"), "mode": own.Mode.TRAIN,
        "easy": own.Easy(w=T([6.0]), n=1), "factory": factory,
        "deque": collections.deque([T([10.0]), 2, 3], maxlen=3), "partial": functools.partial(print, T([11.0]), end=""),
        "path": pathlib.PurePosixPath("a/b"), "when": datetime.datetime(2020, 1, 2, 3, 4, 5),
        "point": own.Point(T([12.0]), 2), "module": linear, "optimizer": sgd, "ordered": ordered,
        "shared": [shared, shared], "ring": ring, "counter": collections.Counter("abca"),
        "set": {1, 2}, "empty_set": set(), "frozenset": frozenset([3]), "keys": {frozenset([1]): 1, (1, "a"): 2, 2.5: 3},
        "bytes": b"\x00\xff", "empty_bytes": b"", "bytearray": bytearray(b"xy"), "empty_bytearray": bytearray(),
        "complex": 1 - 2j, "big": 2 ** 70, "negative_big": -2 ** 64, "range": range(0, 10, 3), "slice": slice(1, None, 2),
        "size": torch.Size([2, 3]), "device": torch.device("cuda", 1), "cpu": torch.device("cpu"), "dtype": torch.float32,
        "layout": torch.sparse_coo, "memory_format": torch.channels_last, "class": own.Plain, "function": print,
        "plain": own.Plain(w=T([13.0])), "list": [1, own.Plain(w=T([14.0])), 3],
        "tuple": (own.Plain(a=1), T([15.0])), "kept": {"w": linear.weight},
    }


# ---- numpy ----

def arrays():
    c = np.arange(6, dtype="f4").reshape(2, 3)
    made = {
        "f64": np.float64(1.5), "f32": np.float32(0.25), "f16": np.float16(0.5), "i64": np.int64(-5), "u8": np.uint8(7),
        "u64": np.uint64(2 ** 64 - 1), "bool": np.bool_(True), "c64": np.complex64(1 + 2j), "c128": np.complex128(3 - 4j),
        "str": np.str_("h\u00e9"), "bytes": np.bytes_(b"ab"), "date": np.datetime64("2020-01-01"),
        "C": c, "F": np.asfortranarray(c), "T3": np.asfortranarray(np.arange(24, dtype="i2").reshape(2, 3, 4)),
        "big_endian": c.astype(">f4"), "big_complex": np.array([1 + 2j], dtype=">c16"), "zero": np.zeros((0, 3), "f8"),
        "scalar_array": np.array(2.5), "mask": np.array([True, False]), "u16": np.array([1, 65535], "u2"),
        "strings": np.array([["a", "bcd"], ["", "\u00fc\U0001f600"]]), "swapped_strings": np.array(["ab"], ">U2"),
        "byte_strings": np.array([b"a", b"bc"]), "objects": np.array([[1, "x"], [None, T([1.0])]], dtype=object),
        "records": np.array([(1, 2.0)], dtype="i4,f8"), "long": np.longdouble(1.5), "dtype": np.dtype("f4"),
        "rng": np.random.RandomState(0).get_state(), "times": np.array([1, 2], "m8[s]"),
    }
    plain = {name: torch.from_numpy(np.ascontiguousarray(made[name]).astype(made[name].dtype.newbyteorder("=")))
             for name in ("C", "F", "T3", "big_endian", "big_complex", "zero", "mask")}
    return {"numpy": made, "torch": plain}


# ---- tensors that are more, or made of others ----

def sparse():
    dense = T([[0, 1.0, 0, 2.0], [3.0, 0, 0, 0], [0, 0, 0, 0], [0, 4.0, 5.0, 0]])
    twice = torch.sparse_coo_tensor(T([[0, 0, 1], [2, 2, 0]]), T([1.0, 2.0, 4.0]), (2, 3))
    hybrid = torch.sparse_coo_tensor(T([[1, 0]]), T([[1, 2], [3, 4]]), (3, 2))
    batch = torch.stack([dense, dense.flip(0)])
    made = {
        "coo": dense.to_sparse(), "coo_twice": twice, "coo_hybrid": hybrid, "csr": dense.to_sparse_csr(),
        "csc": dense.to_sparse_csc(), "bsr": dense.to_sparse_bsr((2, 2)), "bsc": dense.to_sparse_bsc((1, 2)),
        "csr_batch": batch.to_sparse_csr(), "bsr_batch": batch.to_sparse_bsr((2, 1)),
        "csr_half": dense.to(torch.float16).to_sparse_csr(), "coo_complex": dense.to(torch.complex64).to_sparse(),
        "coo_empty": torch.sparse_coo_tensor(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0), (2, 2)),
        "csr_i32": torch.sparse_csr_tensor(T([0, 1, 1], dtype=torch.int32), T([1], dtype=torch.int32), T([1.0]), (2, 3)),
    }
    made.update({name + "_dense": t.to_dense() for name, t in list(made.items())})
    made["parameter"] = torch.nn.Parameter(dense.to_sparse())
    return made


def wrapped():
    ragged = torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(1, 3)])
    attributes = T([1.0, 2.0])
    attributes.note, attributes.twin = "hung on", T([3.0])
    parameter = torch.nn.Parameter(T([4.0]))
    parameter.rank = {"w": T([5.0])}
    conj = T([1 + 2j]).conj()
    neg = T([1 + 2j]).conj().imag
    return {
        "nested": ragged, "nested_parts": list(ragged.unbind()),
        "attributes": attributes, "parameter": torch.nn.Parameter(T([6.0])), "parameter_state": parameter,
        "sub": T([7.0]).as_subclass(own.Sub), "meta": torch.empty(2, 3, device="meta"), "conj": conj, "neg": neg,
    }


def devices():
    half = T([0.5, 1.5], dtype=torch.bfloat16)
    rebuild = torch._utils._rebuild_device_tensor_from_numpy
    return {
        "xla": Say(rebuild, half.float().numpy(), torch.bfloat16, "xla:0", False), "xla_dense": half,
        "maia": Say(torch._utils._rebuild_device_tensor_from_cpu_tensor, T([8.0]), torch.float32, "maia:0", True),
    }


def quantized():
    x = T([[-1.0, 0.5, 2.0], [3.0, -0.25, 0.0]])
    scales, zeros = T([0.25, 0.5], dtype=torch.float64), T([1, -2])
    floats = T([0.25, 0.5]), T([1.5, 2.0])
    made = {
        "qint8": torch.quantize_per_tensor(x, 0.25, 3, torch.qint8), "quint8": torch.quantize_per_tensor(x, 0.5, 10, torch.quint8),
        "qint32": torch.quantize_per_tensor(x, 0.125, -7, torch.qint32),
        "channel": torch.quantize_per_channel(x, scales, zeros, 0, torch.qint8),
        "channel1": torch.quantize_per_channel(x, T([0.5, 0.25, 1.0], dtype=torch.float64), T([0, 1, 2]), 1, torch.quint8),
        "float_channel": torch.quantize_per_channel(x, *floats, 0, torch.quint8),
        "packed": torch.quantize_per_channel(x.abs(), *floats, 0, torch.quint4x2),
    }
    made["view"] = made["qint8"][:, 1:]
    made.update({name + "_dense": t.dequantize() for name, t in list(made.items())})
    return made


def main():
    directory = sys.argv[1]

    def save(name, value, **options):
        torch.save(value, "%s/%s.pth" % (directory, name), **options)

    if not hasattr(torch, "uint16"):
        save("inside_numpy1", arrays())
        return
    save("inside_objects", objects())
    save("inside_numpy", arrays())
    save("inside_numpy5", arrays(), pickle_protocol=5)
    save("inside_keyword4", {"k": own.Keyword(weight=T([1.0]))}, pickle_protocol=4)
    save("inside_torch", {"sparse": sparse(), "wrapped": wrapped()})
    save("inside_quantized", quantized())
    save("inside_devices", devices())


if __name__ == "__main__":
    main()
