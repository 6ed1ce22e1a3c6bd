-- inside_spec.lua: numpy, sparse, nested and quantised tensors, attributes, objects and sanitised copies. The files
-- tests/data/inside_*.pth are made by make_inside.py; a composite tensor `x` has PyTorch's answer beside it as `x_dense`.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local DATA = "tests/data/"

-- What a Lua value is, with its kind of number.
local function show(value)
  if math.type(value) then return ("%s %s"):format(math.type(value), value) end
  return ("%s %s"):format(type(value), value)
end

local function names(list)
  local out = {}
  for i, entry in ipairs(list) do out[i] = entry.name end
  return out
end

-- name -> "what class into"
local function by_name(changes)
  local out = {}
  for _, change in ipairs(changes) do
    out[change.name] = ("%s %s%s"):format(change.what, change.class, change.into and " -> " .. change.into or "")
  end
  return out
end

local function same_tensor(wanted, got)
  assert.equal(wanted.dtype, got.dtype)
  assert.same(wanted.shape, got.shape)
  assert.equal(assert(wanted:sha256()), assert(got:sha256()))
end

describe("what is inside", function()
  local dir
  before_each(function() dir = scratch.dir() end)
  after_each(function() scratch.remove(dir) end)
  after_each(gate)

  local function open(name) return assert(ckpt.open(DATA .. "inside_" .. name .. ".pth", { verify = true })) end

  local function saved(value)
    assert(ckpt.save(dir .. "/x.pth", value))
    return assert(ckpt.open(dir .. "/x.pth", { verify = true }))
  end

  local function fails(code, pattern, ...)
    local value, message, got = ...
    assert.is_nil(value)
    assert.matches(pattern, message)
    assert.equal(code, got)
  end

  for _, file in ipairs { "numpy", "numpy1", "numpy5" } do
    describe("numpy in inside_" .. file, function()
      local cp
      before_each(function() cp = open(file) end)
      after_each(function() cp:close() end)

      local function array(name) return ckpt.array(cp:at("numpy." .. name)) end

      it("gives scalars as numbers and strings", function()
        local wanted = {
          f64 = 1.5, f32 = 0.25, f16 = 0.5, i64 = -5, u8 = 7, bool = true, str = "h\u{e9}", bytes = "ab", date = 18262,
        }
        for name, value in pairs(wanted) do assert.equal(show(value), show(array(name)), name) end
        assert.equal("int", ckpt.type(array "u64"))
        assert.equal("\xff\xff\xff\xff\xff\xff\xff\xff\0", ckpt.text(array "u64"))
      end)

      it("gives complex scalars by their parts", function()
        assert.same({ 1.0, 2.0 }, { ckpt.complex_parts(cp:at "numpy.c64") })
        assert.same({ 3.0, -4.0 }, { ckpt.complex_parts(cp:at "numpy.c128") })
        assert.equal("(3-4j)", tostring(array "c128"))
      end)

      it("gives arrays of numbers as tensors, whatever their order", function()
        for name, wanted in pairs(cp:at "torch") do same_tensor(wanted, array(name)) end
        assert.same({ 1, 2 }, array("F"):stride())
        assert.same({ 1, 2, 6 }, array("T3"):stride())
        assert.same({}, array("scalar_array").shape)
        assert.same({ 2.5 }, array("scalar_array"):tolist())
        assert.equal("uint16", array("u16").dtype)
        assert.same({ 1, 2 }, array("times"):tolist())
        assert.equal("uint32", ckpt.array(cp:at "numpy.rng[1]").dtype)
      end)

      it("gives strings and objects as a list and a shape", function()
        assert.same({ { "a", "bcd", "", "\u{fc}\u{1f600}" }, { 2, 2 } }, { array "strings" })
        assert.same({ { "ab" }, { 1 } }, { array "swapped_strings" })
        assert.same({ { "a", "bc" }, { 2 } }, { array "byte_strings" })
        local objects, shape = array "objects"
        assert.same({ 2, 2 }, shape)
        assert.same({ 1, "x" }, { objects[1], objects[2] })
        assert.equal(ckpt.none, objects[3])
        assert.same({ 1.0 }, objects[4]:tolist())
      end)

      it("refuses what PyTorch has no dtype for", function()
        fails("unsupported", "records", array "records")
        fails("unsupported", "f16", array "long")
      end)

      it("keeps the objects as they are", function()
        assert.equal("object", ckpt.type(cp:at "numpy.C"))
        local copy <close> = saved(cp:at "")
        same_tensor(array "T3", ckpt.array(copy:at "numpy.T3"))
        local objects = select(2, cp:list())
        assert.same(names(objects), names(select(2, copy:list())))
      end)
    end)
  end

  it("refuses what is no numpy array", function()
    local cp <close> = open "objects"
    fails("type", "a dict where a numpy array was expected", ckpt.array(cp:at ""))
    fails("type", "a dict where a complex number was expected", ckpt.complex_parts(cp:at ""))
    assert.has_error(function() ckpt.array(1) end)
  end)

  describe("sparse tensors", function()
    local cp
    before_each(function() cp = open "torch" end)
    after_each(function() cp:close() end)

    it("are made dense as PyTorch does", function()
      local count = 0
      for name, value in pairs(cp:at "sparse") do
        local wanted = cp:at("sparse." .. name .. "_dense")
        if wanted then
          same_tensor(wanted, assert(ckpt.dense(value)))
          count = count + 1
        end
      end
      assert.equal(13, count)
    end)

    it("show their parts", function()
      local coo = assert(ckpt.sparse(cp:at "sparse.coo_hybrid"))
      assert.equal("sparse_coo", coo.layout)
      assert.same({ { 3, 2 }, 2, 1, 1, false }, { coo.shape, coo.nnz, coo.sparse_ndim, coo.dense_ndim, coo.coalesced })
      assert.same({ { 1, 0 }, { 1, 2, 3, 4 } }, { coo.indices:tolist(), coo.values:tolist() })
      assert.is_nil(coo.compressed)
      local bsr = assert(ckpt.sparse(cp:at "sparse.bsr_batch"))
      assert.equal("sparse_bsr", bsr.layout)
      assert.same({ { 2, 4, 4 }, 5 }, { bsr.shape, bsr.nnz })
      assert.same({ { 2, 3 }, { 2, 5 }, { 2, 5, 2, 1 } }, { bsr.compressed.shape, bsr.plain.shape, bsr.values.shape })
      assert.is_nil(bsr.indices)
    end)

    it("may be in a Parameter", function()
      assert.equal("sparse_coo", ckpt.sparse(cp:at "sparse.parameter").layout)
      same_tensor(cp:at "sparse.coo_dense", ckpt.dense(cp:at "sparse.parameter"))
    end)

    it("list their parts and are not opaque", function()
      local tensors, objects = cp:list()
      local found = {}
      for _, name in ipairs(names(tensors)) do found[name] = true end
      assert.is_true(found["sparse.csr.args[1][2]"] and found["sparse.parameter.args[0].args[1][0]"])
      assert.same({}, objects)
    end)

    it("are refused where there are none", function()
      fails("type", "a dict where a sparse tensor was expected", ckpt.sparse(cp:at "sparse"))
      fails("type", "a dict where a sparse tensor was expected", ckpt.dense(cp:at "sparse"))
      fails("type", "a dict where a nested tensor was expected", ckpt.nested(cp:at "sparse"))
    end)

    it("come as nested ones too", function()
      local parts = assert(ckpt.nested(cp:at "wrapped.nested"))
      assert.equal(2, #parts)
      for i, part in ipairs(parts) do same_tensor(cp:at("wrapped.nested_parts")[i], part) end
    end)
  end)

  describe("quantised tensors", function()
    local cp
    before_each(function() cp = open "quantized" end)
    after_each(function() cp:close() end)

    it("stand for the numbers that PyTorch sees", function()
      for name, value in pairs(cp:at "") do
        local wanted = cp:at(name .. "_dense")
        if wanted then same_tensor(wanted, assert(ckpt.dequantize(value))) end
      end
    end)

    it("show their scales", function()
      assert.same({ scheme = "per_tensor_affine", scale = 0.25, zero_point = 3 }, ckpt.quantization(cp:at "qint8"))
      local q = ckpt.quantization(cp:at "channel1")
      assert.same({ "per_channel_affine", 2 }, { q.scheme, q.axis })
      assert.same({ { 0.5, 0.25, 1.0 }, { 0, 1, 2 } }, { q.scales:tolist(), q.zero_points:tolist() })
      assert.equal("per_channel_affine_float_qparams", ckpt.quantization(cp:at "float_channel").scheme)
    end)

    it("keep their scales when they are saved from Lua", function()
      local sd = cp:state_dict()
      local copy <close> = saved { one = cp:at "channel", sd = sd, twice = { cp:at "qint8", cp:at "view" } }
      for _, path in ipairs { "one", "sd.channel" } do
        same_tensor(cp:at "channel_dense", ckpt.dequantize(copy:at(path)))
      end
      same_tensor(cp:at "packed_dense", ckpt.dequantize(copy:at "sd.packed"))
      same_tensor(cp:at "qint32_dense", ckpt.dequantize(copy:at "sd.qint32"))
      same_tensor(cp:at "view_dense", ckpt.dequantize(copy:at "twice[1]"))
      assert.is_true(copy:at("twice[0]"):shares_storage(copy:at "twice[1]"))
      assert.is_true(copy:at("twice[0]"):shares_storage(copy:at "sd.qint8"))
    end)

    it("are refused where there are none", function()
      fails("type", "a float32 tensor is not quantised", ckpt.quantization(cp:at "qint8_dense"))
      fails("type", "whose scale is not known", ckpt.dequantize(ckpt.tensor("qint8", { 2 })))
      fails("unsupported", "x: a quantised tensor without its scale",
        ckpt.save(dir .. "/no.pth", { x = ckpt.tensor("qint8", { 2 }) }))
    end)
  end)

  describe("tensors that are more", function()
    local cp
    before_each(function() cp = open "torch" end)
    after_each(function() cp:close() end)

    it("show their attributes", function()
      local attributes = ckpt.attributes(cp:at "wrapped.attributes")
      assert.equal("hung on", attributes.note)
      assert.same({ 3.0 }, attributes.twin:tolist())
      assert.same({ 5.0 }, cp:at("wrapped.parameter_state.rank.w"):tolist())
      assert.is_nil(ckpt.attributes(cp:at "wrapped.parameter"))
      assert.is_nil(ckpt.attributes(cp:at "wrapped.meta"))
    end)

    it("are listed with the tensors that hang on them", function()
      local listed = table.concat(names((cp:list())), "\n")
      assert.matches("\nwrapped%.attributes\nwrapped%.attributes%.twin\n", listed)
      assert.matches("\nwrapped%.parameter_state\nwrapped%.parameter_state%.rank%.w\n", listed)
    end)

    it("are saved as what they are, one by one", function()
      local value = {}
      for _, name in ipairs { "attributes", "parameter", "parameter_state", "sub", "conj", "neg", "meta" } do
        value[name] = cp:at("wrapped." .. name)
      end
      value.again = value.parameter
      value.inside = { cp:at "wrapped.parameter" }
      local copy <close> = saved(value)
      assert.same({ 3.0 }, copy:at("attributes.twin"):tolist())
      assert.same({ 5.0 }, copy:at("parameter_state.rank.w"):tolist())
      assert.is_true(copy:at("parameter").requires_grad)
      assert.is_true(copy:at("meta"):is_meta())
      same_tensor(value.conj, copy:at "conj")
      same_tensor(value.neg, copy:at "neg")
      assert.same({ -2.0 }, copy:at("neg"):tolist())
      local tensors = copy:list()
      for _, entry in ipairs(tensors) do
        if entry.name == "again" then assert.same({ "inside[0]", "parameter" }, entry.aliases) end
      end
      local _, changes = ckpt.sanitize(copy)
      assert.same({ sub = "changed inside_classes.Sub -> tensor" }, by_name(changes))
    end)

    it("come from other devices", function()
      local devices <close> = open "devices"
      same_tensor(devices:at "xla_dense", devices:at "xla")
      assert.same({ 8.0 }, devices:at("maia"):tolist())
      assert.is_true(devices:at("maia").requires_grad)
      local copy <close> = saved(devices:at "")
      same_tensor(devices:at "xla_dense", copy:at "xla")
      assert.same({ "xla", "xla_dense", "maia" }, names((copy:list())))
    end)
  end)

  describe("objects", function()
    it("list the tensors in them, wherever Python puts them", function()
      local cp <close> = open "objects"
      local found = {}
      for _, entry in ipairs((cp:list())) do found[entry.name] = entry.tensor:tolist()[1] end
      local wanted = {
        ["namespace.ema"] = 1.5, ["namespace.sub.w"] = 2.5, ["listed.args[0]"] = 1.0, ["listed.buffer"] = 2.0,
        ["listed[0]"] = 3.0, ["listed.w"] = 4.0, ["slots.state[1].weight"] = 5.0, ["easy.w"] = 6.0,
        ["shared[0][0]"] = 7.0, ["ordered.w"] = 8.0, ["factory.w"] = 9.0, ["deque[0]"] = 10.0,
        ["partial.state[1][0]"] = 11.0, ["point.args[0]"] = 12.0, ["plain.w"] = 13.0, ["list[1].w"] = 14.0,
        ["tuple[1]"] = 15.0, ["module._buffers.count"] = 3,
      }
      for name, number in pairs(wanted) do assert.equal(show(number), show(found[name]), name) end
      assert.is_not_nil(found["module._parameters.weight"])
      assert.is_not_nil(found["optimizer.state.<tensor>.momentum_buffer"])
    end)

    it("are shown as Python shows them", function()
      local cp <close> = open "objects"
      local wanted = {
        counter = "Counter({'a': 2, 'b': 1, 'c': 1})", set = "{1, 2}", empty_set = "set()", frozenset = "frozenset({3})",
        bytes = "b'\\x00\\xff'", empty_bytes = "b''", bytearray = "bytearray(b'xy')",
        empty_bytearray = "bytearray(b'')", complex = "(1-2j)", range = "range(0, 10, 3)", slice = "slice(1, None, 2)",
        size = "torch.Size([2, 3])", device = "device(type='cuda', index=1)", cpu = "device(type='cpu')",
        dtype = "torch.float32", class = "inside_classes.Plain", plain = "<inside_classes.Plain>",
      }
      for name, text in pairs(wanted) do assert.equal(text, tostring(cp:at(name)), name) end
      assert.same({ 1.0, -2.0 }, { ckpt.complex_parts(cp:at "complex") })
    end)

    it("are written back, those made with keyword arguments too", function()
      local cp <close> = open "keyword4"
      local copy <close> = saved(cp:at "")
      local again <close> = saved(copy:at "")
      local class = select(2, again:list())[1].class
      assert.equal("inside_classes.Keyword", class)
    end)
  end)

  describe("a sanitised copy", function()
    it("has no objects that weights_only refuses, and says so", function()
      local cp <close> = open "objects"
      local value, changes = assert(ckpt.sanitize(cp))
      local found = by_name(changes)
      local wanted = {
        namespace = "dropped argparse.Namespace", ["namespace.ema"] = "dropped tensor",
        listed = "changed inside_classes.Listed -> dict", ["listed[0]"] = "dropped tensor",
        ["listed.buffer"] = "dropped tensor", easy = "changed inside_classes.Easy -> dict",
        factory = "changed collections.defaultdict -> dict", deque = "changed collections.deque -> list",
        frozenset = "changed frozenset -> set", module = "dropped torch.nn.modules.linear.Linear",
        ["module._buffers.count"] = "dropped tensor", range = "dropped __builtin__.xrange",
        class = "dropped inside_classes.Plain", ["list[1]"] = "dropped inside_classes.Plain -> None",
        ["list[1].w"] = "dropped tensor", ["keys.frozenset({1})"] = "dropped int",
      }
      for name, text in pairs(wanted) do assert.equal(text, found[name], name) end
      -- held elsewhere too: easy's fields are its entries, module.weight is kept.w
      assert.is_nil(found["easy.w"] or found["module._parameters.weight"] or found.counter or found.ordered)
      assert.is_nil(value.namespace)
      assert.equal(ckpt.none, value.list[2])
      assert.equal(3, value.list[3])
      assert.same({ 15.0 }, value.tuple[2]:tolist())
      assert.same({ 4.0 }, value.listed.w:tolist())
      assert.equal("{(1, 'a'): 2, 2.5: 3}", tostring(value.keys))
      local copy <close> = saved(value)
      assert.same({}, select(2, copy:list()))
      assert.equal("ring", copy:at("ring.self.self").name)
      for _, entry in ipairs((copy:list())) do
        if entry.name == "shared[0][0]" then assert.same({ "shared[1][0]" }, entry.aliases) end
      end
    end)

    it("changes nothing that may stay", function()
      for _, file in ipairs { "torch", "quantized" } do
        local cp <close> = open(file)
        local value, changes = assert(ckpt.sanitize(cp))
        assert.same(file == "torch" and { ["wrapped.sub"] = "changed inside_classes.Sub -> tensor" } or {},
          by_name(changes))
        local copy <close> = saved(value)
        local before, after = cp:list(), copy:list()
        assert.same(names(before), names(after))
        for i, entry in ipairs(before) do
          if not entry.tensor:is_meta() then same_tensor(entry.tensor, after[i].tensor) end
        end
      end
    end)

    it("has numbers, tensors and lists for numpy's", function()
      local cp <close> = open "numpy"
      local value, changes = assert(ckpt.sanitize(cp))
      local numpy, found = value.numpy, by_name(changes)
      assert.equal(show(1.5), show(numpy.f64))
      assert.equal(show(-5), show(numpy.i64))
      assert.equal("(3-4j)", tostring(numpy.c128))
      same_tensor(value.torch.T3, numpy.T3)
      assert.equal("[['a', 'bcd'], ['', '\u{fc}\u{1f600}']]", tostring(numpy.strings))
      assert.equal("[[1, 'x'], [None, <tensor>]]", tostring(numpy.objects))
      assert.equal("[b'a', b'bc']", tostring(numpy.byte_strings))
      assert.equal("dropped numpy._core.multiarray._reconstruct", found["numpy.records"])
      assert.equal("changed numpy._core.multiarray.scalar -> float", found["numpy.f64"])
      assert.equal("changed numpy._core.multiarray.scalar -> complex", found["numpy.c64"])
      assert.equal("changed numpy._core.multiarray._reconstruct -> tensor", found["numpy.rng[1]"])
      local copy <close> = saved(value)
      assert.same({}, select(2, copy:list()))
    end)

    it("is for PyTorch 1.13 when asked", function()
      local cp <close> = open "objects"
      local value, changes = assert(ckpt.sanitize(cp, "1.13"))
      local found = by_name(changes)
      assert.equal("changed bytes -> tensor", found.bytes)
      assert.same({ 0, 255 }, value.bytes:tolist())
      assert.equal("complex128", value.complex.dtype)
      assert.equal("cuda:1", value.device)
      assert.equal("cpu", value.cpu)
      assert.equal("[1, 2]", tostring(value.set))
      assert.equal("{'a': 2, 'b': 1, 'c': 1}", tostring(value.counter))
      assert.equal("dropped int", found["keys.2.5"])
      local quantized <close> = open "quantized"
      value, changes = assert(ckpt.sanitize(quantized, "1.13"))
      assert.equal("changed qint8 -> tensor", by_name(changes).channel)
      same_tensor(quantized:at "channel_dense", value.channel)
      local composite <close> = open "torch"
      value, changes = assert(ckpt.sanitize(composite, "1.13"))
      found = by_name(changes)
      assert.equal("dropped torch._utils._rebuild_sparse_tensor", found["sparse.bsr"])
      assert.equal("changed torch._utils._rebuild_parameter -> tensor", found["sparse.parameter"])
      assert.equal("changed torch._utils._rebuild_parameter_with_state -> tensor", found["wrapped.parameter_state"])
      assert.equal("dropped tensor", found["wrapped.parameter_state.rank.w"])
      same_tensor(composite:at "sparse.csr_dense", ckpt.dense(value.sparse.csr))
      same_tensor(composite:at "wrapped.conj", value.wrapped.conj)
    end)

    it("may be made of any value", function()
      local cp <close> = open "objects"
      assert.equal(5, (ckpt.sanitize(5)))
      assert.equal("[1, None]", tostring((ckpt.sanitize { 1, cp:at "plain" })))
      assert.equal("[<tensor>, 2, 3]", tostring((ckpt.sanitize(cp:at "deque"))))
      fails("unsupported", "the whole value is one inside_classes.Plain, which would be dropped: save its state dict instead",
        ckpt.sanitize(cp:at "plain"))
      assert.has_error(function() ckpt.sanitize() end)
      assert.has_error(function() ckpt.sanitize(1, "3.0") end)
    end)
  end)

  it("verifies the indices", function()
    local cp <close> = open "torch"
    assert.is_true(cp:verify())
  end)
end)
