#!/usr/bin/env python3
"""roundtrip.py CKPT DATA WORK: every file of DATA/real and DATA/torch through ckpt and back, PyTorch as the judge. TAP.

  1  `ckpt convert X out.pth`: PyTorch reads in out.pth what it reads in X, tensors and plain values
  2  `ckpt convert --tensors-only X out.safetensors` and back: `ckpt inspect --json --digest` shows the same tensors
  3  `ckpt convert --sanitize X out.pth`: torch.load(weights_only=True) takes it, or refuses it for a reason that is known

The files are other people's: nothing of theirs is run. Their pickles are read with an Unpickler that knows PyTorch's rebuild
functions and Python's plain types only; any other name gives a class that remembers what it was given.
"""
import builtins
import codecs
import collections
import json
import os
import pickle
import re
import subprocess
import sys
import types
import warnings

import torch

from torch_compare import Comparison, raw, untyped

warnings.simplefilter("ignore")

# ---- reading without running anything ----


class Inert:
    """What a name stands for that is not ours to run. Class, function and object in one."""
    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.made, self.state, self.items, self.pairs = (args, kwargs), [], [], []
        return self

    def __init__(self, *args, **kwargs): pass
    def __setstate__(self, state): self.state.append(state)
    def append(self, item): self.items.append(item)
    def extend(self, items): self.items.extend(items)
    def __setitem__(self, key, value): self.pairs.append((key, value))
    def __call__(self, *args, **kwargs): return inert("", "(called)")(self, *args, **kwargs)


CLASSES = {}  # (module, name) -> its inert class


def inert(module, name):
    module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
    return CLASSES.setdefault((module, name), type(name, (Inert,), {"__module__": module, "__qualname__": name}))


def inner_class(outer, name):
    """getattr, as old protocols name a class in a class."""
    if isinstance(outer, type) and issubclass(outer, Inert): return inert(outer.__module__, f"{outer.__qualname__}.{name}")
    return inert("builtins", "getattr")(outer, name)


def rebuild(name):
    """torch._utils' function; arguments that this PyTorch is too old for are kept as they are."""
    function = getattr(torch._utils, name)

    def call(*args):
        try: return function(*args)
        except Exception: return inert("torch._utils", name)(*args)
    return call


REBUILD = {name: rebuild(name) for name in (
    "_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_qtensor", "_rebuild_sparse_tensor",
    "_rebuild_meta_tensor_no_storage")}
PLAIN = {("builtins", n): getattr(builtins, n) for n in ("set", "frozenset", "bytearray", "complex", "bytes")}
PLAIN[("collections", "OrderedDict")] = collections.OrderedDict
PLAIN[("builtins", "getattr")] = inner_class
PLAIN[("_codecs", "encode")] = codecs.encode
PLAIN[("torch", "Size")] = torch.Size
PLAIN[("torch.storage", "UntypedStorage")] = torch.UntypedStorage
PLAIN[("torch.serialization", "_get_layout")] = torch.serialization._get_layout
PLAIN[("torch", "device")] = torch.device


class Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        module = "builtins" if module == "__builtin__" else module
        if (module, name) in PLAIN: return PLAIN[module, name]
        if module == "torch._utils" and name in REBUILD: return REBUILD[name]
        if module == "torch" and isinstance(getattr(torch, name, None), (torch.dtype, torch.qscheme)): return getattr(torch, name)
        if module == "torch" and name.endswith("Storage") and hasattr(torch, name): return getattr(torch, name)
        return inert(module, name)


controlled = types.ModuleType("controlled")  # stands for the module pickle
controlled.Unpickler = Unpickler
controlled.UnpicklingError = pickle.UnpicklingError
controlled.load = lambda file, **options: Unpickler(file, **options).load()
torch.serialization.pickle = controlled  # torch.load of 1.13 takes no heed of its argument pickle_module


def load(path, kind="torch"):
    """PyTorch's own reading of containers and storages, the Unpickler above for what is in the pickle."""
    with open(path, "rb") as file:
        if kind == "pickle": return Unpickler(file, encoding="utf-8").load()
        if file.read(4) != b"PK\3\4":
            file.seek(0)
            return torch.serialization._legacy_load(file, "cpu", controlled, encoding="utf-8")
    with torch.serialization._open_zipfile_reader(path) as archive:
        return torch.serialization._load(archive, "cpu", controlled, encoding="utf-8")


