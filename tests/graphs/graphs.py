#!/usr/bin/env python3
"""graphs.py DRIVER [--count N] [--seed S] [--jobs J] [--show SEED]: random object graphs between Python's pickler and ckpt. TAP.

  1  a graph that one of Python's picklers wrote (protocol 0 to 5, the C and the Python one) is read equal by ckpt
  2  what ckpt has read and writes again is read by Python, equal to the graph that it began with
  3  a graph that ckpt made and wrote is read equal by Python

Equal is isomorphic: the same values in the same order, what was one object is one, cycles where there were cycles.
Seed S+i gives the i-th graph; --show tells all about one.
"""
import argparse
import collections
import io
import multiprocessing
import os
import pickle
import pickletools
import random
import struct
import subprocess
import sys

import describe
import fake_torch
import random_graph

ALLOWED = {"builtins", "collections", "copyreg", "datetime", "decimal", "fractions", "functools", "pathlib", "argparse", "types",
           "graph_classes", "torch", "torch._utils", "torch.storage", "torch._tensor", "_codecs", "__builtin__", "copy_reg", "exceptions"}


fake_torch.install()


class Persistent:
    """Storages go out of the pickle, under the keys of their first appearance."""
    def persistent_id(self, v):
        if not isinstance(v, fake_torch.Storage): return None
        key = self.keys.setdefault(id(v), str(len(self.keys)))
        self.storages[key] = v
        return v.persistent_id(key)


class CPickler(Persistent, pickle.Pickler):
    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.keys, self.storages = {}, {}


class PythonPickler(Persistent, pickle._Pickler):
    def __init__(self, file, protocol):
        super().__init__(file, protocol)
        self.keys, self.storages = {}, {}


class Python2Pickler(PythonPickler):
    """Its str are bytes, as Python 2's were: STRING, BINSTRING, SHORT_BINSTRING."""
    dispatch = dict(pickle._Pickler.dispatch)

    def save_text(self, v):
        try: data = v.encode()
        except UnicodeEncodeError: return self.save_str(v)
        if self.proto == 0: self.write(b"S" + (repr(data)[1:]).encode() + b"\n")
        elif len(data) < 256: self.write(b"U" + struct.pack("<B", len(data)) + data)
        else: self.write(b"T" + struct.pack("<i", len(data)) + data)
        return self.memoize(v)

    dispatch[str] = save_text


class Unpickler(pickle.Unpickler):
    def __init__(self, data, storages):
        super().__init__(io.BytesIO(data), encoding="utf-8")
        self.data, self.storages = storages, {}

    def persistent_load(self, pid):
        tag, cls, key, _, numel = pid
        if key not in self.storages: self.storages[key] = fake_torch.Storage(cls, self.data[key])
        assert tag == "storage" and self.storages[key].persistent_id(key)[4] == numel, pid
        return self.storages[key]

    def find_class(self, module, name):
        if module not in ALLOWED: raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


class DriverGone(Exception): pass


class Driver:
    """The C side, in a process of its own (driver.c)."""
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def blob(self):
        n = struct.unpack("<I", self.process.stdout.read(4))[0]
        return self.process.stdout.read(n)

    def ask(self, request):
        """(description, pickle, storages), or a RuntimeError with what ckpt says."""
        self.process.stdin.write(request)
        self.process.stdin.flush()
        status = self.process.stdout.read(1)
        if status == b"": raise DriverGone(f"the driver ended with status {self.process.wait()}")
        text = self.blob()
        if status != b"\0": raise RuntimeError(text.decode(errors="replace"))
        data = self.blob()
        n = struct.unpack("<I", self.process.stdout.read(4))[0]
        return text, data, {self.blob().decode(): self.blob() for _ in range(n)}

    def read(self, data, storages):
        counted = lambda b: struct.pack("<I", len(b)) + b
        parts = [b"R", struct.pack("<I", len(storages))]
        parts += [counted(key.encode()) + counted(s.data) for key, s in storages.items()]
        return self.ask(b"".join(parts) + counted(data))

    def make(self, seed): return self.ask(b"M" + struct.pack("<Q", seed))


def write(seed):
    """The graph of a seed, its pickle, its storages, the protocol, and what wrote it."""
    choice = random.Random(-seed - 1)
    protocol = choice.randrange(6)
    kinds = [CPickler, CPickler, PythonPickler] + ([Python2Pickler] if protocol <= 2 else [])
    kind, optimised = choice.choice(kinds), choice.randrange(12) == 0
    optimised = optimised and kind is not Python2Pickler  # whose STRINGs pickletools takes for ASCII
    graph = random_graph.make(seed, protocol, kind is not CPickler)
    out = io.BytesIO()
    pickler = kind(out, protocol)
    pickler.dump(graph)
    data = pickletools.optimize(out.getvalue()) if optimised else out.getvalue()
    return graph, data, pickler.storages, protocol, kind.__name__ + (" optimised" if optimised else "")


