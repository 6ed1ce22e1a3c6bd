#!/usr/bin/env python3
"""torch_graphs.py CKPT [--count N] [--seed S]: random graphs with real tensors: torch.save -> ckpt -> torch.load. One line of TAP.

Tensors of every dtype that this PyTorch can save, with any strides and offsets, shared storages, requires_grad, parameters,
conjugate and negative bits, quantised and sparse ones, in random containers and objects. Files are zip archives or legacy streams,
of protocols 2 to 5; `ckpt run` opens each and saves it again.
"""
import argparse
import collections
import os
import subprocess
import sys
import tempfile
import warnings

import torch

import describe
import random_graph

warnings.simplefilter("ignore")


def dtypes(**options):
    """Those that this PyTorch can save and load again; the later ones not in legacy streams."""
    names = ("uint8 int8 int16 int32 int64 float16 float32 float64 complex32 complex64 complex128 bool bfloat16 uint16 uint32 uint64 "
             "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu").split()
    found = [getattr(torch, name) for name in names if hasattr(torch, name)]
    return [d for d in found if can_be_kept(d, options)]


def can_be_kept(dtype, options):
    with tempfile.TemporaryFile() as file:
        try:
            torch.save(torch.empty(1, dtype=dtype), file, **options)
            file.seek(0)
            torch.load(file, weights_only=False)
        except Exception: return False
    return True


DTYPES = {new_format: dtypes(_use_new_zipfile_serialization=new_format) for new_format in (True, False)}
ITEMSIZE = {d: torch.empty(0, dtype=d).element_size() for d in DTYPES[True]}


class TorchMaker(random_graph.Maker):
    torch = torch

    def __init__(self, *args):
        super().__init__(*args)
        self.new_format = not self.chance(3)
        self.makers += 8 * [self.tensor]

    def storage(self):
        """A one-dimensional tensor that has the storage for itself."""
        if not self.storages or (len(self.storages) < 4 and self.chance(3)):
            dtype = self.random.choice(DTYPES[self.new_format])
            n = self.below(40)
            data = bytearray(self.below(2) if dtype == torch.bool else self.below(256) for _ in range(n * ITEMSIZE[dtype]))
            self.storages.append(torch.frombuffer(data, dtype=dtype).clone() if n > 0 else torch.empty(0, dtype=dtype))
        return self.random.choice(self.storages)

    def tensor(self):
        kind = self.below(12)
        if kind == 0: return self.quantised()
        if kind == 1: return self.sparse()
        base = self.storage()
        offset, size, stride = self.view(base.numel())
        t = base.as_strided(size, stride, offset)
        if kind == 2: return torch.empty_strided(size, stride, dtype=t.dtype, device="meta")
        if t.dtype.is_complex and self.chance(2): t = t.conj()
        if t.dtype.is_floating_point and self.chance(6): t = torch._neg_view(t)
        if t.dtype.is_floating_point and kind == 3: return torch.nn.Parameter(t.detach(), self.chance(2))
        can_grad = t.dtype.is_floating_point and t.dtype in DTYPES[False]  # PyTorch 2.14 cannot load a float8 that requires it
        return t.detach().requires_grad_(can_grad and self.chance(3))

    def quantised(self):
        t = torch.rand(3, 2, generator=torch.Generator().manual_seed(self.below(1 << 30)))
        dtype = self.random.choice((torch.quint8, torch.qint8, torch.qint32))
        if self.chance(2): return torch.quantize_per_tensor(t, 0.1, 3, dtype).t()
        return torch.quantize_per_channel(t, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64), torch.tensor([0, 1, 2]), 0, dtype)

    def sparse(self):
        t = torch.eye(3, dtype=self.random.choice((torch.float32, torch.int64)))
        return t.to_sparse() if self.chance(2) else t.to_sparse_csr()


# ---- tensors in the text of describe.py ----


