"""maps_reference.py: what each rule set of policies/maps/ shall give, computed by PyTorch alone, key by key, from how the two
models work: not from the rules, and not with our engine. REFERENCE: set -> function(state dict, model) -> state dict."""
import re

import torch

REFERENCE = {}


def reference(*names):
    def add(function):
        for name in names:
            REFERENCE[name] = function
        return function
    return add


def ints(key):
    return [int(n) for n in re.findall(r"(?<![A-Za-z\d])\d+", key)]


@reference("vgg16_reducedfc", "vgg16_reducedfc_rules")
def vgg16_reducedfc(sd, _):
    def layer(n):
        return {31: "conv6", 33: "conv7"}.get(n) or (f"features1.{n}" if n <= 22 else f"features2.{n - 23}")
    return {f"{layer(int(key.split('.')[0]))}.{key.split('.')[1]}": t for key, t in sd.items()}


@reference("rgb_to_bgr")
def rgb_to_bgr(sd, _):
    first = next(key for key, t in sd.items() if t.dim() == 4)  # where the image comes in
    out = dict(sd)
    red, green, blue = sd[first].unbind(1)
    out[first] = torch.stack([blue, green, red], 1)
    return out


@reference("torchvision_resnet_to_detectron2")
def resnet(sd, _):
    out = {}
    for key, t in sd.items():
        part = key.split(".")
        if part[0] == "fc":
            continue
        if part[0] in ("conv1", "bn1"):
            name = ["stem", "conv1"] + (["norm"] if part[0] == "bn1" else [])
        elif part[2] == "downsample":
            name = [f"res{int(part[0][5:]) + 1}", part[1], "shortcut"] + (["norm"] if part[3] == "1" else [])
        else:
            name = [f"res{int(part[0][5:]) + 1}", part[1], "conv" + part[2][-1]] + (["norm"] if part[2][:2] == "bn" else [])
        out[".".join(name + part[-1:])] = t
    return out


C2_END = {"w": "weight", "b": "bias", "bn_s": "norm.weight", "bn_b": "norm.bias", "bn_gamma": "norm.weight", "bn_beta": "norm.bias",
          "bn_running_mean": "norm.running_mean", "bn_running_var": "norm.running_var", "gn_s": "norm.weight", "gn_b": "norm.bias"}
C2_PLACE = {"conv1": "stem.conv1", "res_conv1": "stem.conv1", "pred": "linear", "fc1000": "fc1000", "fc6": "box_head.fc1",
            "fc7": "box_head.fc2", "cls_score": "cls_score", "bbox_pred": "bbox_pred", "conv5_mask": "mask_head.deconv",
            "mask_fcn_logits": "mask_head.predictor", "kps_score": "roi_heads.keypoint_head.score",
            "kps_score_lowres": "roi_heads.keypoint_head.score_lowres"}
C2_RPN = {"conv_rpn": "conv", "rpn_cls_logits": "objectness_logits", "rpn_bbox_pred": "anchor_deltas"}


def c2_place(blob):
    """Where a blob without its ending belongs."""
    m = re.fullmatch(r"res(\d)_(\d+)_branch(1|2a|2b|2c)", blob)
    if m:
        return f"res{m[1]}.{m[2]}." + {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}[m[3]]
    m = re.fullmatch(r"fpn_(inner_)?res(\d)_\d+_sum(_lateral)?", blob)
    if m:
        return ("fpn_lateral" if m[1] else "fpn_output") + m[2]
    m = re.fullmatch(r"(_\[mask\]_fcn|head_conv|conv_fcn)(\d)", blob)
    if m:
        return {"_": "mask_head.mask_fcn", "h": "box_head.conv", "c": "roi_heads.keypoint_head.conv_fcn"}[blob[0]] + m[2]
    plain = blob[:-5] if blob.endswith("_fpn2") else blob
    if plain in C2_RPN:
        return "proposal_generator.rpn_head." + C2_RPN[plain]
    return C2_PLACE[blob]


