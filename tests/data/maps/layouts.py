#!/usr/bin/env python3
"""layouts.py: reads the key lists beside it (README.md says how they are written).

layouts.py FILE [MODEL] prints them flat: `source|target NAME SHAPE DTYPE`, one line for each key."""
import itertools
import re
import sys


class Model:
    """One model of a list: its numbers, its configuration, and its keys: lists of (name, shape, dtype)."""

    def __init__(self, name, small, variables):
        self.name, self.small, self.vars = name, small, variables
        self.config, self.source, self.target = {}, [], []


def evaluate(text, variables):
    return int(eval(text, {"__builtins__": {}}, variables))


def brace(text, variables):
    """What one pair of braces runs over: (text, variables) pairs."""
    run = re.fullmatch(r"(?:(\w+)=)?(.+)\.\.(.+)", text)
    if not run:
        return [(word, variables) for word in text.split(",")]
    name, first, last = run.groups()
    values = range(evaluate(first, variables), evaluate(last, variables) + 1)
    return [(str(v), {**variables, name: v} if name else variables) for v in values]


def expand(text, variables):
    """Every name that a pattern stands for, leftmost braces slowest."""
    left, mid, right = text.partition("{")
    if not mid:
        return [(text, variables)]
    inside, _, rest = right.partition("}")
    return [(left + word + tail, known) for word, bound in brace(inside, variables) for tail, known in expand(rest, bound)]


def shape_of(text, variables):
    return [] if text == "-" else [evaluate(size, variables) for size in text.split(",")]


def add_line(model, side, line):
    condition = re.match(r"\?(\S+)\s+(.*)", line)
    if condition:
        if not evaluate(condition.group(1), model.vars):
            return
        line = condition.group(2)
    name, shape, dtype = (line.split() + ["float32"])[:3]
    for key, variables in expand(name, model.vars):
        getattr(model, side).append((key, shape_of(shape, variables), dtype))


def read(path):
    models, block, side, open_block = [], [], None, False
    for line in open(path, encoding="utf-8"):
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        word, *rest = line.split()[:1] or [""]
        if word in ("model", "small"):
            if not open_block:
                block, side, open_block = [], None, True
            name, *sizes = line.split()[1:]
            block.append(Model(name, word == "small", {k: int(v) for k, v in (s.split("=") for s in sizes)}))
            models.append(block[-1])
        elif word == "config":
            for model in block:
                model.config.update((k, evaluate(v, model.vars)) for k, v in (s.split("=") for s in line.split()[1:]))
        elif word in ("source", "target") and line == word:
            side, open_block = word, False
        elif line:
            for model in block:
                add_line(model, side, line)
    return models


if __name__ == "__main__":
    for model in read(sys.argv[1]):
        if len(sys.argv) > 2 and model.name not in sys.argv[2:]:
            continue
        for side in ("source", "target"):
            for name, shape, dtype in getattr(model, side):
                print(model.name, side, name, ",".join(map(str, shape)) or "-", dtype)
