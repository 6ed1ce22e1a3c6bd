"""average.py CKPT DIR: writes checkpoints with PyTorch, averages them with ckpt, compares. Speaks TAP."""
import subprocess
import sys

import torch

ckpt, where = sys.argv[1:3]
torch.manual_seed(3)
FLOATING = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128]


def model(seed):
    torch.manual_seed(seed)
    sd = {f"w.{i}": (torch.randn(37, 5, dtype=torch.float64) * 10 ** (i % 4)).to(d) if not d.is_complex
          else torch.randn(37, 5, dtype=d) for i, d in enumerate(FLOATING)}
    sd["strided"] = torch.randn(6, 8).t()
    sd["tied"] = sd["w.1"]
    sd["bn.num_batches_tracked"] = torch.tensor(100 * seed)
    sd["mask"] = torch.rand(9) > 0.5
    return sd


def expected(dicts, name, newest):
    first = dicts[0][name]
    if not (first.is_floating_point() or first.is_complex()):
        return dicts[newest][name]
    wide = torch.complex128 if first.is_complex() else torch.float64
    total = dicts[0][name].to(wide).clone()
    for other in dicts[1:]:
        total += other[name].to(wide)
    if first.is_complex():  # part by part: torch divides a complex number by way of a reciprocal
        return torch.view_as_complex(torch.view_as_real(total) / len(dicts)).to(first.dtype)
    return (total / len(dicts)).to(first.dtype)


number, failed = 0, 0


def check(name, good):
    global number, failed
    number, failed = number + 1, failed + (not good)
    print(f"{'ok' if good else 'not ok'} {number} - {name}")


for count, epochs in ((2, [1, 2]), (5, [3, 9, 1, 2, 4]), (40, list(range(40)))):
    dicts = [model(seed) for seed in range(1, count + 1)]
    paths = [f"{where}/{i}.pth" for i in range(count)]
    for path, sd, epoch in zip(paths, dicts, epochs):
        torch.save({"model": sd, "epoch": epoch, "optimizer": {"lr": 0.1}}, path)
    subprocess.run([ckpt, "average", *paths, "-o", f"{where}/out.pth"], check=True, stdout=subprocess.DEVNULL)
    out = torch.load(f"{where}/out.pth", weights_only=True)
    newest = epochs.index(max(epochs))
    same = all(torch.equal(out["model"][n], expected(dicts, n, newest)) and
               out["model"][n].dtype == dicts[0][n].dtype for n in dicts[0])
    check(f"the mean of {count}, bit for bit", same)
    check(f"of {count}: the names in their order, and the model alone",
          list(out) == ["model"] and list(out["model"]) == list(dicts[0]))
    check(f"of {count}: what was tied is tied", out["model"]["tied"].data_ptr() == out["model"]["w.1"].data_ptr())

print(f"1..{number}")
sys.exit(1 if failed else 0)