@reference("detectron_c2_to_detectron2")
def detectron(sd, _):
    out = {}
    for blob, t in sd.items():
        if blob.endswith("_momentum"):
            continue
        end = max((e for e in C2_END if blob.endswith("_" + e)), key=len)
        place = c2_place(blob[:-len(end) - 1])
        if place == "cls_score":                       # the background's score: first there, last here
            t = torch.cat([t[1:], t[:1]])
        elif place == "bbox_pred":                     # no box and no mask of the background here
            t = t[4:]
        elif place == "mask_head.predictor":
            t = t[1:]
        out[f"{place}.{C2_END[end]}"] = t
    return out


@reference("openai_clip_vit_to_timm")
def clip(sd, model):
    v = {key[7:]: t for key, t in sd.items() if key.startswith("visual.")}
    out = {"cls_token": v["class_embedding"][None, None], "pos_embed": v["positional_embedding"][None],
           "patch_embed.proj.weight": v["conv1.weight"], "head.weight": v["proj"].t(),
           "head.bias": torch.zeros(v["proj"].shape[1], dtype=torch.float32)}
    for kind in ("weight", "bias"):
        out[f"norm_pre.{kind}"], out[f"norm.{kind}"] = v[f"ln_pre.{kind}"], v[f"ln_post.{kind}"]
        for i in range(model.vars["L"]):
            a, b = f"transformer.resblocks.{i}.", f"blocks.{i}."
            out[f"{b}norm1.{kind}"], out[f"{b}norm2.{kind}"] = v[f"{a}ln_1.{kind}"], v[f"{a}ln_2.{kind}"]
            out[f"{b}attn.qkv.{kind}"] = v[f"{a}attn.in_proj_{kind}"]
            out[f"{b}attn.proj.{kind}"] = v[f"{a}attn.out_proj.{kind}"]
            out[f"{b}mlp.fc1.{kind}"], out[f"{b}mlp.fc2.{kind}"] = v[f"{a}mlp.c_fc.{kind}"], v[f"{a}mlp.c_proj.{kind}"]
    return out


@reference("dinov2_to_timm", "dinov2_reg_to_timm")
def dinov2(sd, _):
    out = {key.replace(".w12.", ".fc1.").replace(".w3.", ".fc2."): t for key, t in sd.items() if key != "mask_token"}
    if "register_tokens" in out:
        out["reg_token"] = out.pop("register_tokens")
        out["cls_token"] = sd["cls_token"] + sd["pos_embed"][:, :1]
        out["pos_embed"] = sd["pos_embed"][:, 1:]
    return out