def kept_by_python(graph, data, storages):
    """Whether Python's own unpickler gives the graph back."""
    again = Unpickler(data, {key: s.data for key, s in storages.items()}).load()
    return describe.describe(again, 5, True) == describe.describe(graph, 5, True)


def check_python(driver, seed, counts):
    graph, data, storages, protocol, kind = write(seed)
    want = describe.describe(graph, protocol)
    counts[f"protocol {protocol}"] += 1
    counts[kind] += 1
    try: got, ours, our_storages = driver.read(data, storages)
    except RuntimeError as e: return f"seed {seed} ({kind}, protocol {protocol}): {e}", None
    failure = None if got == want else f"seed {seed} ({kind}, protocol {protocol}): read: {describe.first_difference(want, got)}"
    if kind == "CPickler" and protocol == 2: counts["written byte for byte as CPython's protocol 2"] += ours == data
    want = describe.describe(graph, 5, True)
    try: got = describe.describe(Unpickler(ours, our_storages).load(), 5, True)
    except Exception as e: return failure, f"seed {seed} ({kind}, protocol {protocol}): Python: {type(e).__name__}: {e}"
    if got != want:  # the original pickle may not give the graph back either: arguments of a call are a new tuple
        want = describe.describe(Unpickler(data, {key: s.data for key, s in storages.items()}).load(), 5, True)
        counts["not as they were, but as Python reads them"] += got == want
    rewritten = None if got == want else f"seed {seed} ({kind}, protocol {protocol}): rewritten: {describe.first_difference(want, got)}"
    return failure, rewritten


def check_ours(driver, seed):
    try: want, data, storages = driver.make(seed)
    except RuntimeError as e: return f"seed {seed}: {e}"
    try: got = describe.describe(Unpickler(data, storages).load(), 5, True)
    except Exception as e: return f"seed {seed}: Python: {type(e).__name__}: {e}"
    return None if got == want else f"seed {seed}: {describe.first_difference(want, got)}"


def work(arguments):
    path, seeds = arguments
    driver, counts, failures = Driver(path), collections.Counter(), ([], [], [])

    def run():
        for seed in seeds:
            try: failed = *check_python(driver, seed, counts), check_ours(driver, seed)
            except Exception as e:  # all that were to follow have not been tried
                for kind in failures: kind.extend(f"seed {s}: {type(e).__name__} at seed {seed}: {e}" for s in seeds if s >= seed)
                return
            for i in range(3):
                if failed[i] is not None: failures[i].append(failed[i])
        driver.process.stdin.close()
        status = driver.process.wait()
        if status != 0: failures[0].append(f"the driver ended with status {status}")

    describe.deep(run)
    return counts, failures


def show(path, seed):
    graph, data, storages, protocol, kind = write(seed)
    print(kind, protocol, data[:3000])
    pickletools.dis(data)
    driver = Driver(path)
    print(describe.describe(graph, protocol).decode(errors="replace"))
    try: got, ours, _ = driver.read(data, storages)
    except RuntimeError as e: raise SystemExit(str(e))
    print("---- ckpt\n" + got.decode(errors="replace"))
    pickletools.dis(ours)
    print("Python keeps it:", kept_by_python(graph, data, storages))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver")
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--show", type=int)
    args = parser.parse_args()
    if args.show is not None: return describe.deep(lambda: show(args.driver, args.show))
    seeds = range(args.seed, args.seed + args.count)
    counts, failures = collections.Counter(), ([], [], [])
    with multiprocessing.Pool(args.jobs) as pool:
        for c, f in pool.imap(work, [(args.driver, seeds[i::args.jobs * 4]) for i in range(args.jobs * 4)]):
            counts += c
            for i in range(3): failures[i].extend(f[i])
    names = ("graphs of Python's picklers are read equal", "of them, written by ckpt, are read equal by Python",
             "graphs made by ckpt are read equal by Python")
    print("1..3")
    for i, name in enumerate(names):
        print(f"{'not ok' if failures[i] or args.count == 0 else 'ok'} {i + 1} - {args.count - len(failures[i])} of {args.count} {name}"
              f" (seeds {seeds[0]} to {seeds[-1]})")
        for line in failures[i][:20]: print("#", line)
    print("#", ", ".join(f"{k}: {counts[k]}" for k in sorted(counts)))
    return sum(map(len, failures))


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
