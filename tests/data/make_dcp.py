#!/usr/bin/env python3
"""make_dcp.py DIR: tiny torch.distributed.checkpoint directories, and what PyTorch itself reads from them.

DIR/plain, nested  one process; DIR/sharded  four ranks with gloo: rows, columns, a grid, uneven and replicated DTensors.
Each DIR/NAME.pth is torch.distributed.checkpoint.format_utils.dcp_to_torch_save of DIR/NAME. Made with PyTorch 2.14.
"""
import os, shutil, sys
from collections import OrderedDict

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save


def plain():
    return {"w": torch.arange(6.0).view(2, 3), "step": 7, "name": "plain"}


def nested():
    torch.manual_seed(1)
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "list": [torch.zeros(1), {"deep": [torch.ones(2), torch.ones(3).bfloat16()]}, 5],
        "tuple": (1, torch.arange(3)),
        "ordered": OrderedDict(b=1, a=torch.tensor(2.5)),
        "empty": torch.zeros(0, 4),
        "strided": torch.arange(12).view(3, 4).t(),
        "none": None,
        "big": 1 << 70,
    }


def sharded(rank, directory, port):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE="4", USE_LIBUV="0")
    dist.init_process_group("gloo")
    line, grid = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2))
    whole = torch.arange(24.0).view(4, 6)

    def spread(tensor, mesh, placements):  # every rank has the tensor: nothing needs to be sent
        return distribute_tensor(tensor, mesh, placements, src_data_rank=None)

    state = {
        "rows": spread(whole, line, [Shard(0)]),
        "columns": spread(whole.to(torch.int16), line, [Shard(1)]),
        "uneven": spread(torch.arange(10).view(5, 2), line, [Shard(0)]),
        "few": spread(torch.arange(2).to(torch.uint8), line, [Shard(0)]),
        "grid": spread(whole.double(), grid, [Shard(0), Shard(1)]),
        "same": spread(torch.ones(3), line, [Replicate()]),
        "cube": spread(torch.arange(60).view(3, 4, 5).bfloat16(), grid, [Shard(2), Shard(1)]),
        "epoch": 3,
    }
    dcp.save({"model": state}, checkpoint_id=directory)
    dist.barrier()
    dist.destroy_process_group()


def main(directory):
    for name in ("plain", "nested", "sharded"):
        path = os.path.join(directory, name)
        shutil.rmtree(path, ignore_errors=True)
        if name == "sharded":
            mp.spawn(sharded, args=(path, 29533), nprocs=4)
        else:
            dcp.save(globals()[name](), checkpoint_id=path, no_dist=True)
        dcp_to_torch_save(path, path + ".pth")


if __name__ == "__main__":
    main(sys.argv[1])
