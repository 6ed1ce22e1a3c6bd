"""maps_models.py: two models that shall compute the same from a file before and after mapping: rotary attention of Llama as Meta
and as Hugging Face do it, an LSTM by torch, ONNX, Keras and burn, VGG16's first dense layer after either flatten. What they
give differs if rows are in a wrong order, even where no shape shows it."""
import torch

torch.set_default_dtype(torch.float64)
CLOSE = 1e-5  # a bias that was added in float32; rows in a wrong order are off by about one


def close(a, b):
    return a.shape == b.shape and (a - b).abs().max().item() < CLOSE


# ---- Llama ----

def angles(length, size):
    return torch.outer(torch.arange(length).double(), 10000 ** -(torch.arange(0, size, 2).double() / size))


def turn_pairs(x):
    """Meta: neighbours of a head are a complex number. x: [time, heads, size]."""
    turn = torch.polar(torch.ones(()), angles(x.shape[0], x.shape[2]))[:, None]
    return torch.view_as_real(torch.view_as_complex(x.reshape(*x.shape[:2], -1, 2).contiguous()) * turn).flatten(2)


def turn_halves(x):
    """Hugging Face: the two halves of a head are."""
    a = angles(x.shape[0], x.shape[2])
    cos, sin = (torch.cat([f(a), f(a)], 1)[:, None] for f in (torch.cos, torch.sin))
    first, second = x.chunk(2, 2)
    return x * cos + torch.cat([-second, first], 2) * sin


def scores(x, wq, wk, heads, kv_heads, turn):
    """[heads, time, time]: each head of keys serves heads // kv_heads of queries."""
    q = turn((x @ wq.double().t()).view(len(x), heads, -1))
    k = turn((x @ wk.double().t()).view(len(x), kv_heads, -1)).repeat_interleave(heads // kv_heads, 1)
    return torch.einsum("qhd,khd->hqk", q, k)


def same_attention(meta, hf, model):
    heads, kv = model.vars["H"], model.vars["K"]
    x = torch.randn(5, heads * model.vars["A"])
    old = scores(x, meta["layers.0.attention.wq.weight"], meta["layers.0.attention.wk.weight"], heads, kv, turn_pairs)
    new = scores(x, hf["model.layers.0.self_attn.q_proj.weight"], hf["model.layers.0.self_attn.k_proj.weight"], heads, kv,
                 turn_halves)
    return close(old, new)


# ---- LSTM ----

def torch_lstm(sd, prefix, x):
    layers = sum("weight_ih" in key for key in sd)
    bias = prefix + "bias_ih_l0" in sd
    first = sd[prefix + "weight_ih_l0"]
    lstm = torch.nn.LSTM(first.shape[1], first.shape[0] // 4, layers, bias=bias)
    lstm.load_state_dict({key[len(prefix):]: t.double() for key, t in sd.items() if key.startswith(prefix)})
    return lstm(x)[0].detach()


def run_lstm(x, hidden, gates):
    """x: [time, in]; gates(x_t, h): input, forget, cell, output before their functions."""
    h, c, out = torch.zeros(hidden), torch.zeros(hidden), []
    for x_t in x:
        i, f, g, o = gates(x_t, h)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        out.append(h)
    return torch.stack(out)


def onnx_lstm(sd, layers, x):
    for n in range(layers):
        w, r = sd[f"encoder.rnn.l{n}.W"][0].double(), sd[f"encoder.rnn.l{n}.R"][0].double()
        b = sd.get(f"encoder.rnn.l{n}.B", torch.zeros(1, 2 * len(w)))[0].double()
        wb, rb = b.chunk(2)

        def gates(x_t, h):
            i, o, f, c = (w @ x_t + wb + r @ h + rb).chunk(4)
            return i, f, c, o
        x = run_lstm(x, r.shape[1], gates)
    return x


def keras_lstm(sd, layers, x):
    for n in range(layers):
        kernel, recurrent = (sd[f"encoder.rnn.l{n}.{k}"].double() for k in ("kernel", "recurrent_kernel"))
        bias = sd.get(f"encoder.rnn.l{n}.bias", torch.zeros(kernel.shape[1])).double()
        x = run_lstm(x, recurrent.shape[0], lambda x_t, h: (x_t @ kernel + h @ recurrent + bias).chunk(4))
    return x


def burn_lstm(sd, x):
    p = {key[5:]: t.double() for key, t in sd.items() if key.startswith("lstm.")}

    def gate(name, x_t, h):
        return sum(v @ p[f"{name}_gate.{part}_transform.weight"] + p[f"{name}_gate.{part}_transform.bias"]
                   for v, part in ((x_t, "input"), (h, "hidden")))
    hidden = p["input_gate.input_transform.bias"].shape[0]
    return run_lstm(x, hidden, lambda x_t, h: [gate(name, x_t, h) for name in ("input", "forget", "cell", "output")])


def same_lstm(run):
    def check(old, new, model):
        prefix = "lstm." if "lstm.weight_ih_l0" in old else "encoder.rnn."
        x = torch.randn(6, model.vars["I"])
        return close(torch_lstm({k: t for k, t in old.items() if k.startswith(prefix)}, prefix, x), run(new, model, x))
    return check


# ---- VGG16 ----

def same_first_dense(old, new, _):
    weight, kernel = old["classifier.0.weight"].double(), new["fc1.kernel"].double()
    image = torch.randn(weight.shape[1] // 49, 7, 7)
    return close(image.flatten() @ weight.t(), image.permute(1, 2, 0).flatten() @ kernel)


SAME = {
    "meta_llama_to_hf": same_attention,
    "hf_llama_to_meta": lambda old, new, model: same_attention(new, old, model),
    "lstm_to_onnx": same_lstm(lambda sd, model, x: onnx_lstm(sd, model.vars["L"], x)),
    "lstm_to_keras": same_lstm(lambda sd, model, x: keras_lstm(sd, model.vars["L"], x)),
    "lstm_to_burn": same_lstm(lambda sd, model, x: burn_lstm(sd, x)),
    "torchvision_vgg16_to_keras": same_first_dense,
}