def check_control(work):
    """Nothing of a file may be run: tried on files of our own before any other is opened."""
    path = os.path.join(work, "call.pth")
    call = type("Call", (), {"__reduce__": lambda self: (os.mkdir, (os.path.join(work, "executed"),))})()
    for new_format in (True, False):
        torch.save([call], path, pickle_module=pickle, _use_new_zipfile_serialization=new_format)
        read = load(path)[0]
        if not isinstance(read, Inert) or os.path.exists(os.path.join(work, "executed")): sys.exit("the Unpickler is not in control")


# ---- ckpt ----


class Ckpt:
    def __init__(self, path): self.path = path

    def run(self, *args):
        p = subprocess.run([self.path, *args], capture_output=True)
        return p.returncode, p.stdout, p.stderr.decode(errors="replace").strip().splitlines()

    def inspect(self, path):
        status, out, err = self.run("inspect", "--json", "--digest", path)
        return (json.loads(out), None) if status == 0 else (None, (err or ["?"])[-1])

    def can(self, option): return option in self.run("convert", "--help")[1].decode()


def tensors_of(report, layout=True):
    """name -> what makes two files' tensors the same; without layout: what a format without strides can keep."""
    keys = ("dtype", "shape", "sha256") + (("stride", "offset", "requires_grad") if layout else ())
    found = {}
    for t in report["tensors"]:
        for name in [t["name"], *(t.get("aliases") or [])]: found[name] = {k: t.get(k) for k in keys}
    return found


def list_files(data):
    with open(os.path.join(data, "real", "INDEX.tsv"), encoding="utf-8") as index:
        paths = [os.path.join("real", line.split("\t")[0]) for line in index.read().splitlines()[1:]]
    return paths + [os.path.join("torch", name) for name in sorted(os.listdir(os.path.join(data, "torch")))]


# ---- the three tests ----

# dtypes that safetensors does not know.
NO_PLACE = {"complex32", "complex128", "qint8", "quint8", "qint32", "quint4x2", "quint2x4", "bits8", "bits16", "bits1x8",
            "bits2x4", "bits4x2"}


class Test:
    def __init__(self, ckpt, data, work):
        self.ckpt, self.data, self.work = ckpt, data, work

    def path(self, name): return os.path.join(self.work, name)

    def to_pth(self, file):
        """(what is wrong or None, a word on how it was judged)"""
        source, out = os.path.join(self.data, file), self.path("out.pth")
        report, wrong = self.ckpt.inspect(source)
        if wrong: return wrong, "refused"
        status, _, err = self.ckpt.run("convert", source, out)
        if status != 0: return "convert: " + (err or ["?"])[-1], "refused"
        again, wrong = self.ckpt.inspect(out)
        if wrong: return wrong, "refused"
        if tensors_of(report) != tensors_of(again): return "inspect shows other tensors", "ckpt"
        read = load(out)
        if report["format"] not in ("torch-zip", "torch-legacy", "torch-tar", "pickle"):
            return self.against_report(report, read), "ckpt's own reading of it"
        comparison = Comparison(Inert, ("made", "state", "items", "pairs"))
        return comparison.run(load(source, "pickle" if report["format"] == "pickle" else "torch"), read), "PyTorch's reading of it"

    def against_report(self, report, read):
        """Formats that PyTorch cannot read without running them: names, dtypes, shapes and bytes against `ckpt inspect`."""
        found = {}
        for name, t in walk(read):
            found[name] = (str(t.dtype)[6:], list(t.shape), raw(untyped(t.detach().resolve_conj().clone().contiguous().storage())).hexdigest())
        want = {n: (t["dtype"], t["shape"], t["sha256"]) for n, t in tensors_of(report).items()}
        return None if found == want else f"tensors {sorted(found)} instead of {sorted(want)}, or other contents"

    def to_safetensors(self, file):
        """What the format has no place for must be refused by name, and may be left out then."""
        source, there, back = os.path.join(self.data, file), self.path("out.safetensors"), self.path("back.pth")
        report, wrong = self.ckpt.inspect(source)
        if wrong: return wrong
        unsupported = {n for n, t in tensors_of(report).items() if t["dtype"] in NO_PLACE or "meta" in n.split(".")[-1:]}
        status, _, err = self.ckpt.run("convert", "--tensors-only", source, there)
        if unsupported:
            said = (err or ["?"])[-1]
            unnamed = [n for n in unsupported if repr(n) not in said]
            if status != 3 or unnamed: return f"{unnamed} should have been refused by name: status {status}, {said}"
            status, _, err = self.ckpt.run("convert", "--tensors-only", "--drop-unsupported", source, there)
        if status == 0: status, _, err = self.ckpt.run("convert", there, back)
        if status != 0: return "convert: " + (err or ["?"])[-1]
        again, wrong = self.ckpt.inspect(back)
        if wrong: return wrong
        want, got = tensors_of(report, False), tensors_of(again, False)
        # safetensors holds names without structure: a name with dots is one key, a path through a list has brackets
        missing = [n for n in want if n not in got and n not in unsupported]
        if missing: return f"{len(missing)} tensors are missing, such as {missing[0]!r}"
        different = [n for n in got if want.get(n) != got[n]]
        return f"{different[0]!r} has become another tensor" if different else None

    def sanitised(self, file):
        """(None, or what weights_only said)"""
        source, out = os.path.join(self.data, file), self.path("out.pth")
        status, _, err = self.ckpt.run("convert", "--sanitize", "--for", "1.13", source, out)
        if status != 0: return "convert: " + (err or ["?"])[-1]
        try: torch.load(out, map_location="cpu", weights_only=True)
        except Exception as e: return str(e).strip().splitlines()[-1]
        return None


