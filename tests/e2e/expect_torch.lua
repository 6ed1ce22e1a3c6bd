-- expect_torch.lua: the files of ../shared/data/torch, which PyTorch 2.14 (or the release in the name) wrote for
-- this project.
-- Worked out from what that PyTorch shows of them.

local E = require "tests.e2e.expect"
local list, tuple, dict, ordered, object, bytes, tensor, none =
  E.list, E.tuple, E.dict, E.ordered, E.object, E.bytes, E.tensor, E.none

local function sixes(t) -- 2 x 3 float32: 0 to 5
  return tensor { "float32", { 2, 3 }, { 0.0, 1.0, 2.0, 3.0, 4.0, 5.0 }, storage = t and t.storage }
end

local function floats(...) return tensor { "float32", { select("#", ...) }, { ... } } end
local function row() return tensor { "float32", { 3 }, { 3.0, 4.0, 5.0 }, offset = 3, storage = "a" } end

-- Each dtype was filled with the bytes 0, 1, 2, 3, 60, 61, 62, 63, again and again.
local function pattern(n) return ("\0\1\2\3\60\61\62\63"):rep(n // 8 + 1):sub(1, n) end

local widths = {
  { "bool", 1 }, { "uint8", 1 }, { "int8", 1 }, { "int16", 2 }, { "int32", 4 }, { "int64", 8 }, { "float16", 2 },
    { "bfloat16", 2 },
  { "float32", 4 }, { "float64", 8 }, { "complex64", 8 }, { "complex128", 16 }, { "complex32", 4 }, { "uint16",
    2 }, { "uint32", 4 },
  { "uint64", 8 }, { "float8_e4m3fn", 1 }, { "float8_e5m2", 1 }, { "float8_e4m3fnuz", 1 }, { "float8_e5m2fnuz", 1 },
  { "float8_e8m0fnu", 1 }, { "float4_e2m1fn_x2", 1 },
}

local function all_dtypes()
  local all = { { "bool", tensor { "bool", { 4 }, { true, false, true, false } } } }
  for i = 2, #widths do all[i] = { widths[i][1], tensor { widths[i][1], { 4 },
    bytes = pattern(4 * widths[i][2]) } } end
  return dict(all)
end

local function many()
  local all = {}
  for i = 0, 11 do all[i + 1] = floats(i + 0.0) end
  return list(all)
end

local function layout(name) return object("torch.serialization._get_layout", tuple { "torch." .. name }) end
local function ints(...) return tensor { "int64", { select("#", ...) }, { ... } } end

local sparse = dict {
  { "coo", object("torch._utils._rebuild_sparse_tensor", tuple { layout "sparse_coo", tuple {
    tensor { "int64", { 2, 3 }, { 0, 1, 2, 0, 1, 2 } }, floats(1.0, 1.0, 1.0), tuple { 3, 3 }, true } }) },
  { "csr", object("torch._utils._rebuild_sparse_tensor", tuple { layout "sparse_csr", tuple {
    ints(0, 1, 2, 3), tensor { "int64", { 3 }, { 0, 1, 2 }, offset = 3 }, floats(1.0, 1.0, 1.0), tuple { 3,
      3 } } }) },
}

-- numpy 2's names.
local function numpy_dtype(code) return object("numpy.dtype", tuple { code, false, true }, tuple { 3, "<", none,
  none, none, -1, -1, 0 }) end
local function array(shape, code, fortran, data)
  return object("numpy._core.multiarray._reconstruct", tuple { E.class "numpy.ndarray", tuple { 0 }, bytes "b" },
    tuple { 1, tuple(shape), numpy_dtype(code), fortran, bytes(data) })
end

local numpy = dict {
  { "sc", object("numpy._core.multiarray.scalar", tuple { numpy_dtype "f8", bytes(("<d"):pack(1.5)) }) },
  { "arr", array({ 3 }, "i8", false, ("<i8i8i8"):pack(0, 1, 2)) }, { "f", array({ 2, 2 }, "f4", true,
    ("<ffff"):pack(1, 1, 1, 1)) },
}

local protocol = dict { { "a", sixes() }, { "b", bytes "xy" }, { "s", E.set { 1, 2 } } }
local function f32(shape, t) return tensor { "float32", shape, grad = t and t.grad } end
local function version(n) return dict { { "version", n } } end
local function script(class) return dict { { "__class__", "__torch__." .. class }, { "training", true },
  { "_is_full_backward_hook", none } } end

local adam = dict {
  { "lr", 0.001 }, { "betas", tuple { 0.9, 0.999 } }, { "eps", 1e-08 }, { "weight_decay", 0.01 }, { "amsgrad",
    false },
  { "maximize", false }, { "foreach", none }, { "capturable", false }, { "differentiable", false }, { "fused", none },
  { "decoupled_weight_decay", true }, { "initial_lr", 0.001 }, { "params", list { 0, 1 } },
}

local train_ckpt = dict {
  { "model", ordered { { "weight", f32 { 1, 2 } }, { "bias", f32 { 1 } }, state = dict { { "_metadata",
    ordered { { "", version(1) } } } } } },
  { "optimizer", dict {
    { "state", dict {
      { 0, dict { { "step", tensor { "float32", {}, { 1.0 } } }, { "exp_avg", f32 { 1, 2 } }, { "exp_avg_sq",
        f32 { 1, 2 } } } },
      { 1, dict { { "step", tensor { "float32", {}, { 1.0 } } }, { "exp_avg", f32 { 1 } }, { "exp_avg_sq",
        f32 { 1 } } } },
    } },
    { "param_groups", list { adam } },
  } },
  { "scheduler", dict {
    { "T_max", 10 }, { "eta_min", 0.0 }, { "base_lrs", list { 0.001 } }, { "last_epoch", 0 }, { "_step_count", 1 },
    { "_is_initial", false }, { "_get_lr_called_within_step", false }, { "_last_lr", list { 0.001 } },
  } },
  { "epoch", 3 }, { "rng", tensor { "uint8", { 5056 } } },
}

