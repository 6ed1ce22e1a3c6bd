#!/usr/bin/env python3
"""lua_graphs.py CKPT [--count N] [--seed S] [--show SEED]: random graphs built in Lua, saved as .pth, read by Python. One line of TAP.

A graph of Python's is written down as Lua source (lua_source.py), `ckpt run` builds and saves it, Python reads the archive and
compares. PyTorch is not needed: tensors are those of fake_torch.py.
"""
import argparse
import os
import subprocess
import sys
import tempfile
import zipfile

import describe
import fake_torch
import graphs
import lua_source
import random_graph


class LuaMaker(random_graph.Maker):
    """What Lua has constructors for: tensors are views of new ones, of the dtypes that it takes numbers for."""
    share_arguments = False  # a function that is called with them gets a new tuple

    def storage(self):
        if not self.storages or (len(self.storages) < 4 and self.chance(3)):
            dtype = self.random.choice(list(lua_source.NUMBERS))
            size = fake_torch.DTYPES[dtype][1]
            n = 1 + self.below(40)
            data = bytes(self.below(2) for _ in range(n)) if dtype == "bool" else bytes(self.below(100) for _ in range(n * size))
            cls = getattr(fake_torch.torch, fake_torch.DTYPES[dtype][0])
            self.storages.append((dtype, fake_torch.Storage(cls, data)))
        return self.random.choice(self.storages)

    def tensor(self):
        dtype, storage = self.storage()
        size, stride, offset = [len(storage.data) // fake_torch.DTYPES[dtype][1]], [1], 0
        ops = f":slice(1, 1, {size[0]})"  # a tensor of its own
        for _ in range(self.below(5)):
            size, stride, offset, op = self.random.choice((self.slice, self.unsqueeze, self.permute, self.expand))(size, stride, offset)
            ops += op
        t = fake_torch.Tensor("_rebuild_tensor_v2", storage, dtype, offset, tuple(size), tuple(stride))
        t.made_by = ops
        if not self.chance(3): return t
        return fake_torch.Tensor("_rebuild_parameter", storage, dtype, offset, t.size, t.stride, dtype in fake_torch.FLOATS, inner=t)

    # each gives size, stride and offset of the view, and the method call of Lua (from 1, ends included)

    def slice(self, size, stride, offset):
        dim = self.below(len(size))
        if size[dim] == 0: return size, stride, offset, ""
        start = self.below(size[dim])
        stop = start + 1 + self.below(size[dim] - start)
        new = size[:dim] + [stop - start] + size[dim + 1:]
        return new, stride, offset + start * stride[dim], f":slice({dim + 1}, {start + 1}, {stop})"

    def unsqueeze(self, size, stride, offset):
        dim = self.below(len(size) + 1)
        step = size[dim] * stride[dim] if dim < len(size) else 1
        return size[:dim] + [1] + size[dim:], stride[:dim] + [step] + stride[dim:], offset, f":unsqueeze({dim + 1})"

    def permute(self, size, stride, offset):
        order = self.random.sample(range(len(size)), len(size))
        return [size[d] for d in order], [stride[d] for d in order], offset, ":permute({ %s })" % ", ".join(str(d + 1) for d in order)

    def expand(self, size, stride, offset):
        new = [3 if n == 1 and self.chance(2) else n for n in size]
        step = [0 if n != m else s for n, m, s in zip(size, new, stride)]
        return new, step, offset, ":expand({ %s })" % ", ".join(map(str, new))


def read(path):
    with zipfile.ZipFile(path) as z:
        records = {name.partition("/")[2]: z.read(name) for name in z.namelist()}
    storages = {name[5:]: data for name, data in records.items() if name.startswith("data/")}
    return graphs.Unpickler(records["data.pkl"], storages).load()


def check(lua, work, seed):
    graph = LuaMaker(seed, 5, False).graph()
    chunk, file = os.path.join(work, "graph.lua"), os.path.join(work, "graph.pth")
    with open(chunk, "w", encoding="utf-8") as out: out.write(lua_source.translate(graph))
    lua.stdin.write(f"{chunk}\t{file}\n")
    lua.stdin.flush()
    answer = lua.stdout.readline().strip()
    if answer != "ok": return f"seed {seed}: {answer or 'ckpt is gone'}"
    want = describe.describe(graph, 5, True)
    try: got = describe.describe(read(file), 5, True)
    except Exception as e: return f"seed {seed}: Python: {type(e).__name__}: {e}"
    return None if got == want else f"seed {seed}: {describe.first_difference(want, got)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    seeds, failures = range(args.seed, args.seed + args.count), []
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "lua_graphs.lua")
    with tempfile.TemporaryDirectory() as work:
        lua = subprocess.Popen([args.ckpt, "run", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        describe.deep(lambda: failures.extend(filter(None, (check(lua, work, seed) for seed in seeds))))
        lua.stdin.close()
        if lua.wait() != 0: failures.append(f"ckpt ended with status {lua.returncode}")
    print("1..1")
    print(f"{'not ok' if failures or not seeds else 'ok'} 1 - {len(seeds) - len(failures)} of {len(seeds)} graphs built in Lua, saved"
          f" as .pth, are read equal by Python (seeds {seeds[0]} to {seeds[-1]})")
    for line in failures[:20]: print("#", line)
    return 1 if failures else 0


if __name__ == "__main__": sys.exit(main())
