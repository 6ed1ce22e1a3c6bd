"""peer.py - the peer's side of the benchmark: PyTorch (any version from 1.13 on), and safetensors where it is installed.

Reads lines "operation argument..." and answers each with seconds or "error: sentence" (see bench.h).
"""
import os
import shutil
import sys
import time

import torch

try:
    from safetensors import torch as safetensors
except ImportError:
    safetensors = None

now = time.perf_counter
model = {}
VGG16 = [(0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256),
         (17, 256, 512), (19, 512, 512), (21, 512, 512), (24, 512, 512), (26, 512, 512), (28, 512, 512)]


def has(function, argument):
    return argument in function.__code__.co_varnames


def quick(path, **more):
    if has(torch.load, "weights_only"):
        more.setdefault("weights_only", True)
    return torch.load(path, **more)


def version():
    return torch.__version__ + (" safetensors" if safetensors else "")


def add_layer(name, *shape):
    model[name + ".weight"] = torch.randn(shape)
    model[name + ".bias"] = torch.randn(shape[0])


def make_model(kind, size):
    start = now()
    model.clear()
    torch.manual_seed(1)
    if kind == "many":
        for i in range(int(size)):
            part = ("query", "key", "value", "dense")[i % 4]
            model[f"module.encoder.layers.{i // 8}.attention.{'self' if i % 8 < 4 else 'output'}.{part}"] = \
                torch.randn(8, 4)
        return now() - start
    hidden = max(16, 4096 * int(size) // 553000000)
    for i, cin, cout in VGG16:
        add_layer(f"features.{i}", cout, cin, 3, 3)
    add_layer("classifier.0", hidden, 25088)
    add_layer("classifier.3", hidden, hidden)
    add_layer("classifier.6", 1000, hidden)
    return now() - start


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def save(path):
    if os.path.exists(path):
        os.unlink(path)
    start = now()
    torch.save(model, path)
    sync(path)
    return now() - start


def save_unsynced(path):
    if os.path.exists(path):
        os.unlink(path)
    start = now()
    torch.save(model, path)
    return now() - start


def save_copy(folder, epoch):
    """What Pet's CheckPointer does: torch.save, then a copy under the name of the latest."""
    start = now()
    path = os.path.join(folder, f"model_epoch{epoch}.pth")
    torch.save(model, path)
    shutil.copyfile(path, os.path.join(folder, "model_latest.pth"))
    return now() - start


def load(path):
    start = now()
    quick(path)
    return now() - start


def load_mmap(path):
    if not has(torch.load, "mmap"):
        raise RuntimeError("this PyTorch has no mmap=True")
    start = now()
    quick(path, mmap=True)
    return now() - start


def copy_into(state):
    with torch.no_grad():
        for name, tensor in model.items():
            tensor.copy_(state[name])


def load_into(path):
    start = now()
    copy_into(quick(path))
    return now() - start


def load_into_mmap(path):
    if not has(torch.load, "mmap"):
        raise RuntimeError("this PyTorch has no mmap=True")
    start = now()
    copy_into(quick(path, mmap=True))
    return now() - start


def need_safetensors():
    if safetensors is None:
        raise RuntimeError("safetensors is not installed for this Python")


def save_safetensors(path):
    need_safetensors()
    start = now()
    safetensors.save_file(model, path)
    return now() - start


def load_safetensors(path):
    need_safetensors()
    start = now()
    safetensors.load_file(path)
    return now() - start


def align(count):
    """Detectron2's alignment, which Pet has: a matrix of the lengths of matching suffixes."""
    parts = ("conv1.weight", "conv1.bias", "conv2.weight", "bn1.weight")
    ours = sorted(f"backbone.body.layer{1 + i // 1000}.{i // 4}.{parts[i % 4]}" for i in range(int(count)))
    theirs = sorted(name[len("backbone.body."):] for name in ours)
    start = now()
    matrix = [len(j) if i.endswith(j) else 0 for i in ours for j in theirs]
    torch.as_tensor(matrix).view(len(ours), len(theirs)).max(1)
    return now() - start


operations = {"model": make_model, "save": save, "save_unsynced": save_unsynced, "save_copy": save_copy, "load": load,
              "load_mmap": load_mmap, "load_into": load_into, "load_into_mmap": load_into_mmap,
              "save_safetensors": save_safetensors, "load_safetensors": load_safetensors, "align": align,
              "version": version}

for line in sys.stdin:
    words = line.split()
    try:
        answer = operations[words[0]](*words[1:])
        print(answer if isinstance(answer, str) else f"{answer:.9f}", flush=True)
    except Exception as error:  # told to the driver, which shows it in the row
        print("error: " + (str(error) or type(error).__name__).splitlines()[0], flush=True)