def put_tensor(d, v):
    if not d.node(v): return
    d.put(f"X{type(v).__name__} {v.dtype} {tuple(v.shape)} {v.layout}{' grad' * v.requires_grad}")
    if v.layout == torch.strided: put_strided(d, v)
    else:
        d.put("\n")
        parts = (v._indices(), v._values(), v.is_coalesced()) if v.layout == torch.sparse_coo else (v.crow_indices(), v.col_indices(), v.values())
        d.later(*parts)
    if vars(v): d.later(vars(v))


def put_strided(d, v):
    d.put(f" {v.stride()} {v.storage_offset()}{' conj' * v.is_conj()}{' neg' * v.is_neg()}")
    if v.is_quantized:
        d.put(f" {v.qscheme()}")
        if v.qscheme() == torch.per_tensor_affine: d.put(f" {v.q_scale()!r} {v.q_zero_point()}")
        else: d.later(v.q_per_channel_scales(), v.q_per_channel_zero_points(), v.q_per_channel_axis())
    if v.is_meta: return d.put(" meta\n")
    s = v.storage() if not hasattr(v, "untyped_storage") else v.untyped_storage()
    return d.put(f" #{storage_number(d, s)}\n")


def storage_number(d, storage):
    """An empty storage has no address and so no identity."""
    if len(storage) == 0: return "empty"
    if storage.data_ptr() in d.storages: return d.storages[storage.data_ptr()]
    d.storages[storage.data_ptr()] = at = len(d.storages)
    d.kept.append(storage)
    untyped = storage if isinstance(storage, torch.UntypedStorage) else storage.untyped()
    return f"{at}=" + bytes(untyped.tolist()).hex()


describe.METHODS.update({
    torch.Tensor: put_tensor, torch.nn.Parameter: put_tensor, torch.Size: describe.Describer.size})


# ---- the test ----


def load(path):
    """Files of our own making, with classes of our own."""
    return torch.load(path, weights_only=False)


def check(lua, work, seed, counts):
    maker = TorchMaker(seed, 5, False)
    maker.share_arguments = False
    graph = maker.graph()
    options = {"pickle_protocol": 2 + maker.below(4), "_use_new_zipfile_serialization": maker.new_format}
    here = {n: os.path.join(work, n) for n in ("in.pth", "out.pth")}
    torch.save(graph, here["in.pth"], **options)
    counts["zip" if options["_use_new_zipfile_serialization"] else "legacy"] += 1
    counts[f"protocol {options['pickle_protocol']}"] += 1
    want = describe.describe(load(here["in.pth"]), 5, True)
    counts["tensors"] += want.count(b"\nX") + want.startswith(b"X")
    lua.stdin.write(f"{here['in.pth']}\t{here['out.pth']}\n")
    lua.stdin.flush()
    answer = lua.stdout.readline().strip()
    if answer != "ok": return f"seed {seed} ({options}): {answer or 'ckpt is gone'}"
    try: got = describe.describe(load(here["out.pth"]), 5, True)
    except Exception as e: return f"seed {seed} ({options}): PyTorch: {type(e).__name__}: {e}"
    if got == want: return None
    return f"seed {seed} ({options}): {describe.first_difference(want, got)}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ckpt")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    seeds, failures, counts = range(args.seed, args.seed + args.count), [], collections.Counter()
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "resave.lua")
    with tempfile.TemporaryDirectory() as work:
        lua = subprocess.Popen([args.ckpt, "run", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        describe.deep(lambda: failures.extend(filter(None, (check(lua, work, seed, counts) for seed in seeds))))
        lua.stdin.close()
        if lua.wait() != 0: failures.append(f"ckpt ended with status {lua.returncode}")
    print("1..1")
    print(f"{'not ok' if failures or not seeds else 'ok'} 1 - {len(seeds) - len(failures)} of {len(seeds)} files of torch.save, saved"
          f" again by ckpt, are loaded equal by PyTorch {torch.__version__} (seeds {seeds[0]} to {seeds[-1]})")
    for line in failures[:20]: print("#", line)
    print("#", ", ".join(f"{k}: {counts[k]}" for k in sorted(counts)))
    return 1 if failures else 0


if __name__ == "__main__": sys.exit(main())