return {
  { "align4096.pt", "torch-zip", dict { { "a", sixes() }, { "b", sixes() } } },
  { "all_dtypes.pt", "torch-zip", all_dtypes() },
  { "basic_dict.pt", "torch-zip", dict {
    { "a", sixes() }, { "b", ints(0, 1, 2) }, { "n", 5 }, { "f", 1.5 }, { "s", "h\xc3\xa9" }, { "t", tuple { 1, 2,
      3, 4 } },
    { "l", list { 1, none, true } }, { "d", dict { { "x", dict {} } } },
  } },
  { "bigdict.pt", "torch-zip", E.count(2001, function(i) return { "k" .. i - 1, i - 1 } end) },
  { "dcp", "torch-dcp", dict { { "model", dict { { "w", sixes() } } }, { "step", 5 } } },
  { "legacy.pt", "torch-legacy", dict {
    { "a", sixes { storage = "a" } }, { "row", row() }, { "h", tensor { "float16", { 2 }, { 1.0, 1.0 } } },
    { "e", tensor { "float32", { 0 }, {} } },
  } },
  { "many.pt", "torch-zip", many() },
  { "model.safetensors", "safetensors", dict { { "w", sixes() }, { "b", tensor { "bfloat16", { 2 }, { 0.0,
    0.0 } } } } },
  { "no_byteorder.pt", "torch-zip", dict { { "a", sixes() } } },
  { "nocrc.pt", "torch-zip", dict { { "a", sixes() } } },
  { "numpy.pt", "torch-zip", numpy },
  { "params.pt", "torch-zip", dict {
    { "p", tensor { "float32", { 2 }, { 1.0, 1.0 }, grad = true } },
    { "conj", tensor { "complex64", { 1 }, bytes = ("<ff"):pack(1, -2) } },
    { "neg", tensor { "float32", { 1 }, { -2.0 }, stride = { 2 }, offset = 1 } },
    { "meta", tensor { "float32", { 2 }, meta = true } }, { "rg", tensor { "float32", { 1 }, { 1.0 }, grad = true } },
  } },
  { "proto3.pt", "torch-zip", protocol }, { "proto4.pt", "torch-zip", protocol }, { "proto5.pt", "torch-zip",
    protocol },
  { "quantized.pt", "torch-zip", dict { -- 1 and 2 at a scale of 0.1, ones at scales of 0.1 and 0.2
    { "pt", tensor { "quint8", { 2 }, bytes = "\13\23" } }, { "pc", tensor { "qint8", { 2, 2 },
      bytes = "\10\10\5\5" } },
    { "q32", tensor { "qint32", { 2 }, bytes = ("<i4i4"):pack(10, 20) } },
  } },
  { "sparse.pt", "torch-zip", sparse },
  { "state_dict.pt", "torch-zip", ordered {
    { "0.weight", f32 { 3, 2 } }, { "0.bias", f32 { 3 } }, { "1.weight", floats(1.0, 1.0, 1.0) }, { "1.bias",
      floats(0.0, 0.0, 0.0) },
    { "1.running_mean", floats(0.0, 0.0, 0.0) }, { "1.running_var", floats(1.0, 1.0, 1.0) },
    { "1.num_batches_tracked", tensor { "int64", {}, { 0 } } },
    state = dict { { "_metadata", ordered { { "", version(1) }, { "0", version(1) }, { "1", version(2) } } } },
  } },
  { "synthetic_tar_0.1.pth", "torch-tar", dict { { "a", tensor { "float32", { 2, 2 }, { 0.0, 1.0, 2.0, 3.0 } } } } },
  { "tied_views.pt", "torch-zip", dict {
    { "w", sixes { storage = "a" } }, { "tied", sixes { storage = "a" } },
    { "t", tensor { "float32", { 3, 2 }, { 0.0, 3.0, 1.0, 4.0, 2.0, 5.0 }, stride = { 1, 3 }, storage = "a" } },
      { "row", row() },
    { "exp", tensor { "float32", { 4, 4 }, { 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
      0.0, 0.0 }, stride = { 0, 0 } } },
    { "scalar", tensor { "float32", {}, { 3.0 } } }, { "empty", tensor { "float32", { 0, 3 }, {}, stride = { 3,
      1 } } },
  } },
  { "torch1.13_basic.pt", "torch-zip", dict { { "a", sixes { storage = "a" } }, { "row", row() } } },
  { "torch1.13_legacy.pt", "torch-legacy", dict { { "a", sixes() } } },
  { "torchscript.pt", "torchscript", ordered {
    { "buf", tensor { "int64", { 3 } } }, { "fc.weight", f32({ 1, 2 }, { grad = true }) }, { "fc.bias", f32({ 1 },
      { grad = true }) },
    state = dict { { "_metadata", ordered { { "", script "M" }, { "fc",
      script "torch.nn.modules.linear.Linear" } } } },
  } },
  { "train_ckpt.pt", "torch-zip", train_ckpt },
}
