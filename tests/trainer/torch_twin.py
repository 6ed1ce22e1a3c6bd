#!/usr/bin/env python3
"""torch_twin.py - the trainer's network, SGD and StepLR in PyTorch (1.13 or 2.x), to meet the C trainer over its files.

  torch_twin.py check FILE DUMP                    FILE against the trainer's --dump, bit for bit; PyTorch takes it all
  torch_twin.py continue IN OUT DUMP --epochs K    K more epochs by PyTorch, saved by torch.save; --plain leaves out
                                                   what PyTorch alone would not write (param_names)

A dump is what trainer.h says: weights and momentum (float32), lr (float64), iteration (int64), shuffle (32 bytes).
Exit status 1 and a sentence on stderr when something differs. The digits are $CKPT_DATA or ../data/optdigits.pth.
"""
import argparse
import os
import struct
import sys
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

BATCH, STEP_SIZE, GAMMA = 32, 8, 0.5
SHUFFLE_BYTES = 32
HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.environ.get("CKPT_DATA", os.path.join(HERE, "..", "data", "optdigits.pth"))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.fc1 = nn.Linear(256, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x.view(-1, 1, 8, 8))), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def fail(message):
    sys.exit(f"torch_twin: {message}")


def load(path):
    """Weights only, as is PyTorch's own default since 2.6; that of 1.13 does not yet know a float."""
    weights_only = int(torch.__version__.split(".")[0]) >= 2
    return torch.load(path, map_location="cpu", weights_only=weights_only)


def raw(tensor):
    return bytes(tensor.detach().contiguous().view(-1).view(torch.uint8).tolist())


def parameters(model):
    return OrderedDict(model.named_parameters())


# ---- the state of a run -------------------------------------------------------------------------------------------


def restore(checkpoint):
    """Model, optimizer and schedule as the checkpoint has them; PyTorch itself judges names, shapes and layout."""
    model = Net()
    model.load_state_dict(checkpoint["model"], strict=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    optimizer.load_state_dict(checkpoint["optimizer"])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, STEP_SIZE, GAMMA)
    schedule.last_epoch = checkpoint["scheduler"]["iteration"]
    return model, optimizer, schedule


def dump(model, optimizer, iteration, shuffle):
    names = parameters(model)
    weights = b"".join(raw(p) for p in names.values())
    momentum = b"".join(raw(optimizer.state[p]["momentum_buffer"]) for p in names.values())
    lr = optimizer.param_groups[0]["lr"]
    return weights + momentum + struct.pack("<dq", lr, iteration) + raw(shuffle)


def digits(split):
    data = load(DATA)
    return data[f"{split}_x"].float() / 16, data[f"{split}_y"].long()


def accuracy(model):
    x, y = digits("test")
    with torch.no_grad():
        return (model(x).argmax(1) == y).double().mean().item()


# ---- check --------------------------------------------------------------------------------------------------------


def check_tensors(checkpoint, expected):
    """The file's own tensors against the dump, before PyTorch's modules have touched them."""
    at = 0
    state = checkpoint["optimizer"]["state"]
    parts = [(f"model.{n}", t) for n, t in checkpoint["model"].items()]
    parts += [(f"momentum of {n}", state[i]["momentum_buffer"]) for i, n in enumerate(checkpoint["model"])]
    for name, tensor in parts:
        data = raw(tensor)
        if tensor.dtype != torch.float32 or data != expected[at : at + len(data)]:
            fail(f"{name} differs from the trainer's memory")
        at += len(data)
    return at


def check_group(optimizer, names):
    group = optimizer.param_groups[0]
    wanted = {"momentum": 0.9, "dampening": 0.0, "weight_decay": 1e-4, "nesterov": False, "maximize": False}
    for key, value in wanted.items():
        if group[key] != value or isinstance(group[key], bool) != isinstance(value, bool):
            fail(f"param_groups[0]['{key}'] is {group[key]!r}, expected {value!r}")
    if group["param_names"] != list(names):
        fail(f"param_names are {group['param_names']}")


def check(args):
    checkpoint = load(args.file)
    with open(args.dump, "rb") as f:
        expected = f.read()
    tensors = check_tensors(checkpoint, expected)
    model, optimizer, _ = restore(checkpoint)
    iteration = checkpoint["scheduler"]["iteration"]
    if type(iteration) is not int or len(expected) != tensors + 16 + SHUFFLE_BYTES:
        fail(f"iteration is {iteration!r}, the dump has {len(expected)} bytes")
    if dump(model, optimizer, iteration, checkpoint["rng"]["shuffle"]) != expected:
        fail("what PyTorch loaded differs from the trainer's memory")
    check_group(optimizer, parameters(model))
    here, there = accuracy(model), checkpoint["scheduler"]["info"]["cur_acc"]
    if abs(here - there) > 0.002:  # sums in another order may turn a digit or two
        fail(f"the net has accuracy {here:.4f} in PyTorch and {there:.4f} in the trainer")
    print(f"# torch {torch.__version__}: accuracy {here:.4f}, the trainer's {there:.4f}")


# ---- continue -----------------------------------------------------------------------------------------------------


def train_epoch(model, optimizer):
    x, y = digits("train")
    for rows in torch.randperm(len(y)).split(BATCH):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()


def note_epoch(scheduler, model, steps):
    info = scheduler["info"]
    scheduler["iteration"] += 1
    scheduler["step"] += steps
    info["cur_epoch"], info["cur_acc"] = scheduler["iteration"], accuracy(model)
    if info["cur_acc"] >= info["best_acc"]:
        info["best_epoch"], info["best_acc"] = info["cur_epoch"], info["cur_acc"]


def optimizer_dict(optimizer, plain):
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        if plain:
            group.pop("param_names", None)
    return state


def carry_on(args):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    checkpoint = load(args.file)
    model, optimizer, schedule = restore(checkpoint)
    scheduler = checkpoint["scheduler"]
    for _ in range(args.epochs):
        train_epoch(model, optimizer)
        schedule.step()
        note_epoch(scheduler, model, -(-len(digits("train")[1]) // BATCH))
        print(f"# torch epoch {scheduler['iteration']}: accuracy {scheduler['info']['cur_acc']:.4f}")
    if schedule.last_epoch != scheduler["iteration"]:
        fail(f"StepLR is at epoch {schedule.last_epoch}, the run at {scheduler['iteration']}")
    torch.save({"model": model.state_dict(), "optimizer": optimizer_dict(optimizer, args.plain),
                "scheduler": scheduler, "rng": checkpoint["rng"], "epoch": scheduler["iteration"]}, args.out)
    with open(args.dump, "wb") as f:
        f.write(dump(model, optimizer, scheduler["iteration"], checkpoint["rng"]["shuffle"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    mode = modes.add_parser("check")
    mode.add_argument("file")
    mode.add_argument("dump")
    mode.set_defaults(run=check)
    mode = modes.add_parser("continue")
    mode.add_argument("file")
    mode.add_argument("out")
    mode.add_argument("dump")
    mode.add_argument("--epochs", type=int, default=2)
    mode.add_argument("--plain", action="store_true")
    mode.set_defaults(run=carry_on)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
