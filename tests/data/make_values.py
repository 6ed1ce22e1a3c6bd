#!/usr/bin/env python3
"""Makes values.pth, one value of every kind that a checkpoint may hold, and module.pth, a module saved whole, in a
directory. Needs PyTorch (2.14 made those here: 1.13 drops the attributes of a tensor)."""
import argparse
import collections
import os
import sys

import torch


def values():
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    marked = torch.tensor([3.0, 4.0])
    marked.tag = {"sharded": True, "extra": torch.tensor([9])}
    shared = [1, 2]
    model = collections.OrderedDict([("module.fc.weight", w.detach()), ("module.fc.bias", torch.zeros(2))])
    model._metadata = collections.OrderedDict([("", {"version": 1}), ("module", {"version": 2})])
    root = {
        "none": None, "yes": True, "no": False, "int": -7, "max": 2**63 - 1,
        "big": 123456789012345678901234567890, "negative": -2**64, "float": 0.1, "whole": 2.0,
        "inf": float("inf"), "nan": float("nan"),
        "str": "h\u00e9\U0001f600", "nul": "a\0b", "surrogate": "x\ud800y", "empty": "",
        "bytes": b"\0\xff\x80", "bytearray": bytearray(b"ab\xff"), "no_bytes": b"",
        "list": [1, "two", [3.0]], "tuple": (1, (2,), ()), "shared": shared, "again": shared,
        "set": {1, 2, 3}, "frozenset": frozenset(["a"]), "empty_set": set(),
        "keys": {1: "int", 2.5: "float", (1, "a"): "tuple", b"k": "bytes", None: "none", True: "shadows 1",
                 frozenset([4]): "frozenset"},
        "model": model, "counter": collections.Counter("aab"), "default": collections.defaultdict(list, {"k": [1]}),
        "namespace": argparse.Namespace(lr=0.1, betas=(0.9, 0.999), w=w.detach()),
        "complex": 1 - 2j, "size": torch.Size([2, 3]), "device": torch.device("cuda", 1), "cpu": torch.device("cpu"),
        "dtype": torch.float16, "class": collections.OrderedDict,
        "weight": w, "marked": marked, "view": torch.arange(6).reshape(2, 3).t(), "scalar": torch.tensor(3),
        "range": range(1, 5, 2),
    }
    root["self"] = root
    root["loop"] = [root["list"]]
    root["loop"].append(root["loop"])
    return root


def module():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.BatchNorm1d(3))
    net.register_buffer("scratch", torch.zeros(1), persistent=False)
    net.again = net[0]
    return {"net": net, "names": list(net.state_dict())}


if __name__ == "__main__":
    directory = sys.argv[1] if len(sys.argv) > 1 else "."
    torch.save(values(), os.path.join(directory, "values.pth"))
    torch.save(module(), os.path.join(directory, "module.pth"))
