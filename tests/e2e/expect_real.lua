-- expect_real.lua: the files of ../shared/data/real that hold no tensors, or none that the oracle knows. Worked
-- out with
-- pickletools.dis and with an Unpickler that knows no classes; the big arrays by their size, their beginning and end.

local E = require "tests.e2e.expect"
local list, tuple, dict, ordered, object, bytes, none = E.list, E.tuple, E.dict, E.ordered, E.object, E.bytes, E.none

-- numpy.dtype(code, align, copy) with its state; a plain type has itemsize and alignment -1.
local function dtype(code, order, align, copy, itemsize, alignment, flags)
  return object("numpy.dtype", tuple { code, align, copy },
    tuple { 3, order, none, none, none, itemsize or -1, alignment or -1, flags or 0 })
end

local function old(code, order, ...) return dtype(code, order, 0, 1, ...) end           -- numpy before 1.20 or so
local function new(code, order, ...) return dtype(code, order, false, true, ...) end

local function array(shape, of, fortran, data)
  return object("numpy.core.multiarray._reconstruct", tuple { E.class "numpy.ndarray", tuple { 0 }, bytes "b" },
    tuple { 1, tuple(shape), of, fortran, type(data) == "string" and bytes(data) or data })
end

local function scalar(of, data) return object("numpy.core.multiarray.scalar", tuple { of, bytes(data) }) end

local builtin_types = dict {
  { "str", "Julia!" }, { "int", 42 }, { "bool", dict { { true, false }, { false, true } } }, { "float", 3.1415926 },
  { "bytes", bytes "1234\xc2\xb2" }, { "tuple", tuple { 1, 2.0, "3", bytes "4" } }, { "set", E.set { 1, 2, 3, 12,
    21 } },
  { "bigint", E.bigint "1234567890987654321012345678909876543210" }, { "list", list { "February", 14, 2012 } },
  { "unicode", "R\xc3\xa9sum\xc3\xa9" },
}

-- -1 and 1 in each type, 0 and 1 where there is no -1, 1-1j and 1+1j.
local numpy_arrays = list {
  array({ 2 }, new("f8", "<"), false, ("<dd"):pack(-1, 1)), array({ 2 }, new("f4", "<"), false, ("<ff"):pack(-1, 1)),
  array({ 2 }, new("f2", "<"), false, "\x00\xbc\x00\x3c"), array({ 2 }, new("i8", "<"), false, ("<i8i8"):pack(-1, 1)),
  array({ 2 }, new("i4", "<"), false, ("<i4i4"):pack(-1, 1)), array({ 2 }, new("i2", "<"), false,
    ("<i2i2"):pack(-1, 1)),
  array({ 2 }, new("i1", "|"), false, "\xff\x01"), array({ 2 }, new("u8", "<"), false, ("<I8I8"):pack(0, 1)),
  array({ 2 }, new("u4", "<"), false, ("<I4I4"):pack(0, 1)), array({ 2 }, new("u2", "<"), false, ("<I2I2"):pack(0,
    1)),
  array({ 2 }, new("u1", "|"), false, "\0\1"), array({ 2 }, new("b1", "|"), false, "\0\1"),
  array({ 2 }, new("c16", "<"), false, ("<dddd"):pack(1, -1, 1, 1)), array({ 2 }, new("c8", "<"), false,
    ("<ffff"):pack(1, -1, 1, 1)),
}

-- Columns (1, 2, 3) and (4, 5, 6), in Fortran's order.
local fortran = array({ 3, 2 }, new("i8", "<"), true, ("<i8i8i8i8i8i8"):pack(1, 2, 3, 4, 5, 6))

-- A module without parameters: no tensors, and what the module says of itself.
local function module(class, hook)
  local says = { { "__class__", "__torch__." .. class }, { "training", true } }
  if hook then says[3] = { "_is_full_backward_hook", none } end
  return ordered { state = dict { { "_metadata", ordered { { "", dict(says) } } } } }
end

-- The storage object that both share: its tuple is written twice.
local storage = E.persid(tuple { "storage", E.class "torch.FloatStorage", "94279043900432", "cpu", 1 })

local utf32 = "a\0\0\0b\0\0\0c\0\0\0\xb1\3\0\0\0\xf6\1\0" -- "abcα😀"
local function utf32_of(order) -- "abcde" and "ghijkf", six characters each
  local text = ("abcde\0ghijkf"):gsub(".", function(c) return (order .. "I4"):pack(c:byte()) end)
  return text
end

local pickle_jl, tch, sharp = "chengchingwen+Pickle.jl/test/test_pkl/", "LaurentMazare+tch-rs/tests/",
  "dotnet+TorchSharp/test/TorchSharpTest/"
local bumblebee, agents = "elixir-nx+bumblebee/test/fixtures/pytorch/", "DLR-RM+rl-trained-agents/"

