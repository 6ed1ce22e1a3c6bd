"""maps_values.py CKPT WORK: every rule set on random checkpoints of small models, in TAP. `ckpt convert --map` writes, torch reads,
and each tensor is compared bit for bit with what maps_reference.py computes; then the inverse, with what there was before."""
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
LISTS = os.path.join(HERE, "..", "data", "maps")
sys.path[:0] = [HERE, LISTS]

import layouts  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from maps_models import SAME, same_attention  # noqa: E402
from maps_reference import REFERENCE  # noqa: E402

CKPT, WORK = sys.argv[1:3]
INVERSE = ["vgg16_reducedfc", "vgg16_reducedfc_rules", "rgb_to_bgr", "torchvision_resnet_to_detectron2", "dinov2_to_timm",
           "hf_bert_gamma_beta", "meta_llama_to_hf", "hf_llama_to_meta", "phi3_to_llama", "lstm_to_burn",
           "weight_norm_to_parametrizations", "parametrizations_to_weight_norm", "openai_clip_vit_to_timm"]
BACK = {"meta_llama_to_hf": "hf_llama_to_meta", "mixtral_merge_experts": "mixtral_split_experts",
        "weight_norm_to_parametrizations": "parametrizations_to_weight_norm"}
BACK.update({there: here for here, there in BACK.items()})  # each is the way back of the other
GONE = {"torchvision_resnet_to_detectron2": r"fc\.", "dinov2_to_timm": "mask_token", "hf_bert_gamma_beta": ".*position_ids",
        "meta_llama_to_hf": r"rope\.freqs", "hf_llama_to_meta": r".*inv_freq", "torch_to_keras": ".*num_batches_tracked",
        "openai_clip_vit_to_timm": r"(?!visual\.)", "dinov2_reg_to_timm": "mask_token|cls_token|pos_embed",
        "lstm_to_keras": r".*\.bias_", "detectron_c2_to_detectron2": ".*_momentum|bbox_pred|mask_fcn_logits",
        "beit3_to_timm": r"beit3\.(text_embed|vision_embed\.mask_token|.*\.B\.|encoder\.embed_positions)"}
LISTED = {"vgg16_reducedfc_rules": ["vgg16_reducedfc"],  # sets that are tried on the keys of others
          "rgb_to_bgr": ["torchvision_resnet_to_detectron2", "torchvision_vgg16_to_keras", "dinov2_to_timm", "openai_clip_vit_to_timm"]}
HALVES = [("openai_clip_vit_to_timm", torch.float16), ("dinov2_reg_to_timm", torch.float16), ("lstm_to_keras", torch.bfloat16),
          ("meta_llama_to_hf", torch.bfloat16), ("mixtral_merge_experts", torch.bfloat16)]
results = []


def report(ok, what, why=""):
    results.append(ok)
    print(f"{'ok' if ok else 'not ok'} {len(results)} - {what}" + (f"\n# {why}" if why and not ok else ""), flush=True)


def path(name):
    return os.path.join(WORK, name)


def convert(source, out, name, model, *more):
    """Runs ckpt; None, or what it said."""
    argv = [CKPT, "convert", "--map", name, *more]
    if model.config:
        with open(path("config.json"), "w", encoding="utf-8") as file:
            json.dump(model.config, file)
        argv += ["--config", path("config.json")]
    run = subprocess.run(argv + [source, out], capture_output=True, text=True)
    return None if run.returncode == 0 else f"status {run.returncode}: {run.stderr.strip() or run.stdout.strip()}"


def random_tensors(model, floating=torch.float32):
    seed = torch.Generator().manual_seed(len(model.source))
    return {name: torch.randn(shape, generator=seed, dtype=torch.float32).to(floating) if dtype == "float32"
            else torch.randint(0, 1000, shape, generator=seed) for name, shape, dtype in model.source}


def bits(t):
    return t.contiguous().flatten().view(torch.uint8)


def differences(got, wanted):
    """What is missing, too much, or not the same to the last bit."""
    for key in wanted:
        if key not in got:
            yield f"{key} is missing"
        elif got[key].dtype != wanted[key].dtype or got[key].shape != wanted[key].shape:
            yield f"{key} is {got[key].dtype} {list(got[key].shape)}, not {wanted[key].dtype} {list(wanted[key].shape)}"
        elif not torch.equal(bits(got[key]), bits(wanted[key])):
            yield f"{key} has other values"
    yield from (f"{key} is too much" for key in got if key not in wanted)


