#!/usr/bin/env python3
"""make_safetensors.py - writes the pairs in tests/data/safetensors: NAME.pth by torch.save, and NAME.safetensors, which is
what safetensors.torch.save_file writes of the same tensors under flat names.

usage: make_safetensors.py [OUT_DIR]         (made with PyTorch 2.14.1 and safetensors 0.8.0)
"""
import os
import sys

import safetensors.torch
import torch

DTYPES = ("float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 complex64 float8_e4m3fn "
          "float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2").split()


def numbers(dtype):
    raw = torch.arange(16, dtype=torch.uint8)
    return (raw % 2 if dtype == "bool" else raw).view(getattr(torch, dtype))


CASES = {
    "dtypes": {name: numbers(name) for name in DTYPES},
    "views": {
        "transposed": torch.arange(6.0).reshape(2, 3).t(),
        "stepped": torch.arange(20)[::3],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "permuted": torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "conj": torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64).conj(),
        "neg": torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64).conj().imag,
        "pairs": torch.arange(12, dtype=torch.uint8).view(torch.float4_e2m1fn_x2).reshape(2, 6),
        "parameter": torch.nn.Parameter(torch.arange(3.0)),
    },
    "nested": {
        "model": {"fc.weight": torch.arange(12.0).reshape(3, 4), "fc.bias": torch.arange(3.0)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}, 1: {"exp_avg": torch.zeros(2)}}},
        "list": [torch.zeros(1), (torch.ones(2),)],
    },
    "names": {
        "\u00e9\U0001f600": torch.zeros(1), "quote\" back\\ slash/ \n\t\b\f\r\x01\x1f\x7f": torch.zeros(2),
        "Z": torch.zeros(1), "a": torch.zeros(1), "\u2028": torch.zeros(1), "": torch.zeros(3),
    },
    "none": {},
}


def flat(value, path=""):
    if isinstance(value, torch.Tensor):
        return {path.removeprefix("."): value}
    pairs = [(f".{k}", v) for k, v in value.items()] if isinstance(value, dict) else \
            [(f"[{i}]", v) for i, v in enumerate(value)]
    return {name: t for part, v in pairs for name, t in flat(v, path + part).items()}


def plain(t):
    """A tensor of its own, contiguous, without conj and neg bits: what save_file asks for."""
    return t.detach().resolve_conj().resolve_neg().contiguous().clone()


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "safetensors")
    for name, value in CASES.items():
        tensors = {key: plain(t) for key, t in flat(value).items()}
        torch.save(value, os.path.join(out, name + ".pth"))
        safetensors.torch.save_file(tensors, os.path.join(out, name + ".safetensors"))
    metadata = {"format": 'pt "\u00e9"\n'} # one pair: the library writes several in random order
    tensors = {key: plain(t) for key, t in flat(CASES["nested"]).items()}
    safetensors.torch.save_file(tensors, os.path.join(out, "metadata.safetensors"), metadata=metadata)


main()