@reference("beit3_to_timm")
def beit3(sd, model):
    out = {key: t for key, t in sd.items() if key.startswith(("fc_norm.", "head."))}
    out["cls_token"] = sd["beit3.vision_embed.cls_token"]
    out["pos_embed"] = sd["beit3.encoder.embed_positions.A.weight"][2:][None]
    names = {"norm1": "self_attn_layer_norm.A", "norm2": "final_layer_norm.A", "attn.norm": "self_attn.inner_attn_ln.A",
             "attn.proj": "self_attn.out_proj.A", "mlp.fc1": "ffn.A.fc1", "mlp.fc2": "ffn.A.fc2", "mlp.norm": "ffn.A.ffn_layernorm"}
    for kind in ("weight", "bias"):
        out[f"patch_embed.proj.{kind}"] = sd[f"beit3.vision_embed.proj.{kind}"]
        for i in range(model.vars["L"]):
            layer = f"beit3.encoder.layers.{i}."
            for new, old in names.items():
                out[f"blocks.{i}.{new}.{kind}"] = sd[f"{layer}{old}.{kind}"]
            out[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat([sd[f"{layer}self_attn.{p}_proj.A.{kind}"] for p in "qkv"])
    return out


@reference("hf_bert_gamma_beta")
def bert(sd, _):
    def name(key):
        head, last = key.rsplit(".", 1)
        return f"{head}.{ {'gamma': 'weight', 'beta': 'bias'}.get(last, last)}" if head.endswith("LayerNorm") else key
    return {name(key): t for key, t in sd.items() if not key.endswith("position_ids")}


LLAMA = {"attention.wq": "self_attn.q_proj", "attention.wk": "self_attn.k_proj", "attention.wv": "self_attn.v_proj",
         "attention.wo": "self_attn.o_proj", "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj",
         "feed_forward.w3": "mlp.up_proj", "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
LLAMA_TOP = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}


def to_halves(heads, size):
    """Rows in the order that Hugging Face wants: of each head the even ones, then the odd ones."""
    return [h * size + r for h in range(heads) for r in list(range(0, size, 2)) + list(range(1, size, 2))]


@reference("meta_llama_to_hf")
def meta_to_hf(sd, model):
    out = {f"{new}.weight": sd[f"{old}.weight"] for old, new in LLAMA_TOP.items()}
    for i in range(model.vars["L"]):
        for old, new in LLAMA.items():
            t = sd[f"layers.{i}.{old}.weight"]
            if old in ("attention.wq", "attention.wk"):
                t = t[to_halves(model.vars["H" if old[-1] == "q" else "K"], model.vars["A"])]
            out[f"model.layers.{i}.{new}.weight"] = t
    return out


@reference("hf_llama_to_meta")
def hf_to_meta(sd, model):
    out = {f"{old}.weight": sd[f"{new}.weight"] for old, new in LLAMA_TOP.items()}
    for i in range(model.vars["L"]):
        for old, new in LLAMA.items():
            t = sd[f"model.layers.{i}.{new}.weight"]
            if old in ("attention.wq", "attention.wk"):
                rows = to_halves(model.vars["H" if old[-1] == "q" else "K"], model.vars["A"])
                t = torch.empty_like(t).index_copy_(0, torch.tensor(rows), t)
            out[f"layers.{i}.{old}.weight"] = t
    return out


@reference("phi3_to_llama")
def phi3(sd, model):
    q, kv = model.vars["H"] * model.vars["A"], model.vars["K"] * model.vars["A"]
    out = {}
    for key, t in sd.items():
        if "qkv_proj" in key:
            pieces = {"q": t[:q], "k": t[q:q + kv], "v": t[q + kv:]}
            out.update((key.replace("qkv", p), piece) for p, piece in pieces.items())
        elif "gate_up" in key:
            out[key.replace("gate_up", "gate")], out[key.replace("gate_up", "up")] = t[:t.shape[0] // 2], t[t.shape[0] // 2:]
        else:
            out[key] = t
    return out


@reference("mixtral_merge_experts")
def mixtral_merge(sd, model):
    out = {key: t for key, t in sd.items() if "block_sparse_moe" not in key}
    for i in range(model.vars["L"]):
        moe, mlp, x = f"model.layers.{i}.block_sparse_moe.", f"model.layers.{i}.mlp.", model.vars["X"]
        out[mlp + "gate.weight"] = sd[moe + "gate.weight"]
        out[mlp + "experts.gate_up_proj"] = torch.stack(
            [torch.cat([sd[f"{moe}experts.{e}.{w}.weight"] for w in ("w1", "w3")]) for e in range(x)])
        out[mlp + "experts.down_proj"] = torch.stack([sd[f"{moe}experts.{e}.w2.weight"] for e in range(x)])
    return out


@reference("mixtral_split_experts")
def mixtral_split(sd, model):
    out = {key: t for key, t in sd.items() if ".mlp." not in key}
    for i in range(model.vars["L"]):
        moe, mlp, inner = f"model.layers.{i}.block_sparse_moe.", f"model.layers.{i}.mlp.", model.vars["F"]
        out[moe + "gate.weight"] = sd[mlp + "gate.weight"]
        for e in range(model.vars["X"]):
            out[f"{moe}experts.{e}.w1.weight"] = sd[mlp + "experts.gate_up_proj"][e][:inner]
            out[f"{moe}experts.{e}.w3.weight"] = sd[mlp + "experts.gate_up_proj"][e][inner:]
            out[f"{moe}experts.{e}.w2.weight"] = sd[mlp + "experts.down_proj"][e]
    return out


def gates(t):
    """torch's rows of a weight or bias of an LSTM: input, forget, cell, output gate."""
    n = t.shape[0] // 4
    return dict(zip(("input", "forget", "cell", "output"), (t[k * n:(k + 1) * n] for k in range(4))))


@reference("lstm_to_burn")
def lstm_burn(sd, _):
    out = {key: t for key, t in sd.items() if key.startswith("head.")}
    for part, ours in (("input", "ih"), ("hidden", "hh")):
        for gate, t in gates(sd[f"lstm.weight_{ours}_l0"]).items():
            out[f"lstm.{gate}_gate.{part}_transform.weight"] = t.t()
        for gate, t in gates(sd[f"lstm.bias_{ours}_l0"]).items():
            out[f"lstm.{gate}_gate.{part}_transform.bias"] = t
    return out


@reference("lstm_to_onnx")
def lstm_onnx(sd, model):
    def iofc(key):
        g = gates(sd["encoder.rnn." + key])
        return torch.cat([g[name] for name in ("input", "output", "forget", "cell")])
    out = {}
    for n in range(model.vars["L"]):
        out[f"encoder.rnn.l{n}.W"], out[f"encoder.rnn.l{n}.R"] = iofc(f"weight_ih_l{n}")[None], iofc(f"weight_hh_l{n}")[None]
        if model.vars["B"]:
            out[f"encoder.rnn.l{n}.B"] = torch.cat([iofc(f"bias_ih_l{n}"), iofc(f"bias_hh_l{n}")])[None]
    return out


@reference("lstm_to_keras")
def lstm_keras(sd, model):
    out = {}
    for n in range(model.vars["L"]):
        out[f"encoder.rnn.l{n}.kernel"] = sd[f"encoder.rnn.weight_ih_l{n}"].t()
        out[f"encoder.rnn.l{n}.recurrent_kernel"] = sd[f"encoder.rnn.weight_hh_l{n}"].t()
        if model.vars["B"]:
            out[f"encoder.rnn.l{n}.bias"] = sd[f"encoder.rnn.bias_ih_l{n}"] + sd[f"encoder.rnn.bias_hh_l{n}"]
    return out


@reference("weight_norm_to_parametrizations")
def to_parametrizations(sd, _):
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {".".join(new.get(part, part) for part in key.split(".")): t for key, t in sd.items()}


@reference("parametrizations_to_weight_norm")
def to_weight_norm(sd, _):
    return {re.sub(r"parametrizations\.weight\.original([01])$", lambda m: "weight_" + "gv"[int(m[1])], key): t
            for key, t in sd.items()}


@reference("torch_to_keras")
def torch_keras(sd, _):
    out = {}
    for key, t in sd.items():
        layer, kind = key.rsplit(".", 1)
        normalizes = layer + ".running_mean" in sd or layer.rsplit(".", 1)[-1].startswith("norm")
        if kind == "num_batches_tracked":
            continue
        if kind == "weight" and "embed" in layer:
            kind = "embeddings"
        elif normalizes:
            kind = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}[kind]
        elif kind == "weight":
            kind, t = "kernel", t.permute(*range(2, t.dim()), 1, 0)
        out[f"{layer}.{kind}"] = t
    return out


@reference("torchvision_vgg16_to_keras")
def vgg_keras(sd, _):
    out, block, conv, last = {}, 1, 0, None
    for n in sorted({ints(key)[0] for key in sd if key.startswith("features.")}):
        conv += 1
        if last is not None and n - last == 3:         # a ReLU and a pooling lie between, not a ReLU alone
            block, conv = block + 1, 1
        last = n
        out[f"block{block}_conv{conv}.kernel"] = sd[f"features.{n}.weight"].permute(2, 3, 1, 0)
        out[f"block{block}_conv{conv}.bias"] = sd[f"features.{n}.bias"]
    for n, layer in ((0, "fc1"), (3, "fc2"), (6, "predictions")):
        kernel = sd[f"classifier.{n}.weight"].t()
        if n == 0:                                     # its rows: channel, y, x there; y, x, channel here
            rows = torch.arange(kernel.shape[0]).view(-1, 7, 7).permute(1, 2, 0).reshape(-1)
            kernel = kernel[rows]
        out[f"{layer}.kernel"], out[f"{layer}.bias"] = kernel, sd[f"classifier.{n}.bias"]
    return out


@reference("peel_wrappers")
def peel(sd, _):
    def name(key):
        while key.startswith(("module.", "_orig_mod.", "_forward_module.")):
            key = key.split(".", 1)[1]
        return key
    return {name(key): t for key, t in sd.items()}