def compare(what, said, file, wanted):
    if said:
        return report(False, what, said)
    found = list(differences(torch.load(file), wanted))
    report(not found, f"{what}: {len(wanted)} tensors", "; ".join(found[:5]))
    return not found


def not_gone(name, before):
    """What an inverse gives back: everything but what the set drops, cuts or adds up."""
    return {key: t for key, t in before.items() if name not in GONE or not re.match(GONE[name], key)}


def inverses(name, model, before, after):
    """Three ways back: of the plan for this very file, of the set, and by the set of the other direction."""
    wanted, what = not_gone(name, before), f"{name}, {model.name}"
    argv = [CKPT, "run", os.path.join(HERE, "maps_inverse.lua"), name, path("in.pth"), after, path("back.pth")]
    argv += [f"{key}={value}" for key, value in model.config.items()]
    run = subprocess.run(argv, capture_output=True, text=True)
    compare(f"{what}: its plan undone", run.stderr.strip() if run.returncode else None, path("back.pth"), wanted)
    if name in INVERSE:                                # what the set alone tells
        compare(f"{what}: --inverse", convert(after, path("back.pth"), name, model, "--inverse"), path("back.pth"), wanted)
    other = BACK.get(name)
    if other and model.vars.get("X", 8) == 8:
        config = {"n_heads": model.vars.get("H"), "num_attention_heads": model.vars.get("H")}
        said = convert(after, path("back.pth"), other, layouts_with(model, config))
        compare(f"{what}: back by {other}", said, path("back.pth"), wanted)


def layouts_with(model, config):
    other = layouts.Model(model.name, model.small, model.vars)
    other.config = config if config["n_heads"] else {}
    return other


def half(name, floating):
    """As models of that size are kept."""
    model = [m for m in layouts.read(os.path.join(LISTS, name + ".txt")) if m.small][0]
    before = random_tensors(model, floating)
    torch.save(before, path("in.pth"))
    said = convert(path("in.pth"), path("out.pth"), name, model)
    compare(f"{name}, {model.name}, {floating}", said, path("out.pth"), REFERENCE[name](before, model))