def walk(root):
    """Paths and tensors of plain containers, as ckpt names them."""
    todo = [("", root)]
    while todo:
        path, v = todo.pop()
        if isinstance(v, torch.Tensor): yield path.lstrip("."), v
        elif isinstance(v, dict): todo += [(f"{path}.{k}", x) for k, x in v.items()]
        elif isinstance(v, (list, tuple)): todo += [(f"{path}[{i}]", x) for i, x in enumerate(v)]


# Why a sanitised copy (--for 1.13) may not be taken.
REFUSED = {
    r"the whole value is one [\w.]+, which would be dropped": "nothing would be left: the file is one object",
}


def reason(message):
    return next((why for pattern, why in REFUSED.items() if re.search(pattern, message)), None)


def report(n, name, failures, total, notes):
    print(f"{'not ok' if failures or total == 0 else 'ok'} {n} - {total - len(failures)} of {total} {name}")
    for line in failures: print("#", line)
    for note, count in sorted(notes.items()): print(f"# {count}: {note}")
    sys.stdout.flush()
    return len(failures)


def run_pth(test, files):
    failures, notes = [], collections.Counter()
    for file in files:
        try: wrong, how = test.to_pth(file)
        except Exception as e: wrong, how = f"{type(e).__name__}: {e}", "failed"
        notes["judged by " + how] += wrong is None
        if wrong: failures.append(f"{file}: {wrong}")
    return report(1, "files written as .pth are read by PyTorch as they were", failures, len(files), +notes)


def run_safetensors(test, files):
    failures = []
    for file in files:
        wrong = test.to_safetensors(file)
        if wrong: failures.append(f"{file}: {wrong}")
    return report(2, "files keep their tensors through .safetensors and back", failures, len(files), {})


def run_sanitised(test, files):
    failures, notes = [], collections.Counter()
    for file in files:
        wrong = test.sanitised(file)
        why = reason(wrong) if wrong else "taken"
        notes[why if why == "taken" else f"refused: {why}"] += why is not None
        if why is None: failures.append(f"{file}: {wrong}")
    return report(3, "sanitised files are taken by weights_only=True, or refused for a known reason", failures, len(files), +notes)


def main():
    ckpt, data, work = sys.argv[1:4]
    test, files, failed = Test(Ckpt(ckpt), data, work), list_files(data), 0
    check_control(work)
    print("1..3")
    failed += run_pth(test, files)
    for n, option, run in ((2, "--tensors-only", run_safetensors), (3, "--sanitize", run_sanitised)):
        if test.ckpt.can(option): failed += run(test, files)
        else: print(f"ok {n} - # SKIP ckpt convert has no {option}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__": main()