local files = {
  { agents .. "a2c/Pendulum-v1_1/Pendulum-v1.zip.d/pytorch_variables.pth", "torch-zip", dict {} },
  { agents .. "ars/MountainCar-v0_1/best_model.zip.d/pytorch_variables.pth", "torch-zip", dict {} },
  { pickle_jl .. "csr_mat.pkl", "pickle", object("scipy.sparse.csr.csr_matrix", tuple {}, dict {
    { "_shape", tuple { 100, 100 } }, { "maxprint", 50 },
    { "indices", array({ 100 }, old("i4", "<"), false, E.long(400, ("<i4i4"):pack(29, 10), ("<i4i4"):pack(68, 91))) },
    { "indptr", array({ 101 }, old("i4", "<"), false, E.long(404, ("<i4i4i4"):pack(0, 0, 0), ("<i4i4"):pack(99,
      100))) },
    { "data", array({ 100 }, old("f8", "<"), false, E.long(800, "\x3c\x86\xa4\xe6\x9c\x1d\xe8\x3f",
      "\x6b\x89\x5e\x06\x4a\x6d\xeb\x3f")) },
    { "_has_canonical_format", true }, { "_has_sorted_indices", true },
  }) },
  { pickle_jl .. "test-np-end.pkl", "pickle", list {
    array({ 5, 4, 3 }, old("f8", ">"), false, E.long(480, "\xbf\xf7\x79\x97\x6d\xc8\xc9\x49",
      "\x3f\xcb\xdd\x6b\x22\x97\x8b\x08")),
    array({ 5, 4, 3 }, old("f8", "<"), false, E.long(480, "\x28\x8b\xbd\x41\x1e\xb4\xf0\x3f",
      "\x09\xca\xd0\xc8\x4c\x70\xdb\xbf")),
  } },
  { pickle_jl .. "test-np-multi.pkl", "pickle", list {
    array({ 5, 4, 3, 2 }, old("f8", "<"), false, E.long(960, "\xf1\xd8\x04\x8b\xd1\xe8\xe0\x3f",
      "\x4e\x2a\xca\xf3\x27\xbc\xd1\xbf")),
    array({ 10 }, old("i8", "<"), false, ("<i8i8i8i8i8i8i8i8i8i8"):pack(0, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
    array({ 3 }, old("b1", "|"), false, "\1\0\1"),
  } },
  { pickle_jl .. "test-np-scalar.pkl", "pickle", list {
    scalar(old("u4", "<"), ("<I4"):pack(4)), scalar(old("i8", "<"), ("<i8"):pack(6)), scalar(old("f2", "<"),
      "\x00\x42"),
    scalar(old("f8", "<"), ("<d"):pack(5)), scalar(old("U5", "<", 20, 4, 8), utf32),
  } },
  { pickle_jl .. "test-np-string.pkl", "pickle", dict {
    { "big-endian", array({ 2 }, old("U6", ">", 24, 4, 8), false, utf32_of ">") },
    { "little-endian", array({ 2 }, old("U6", "<", 24, 4, 8), false, utf32_of "<") },
  } },
  { pickle_jl .. "test-np.pkl", "pickle", array({ 3, 5 }, old("f8", "<"), false,
    E.long(120, "\x29\x0f\x9c\x3b\x11\x5a\xbf\x3f", "\x6b\x4a\x31\xab\x2b\xc5\xf2\x3f")) },
  { bumblebee .. "noncontiguous_numpy_array.legacy.pt", "torch-legacy", fortran },
  { bumblebee .. "noncontiguous_numpy_array.zip.pt", "torch-zip", fortran },
  { bumblebee .. "numpy_arrays.legacy.pt", "torch-legacy", numpy_arrays },
  { bumblebee .. "numpy_arrays.zip.pt", "torch-zip", numpy_arrays },
  { bumblebee .. "ordered_dict.legacy.pt", "torch-legacy", ordered { { "x", 1 }, { "y", 2 } } },
  { bumblebee .. "ordered_dict.zip.pt", "torch-zip", ordered { { "x", 1 }, { "y", 2 } } },
  { bumblebee .. "storage_view.legacy.pt", "torch-legacy", tuple { storage, storage } },
  { tch .. "foo6.pt", "torchscript", module("PlaceholderModule", false) },
  { tch .. "foo7.pt", "torchscript", module("TorchScriptExample", true) },
  { tch .. "foo8.pt", "torchscript", module("DictExample", true) },
  { sharp .. "func.script.dat", "torchscript", module("PlaceholderModule", false) },
  { sharp .. "list_out.dat", "torchscript", module("PlaceholderModule", false) },
  { sharp .. "tuple_out.dat", "torchscript", module("PlaceholderModule", false) },
}

for n = 0, 4 do files[#files + 1] = { ("%sbuiltin_type_p%d.pkl"):format(pickle_jl, n), "pickle", builtin_types } end
for n = 1, 5 do files[#files + 1] = { ("%sfoo%d.pt"):format(tch, n), "torchscript", module("Foo" .. n, true) } end

return files