def real_llama():
    """A file in Meta's layout that others made (torchtune's tests): 4 heads of 8."""
    file = os.path.join(os.environ.get("CKPT_SHARED", ""), "data/real/meta-pytorch+torchtune/tests/assets/tiny_fair_checkpoint.pt")
    what = "meta_llama_to_hf, torchtune's tiny_fair_checkpoint.pt"
    if not os.path.exists(file):
        results.append(True)
        return print(f"ok {len(results)} - {what} # SKIP no {file}")
    before = torch.load(file)
    layers = sum(key.endswith("attention.wq.weight") for key in before)
    model = layouts.Model("tiny_fair", False, {"H": 4, "K": 4, "A": before["norm.weight"].shape[0] // 4, "L": layers})
    said = convert(file, path("out.pth"), "meta_llama_to_hf", model, "--var", "n_heads=4", "--check-roundtrip")
    compare(what, said, path("out.pth"), REFERENCE["meta_llama_to_hf"](before, model))
    report(said is None and same_attention(before, torch.load(path("out.pth")), model), f"{what}: the model computes what it did")


def one(name, model):
    before, what = random_tensors(model), f"{name}, {model.name}"
    torch.save(before, path("in.pth"))
    wanted = REFERENCE[name](before, model)
    if not compare(what, convert(path("in.pth"), path("out.pth"), name, model), path("out.pth"), wanted):
        return
    if name in SAME:
        report(SAME[name](before, torch.load(path("out.pth")), model), f"{what}: the model computes what it did")
    inverses(name, model, before, path("out.pth"))


def blobs(name, model):
    """Detectron's own file: a pickle of numpy arrays below `blobs`, made tensors first."""
    before = random_tensors(model)
    with open(path("in.pkl"), "wb") as file:
        pickle.dump({"blobs": {key: numpy.array(t) for key, t in before.items()}, "cfg": "MODEL: {}"}, file, protocol=2)
    subprocess.run([CKPT, "convert", "--sanitize", path("in.pkl"), path("in.pth")], capture_output=True)
    said = convert(path("in.pth"), path("out.pth"), name, model)
    compare(f"{name}, {model.name}, from a pickle of blobs", said, path("out.pth"), REFERENCE[name](before, model))


def mark():
    """The second time is refused, and nothing is written."""
    model = [m for m in layouts.read(os.path.join(LISTS, "torchvision_resnet_to_detectron2.txt")) if m.small][0]
    torch.save(random_tensors(model), path("in.pth"))
    said = convert(path("in.pth"), path("once.safetensors"), "rgb_to_bgr", model)
    twice = convert(path("once.safetensors"), path("twice.safetensors"), "rgb_to_bgr", model)
    report(said is None and twice is not None and "input_channels" in twice and not os.path.exists(path("twice.safetensors")),
           "rgb_to_bgr, a second time: refused by its mark", f"{said}; {twice}")


WRONG = """return { id = "wrong", include = { "meta_llama_to_hf" }, stages = {},
  vars = { n_kv = "n_heads // (kv_rows // head_dim)" } }
"""


def wrong_heads():
    """llama.cpp#3364: n_heads // n_kv in the place of n_kv. The size of a head tells, before a file is made."""
    with open(path("wrong.lua"), "w", encoding="utf-8") as file:
        file.write(WRONG)
    for model in layouts.read(os.path.join(LISTS, "meta_llama_to_hf.txt")):
        heads, kv = model.vars["H"], model.vars["K"]
        if not model.small or heads // kv == kv:       # (64, 8): both are 8
            continue
        torch.save(random_tensors(model), path("in.pth"))
        said = convert(path("in.pth"), path("wrong.pth"), path("wrong.lua"), model) or "it was taken"
        report(f"{heads // kv} heads of {model.vars['A']}" in said and not os.path.exists(path("wrong.pth")),
               f"({heads}, {kv}) with n_heads // n_kv: refused", said)
    model.config["n_kv_heads"] = 4
    torch.save(random_tensors(model), path("in.pth"))
    said = convert(path("in.pth"), path("wrong.pth"), "meta_llama_to_hf", model) or "it was taken"
    report("4 heads of" in said and not os.path.exists(path("wrong.pth")), "a config that the shapes belie: refused", said)


def tied():
    """BERT's decoder is its word embedding: one storage before, one after."""
    model = [m for m in layouts.read(os.path.join(LISTS, "hf_bert_gamma_beta.txt")) if m.small][0]
    sd = random_tensors(model)
    sd["cls.predictions.decoder.weight"] = sd["bert.embeddings.word_embeddings.weight"]
    torch.save(sd, path("in.pth"))
    said = convert(path("in.pth"), path("out.pth"), "hf_bert_gamma_beta", model)
    out = {} if said else torch.load(path("out.pth"))
    places = {out[key].data_ptr() for key in ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight") if out}
    report(len(places) == 1, "hf_bert_gamma_beta: tied tensors stay one", said or str(places))


def generated():
    """torchvision.txt is what make_torchvision.py writes here and now, but for the version in its first line."""
    what = "torchvision.txt is what torchvision says"
    if importlib.util.find_spec("torchvision") is None:
        results.append(True)
        return print(f"ok {len(results)} - {what} # SKIP no torchvision")
    subprocess.run([sys.executable, os.path.join(LISTS, "make_torchvision.py"), path("torchvision.txt")], check=True)
    texts = [open(os.path.join(place, "torchvision.txt"), encoding="utf-8").read().split("\n", 1)[1] for place in (WORK, LISTS)]
    report(texts[0] == texts[1], what)


def main():
    for name in REFERENCE:
        for listed in LISTED.get(name, [name]):
            for model in layouts.read(os.path.join(LISTS, listed + ".txt")):
                if model.small:
                    one(name, model)
                if model.small and name == "detectron_c2_to_detectron2":
                    blobs(name, model)
    mark()
    wrong_heads()
    tied()
    for name, floating in HALVES:
        half(name, floating)
    real_llama()
    generated()
    print(f"1..{len(results)}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
