#!/usr/bin/python3
"""make_torchvision.py: writes torchvision.txt, the keys and shapes of torchvision's own ResNets and VGG16 (no weights needed).

make_torchvision.py [OUT]   (torchvision 0.14.1 of Debian 12)"""
import os
import re
import sys

import torchvision

NAMES = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16"]
HERE = os.path.dirname(os.path.abspath(__file__))


def keys_of(name):
    """(key, shape, dtype) in the order of the state dict; a shape is text as the lists have it."""
    for key, tensor in getattr(torchvision.models, name)(weights=None).state_dict().items():
        yield key, ",".join(map(str, tensor.shape)) or "-", str(tensor.dtype).replace("torch.", "")


def runs(numbers):
    """Ascending numbers as runs of neighbours: [0, 1, 2, 5] -> (0, 2), (5, 5)."""
    first = last = None
    for n in sorted(numbers):
        if first is not None and n == last + 1:
            last = n
            continue
        if first is not None:
            yield first, last
        first = last = n
    yield first, last


def folded(keys):
    """Keys of one shape that differ by the number of their block only become one line, and so do those that differ by the last word."""
    blocks = {}
    for key, shape, dtype in keys:
        stage, number, rest = re.fullmatch(r"(layer\d\.)(\d+)(\..*)|.*", key).groups()
        at = (stage, rest, shape, dtype) if stage else (key, None, shape, dtype)
        blocks.setdefault(at, []).append(int(number) if stage else None)
    words = {}
    for (stage, rest, shape, dtype), numbers in blocks.items():
        for first, last in runs(numbers) if rest else [(None, None)]:
            number = str(first) if first == last else f"{{{first}..{last}}}"
            left, word = (stage + number + rest if rest else stage).rsplit(".", 1)
            words.setdefault((left, shape, dtype), []).append(word)
    for (left, shape, dtype), last in words.items():
        word = last[0] if len(last) == 1 else "{" + ",".join(last) + "}"
        yield f"{left}.{word} {shape}" + ("" if dtype == "float32" else f" {dtype}")


def main(path):
    lines = [f"# written by make_torchvision.py from torchvision {torchvision.__version__}"]
    for name in NAMES:
        lines += ["", f"model {name}", "source", *folded(keys_of(name))]
    with open(path, "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "torchvision.txt"))
