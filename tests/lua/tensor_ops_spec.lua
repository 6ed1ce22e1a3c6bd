-- tensor_ops_spec.lua: tensors from Lua: numbers in and out, views, computed tensors, casts, statistics; which arguments raise
-- and what comes back as nil, message, code; that every name is in the document.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

-- A tensor of its own with 0, 1, 2, ...
local function counting(dtype, shape)
  local n, numbers = 1, {}
  for _, size in ipairs(shape) do n = n * size end
  for i = 1, n do numbers[i] = i - 1 end
  return ckpt.tensor(dtype, shape, numbers)
end

local dir
-- The same tensor as a file has it: read-only, so that what is made of it is lazy.
local function filed(tensor)
  dir = dir or scratch.dir()
  assert(ckpt.save(dir .. "/t.pth", { t = tensor }))
  local cp <close> = assert(ckpt.open(dir .. "/t.pth"))
  return assert(cp:state_dict())["t"]
end

local function clean()
  if dir then scratch.remove(dir) end
  dir = nil
  gate()
end

local function same_numbers(expected, actual)
  assert.same(expected, actual)
  for i, v in ipairs(expected) do assert.equal(math.type(v), math.type(actual[i])) end
end

-- Runs a test for a tensor of its own and for one in a file.
local function both(name, dtype, shape, test)
  it(name .. " (own)", function() test(counting(dtype, shape)) end)
  it(name .. " (file)", function() test(filed(counting(dtype, shape))) end)
end

local function fails(code, pattern, value, message, got)
  assert.is_nil(value)
  assert.equal(code, got)
  assert.matches(pattern, message)
end

local function raises(pattern, f, ...)
  local ok, message = pcall(f, ...)
  assert.is_false(ok)
  assert.matches(pattern, message)
end

describe("numbers", function()
  after_each(clean)

  it("go in and come out of every dtype", function()
    local integers = { "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64" }
    for _, dtype in ipairs(integers) do same_numbers({ 3, 0, 100 }, ckpt.tensor(dtype, { 3 }, { 3, 0, 100 }):tolist()) end
    local floats = { "float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz",
      "float8_e5m2fnuz" }
    for _, dtype in ipairs(floats) do same_numbers({ -1.5, 0.0, 96.0 }, ckpt.tensor(dtype, { 3 }, { -1.5, 0, 96 }):tolist()) end
    same_numbers({ 0.5, 4.0 }, ckpt.tensor("float8_e8m0fnu", { 2 }, { 0.5, 4 }):tolist())
    assert.same({ true, false, true }, ckpt.tensor("bool", { 3 }, { true, false, 1 }):tolist())
    for _, dtype in ipairs { "complex32", "bcomplex32", "complex64", "complex128" } do
      assert.same({ { 1.0, -2.0 }, { 3.0, 0.0 } }, ckpt.tensor(dtype, { 2 }, { { 1, -2 }, 3 }):tolist())
    end
  end)

  it("of uint64 beyond the largest integer are floats; bytes are exact", function()
    local t = ckpt.tensor("uint64", { 3 }, ("\255"):rep(8) .. ("\0"):rep(7) .. "\128" .. ("\255"):rep(7) .. "\127")
    same_numbers({ 0x1p64, 0x1p63, math.maxinteger }, t:tolist())
    assert.equal(("\255"):rep(8), t:bytes():sub(1, 8))
    t:set(2, 0x1p63)
    assert.equal(("\0"):rep(7) .. "\128", t:bytes():sub(9, 16))
  end)

  it("come as bytes too", function()
    assert.same({ 1, 258 }, ckpt.tensor("int16", { 2 }, "\1\0\2\1"):tolist())
    raises("#3.*3 bytes where the shape needs 4", ckpt.tensor, "int16", { 2 }, "\1\0\2")
    assert.equal("\x21\x03", ckpt.tensor("quint4x2", { 3 }, "\x21\x03"):bytes())
    assert.equal(2, ckpt.tensor("quint4x2", { 3 }).nbytes)
    assert.same({}, ckpt.tensor("int16", { 0 }, ""):tolist())
  end)

  it("that do not fit raise", function()
    raises("#3.*number 2: 256 does not fit uint8", ckpt.tensor, "uint8", { 2 }, { 0, 256 })
    raises("#3.*number 1: 0.5 is no whole number", ckpt.tensor, "int8", { 1 }, { 0.5 })
    raises("#3.*number 1: 1e%+06 does not fit float16", ckpt.tensor, "float16", { 1 }, { 1e6 })
    raises("#3.*as many numbers as the shape has", ckpt.tensor, "int8", { 2 }, { 1 })
    raises("#3.*number expected, got string", ckpt.tensor, "int8", { 1 }, { "1" })
    raises("#3.*a complex number is { re, im }", ckpt.tensor, "complex64", { 1 }, { { 1 } })
    raises("#3.*table expected", ckpt.tensor, "int8", { 1 }, 7)
    raises("#3.*quint8: its elements are no numbers", ckpt.tensor, "quint8", { 1 }, { 1 })
    raises("#1.*'float' is no dtype", ckpt.tensor, "float", { 1 })
  end)

  it("are got and set one by one", function()
    local t = counting("int32", { 2, 3 })
    assert.equal(5, t:get(2, 3))
    assert.equal(5, t:get(-1, -1))
    assert.equal(t, t:set(1, -1, 40))
    same_numbers({ 0, 1, 40, 3, 4, 5 }, t:tolist())
    assert.equal(7, counting("int32", {}):set(7):item())
    assert.equal(true, ckpt.tensor("bool", { 1, 1 }, { true }):item())
    assert.same({ 1.0, 2.0 }, ckpt.tensor("complex64", {}, { { 1, 2 } }):item())
  end)

  it("are written into views, and a clone of what lies in a file", function()
    local t = counting("float32", { 2, 3 })
    t:select(2, 2):fill(9)
    assert.same({ 0, 9, 2, 3, 9, 5 }, t:tolist())
    t:slice(1, 2):slice(2, 2):copy_(ckpt.tensor("int64", { 1, 2 }, { -1, -2 }))
    assert.same({ 0, 9, 2, 3, -1, -2 }, t:tolist())
    local f = filed(t)
    raises("the tensor is read%-only; a clone of it is not", f.set, f, 1, 1, 0)
    raises("the tensor is read%-only", f.fill, f, 0)
    fails("argument", "the destination tensor is read%-only", f:copy_(t))
    assert.equal(4.0, f:clone():set(1, 1, 4):get(1, 1))
  end)

  it("are refused where they have no place", function()
    local t = counting("int8", { 2, 3 })
    raises("#1.*index 3 is outside a dimension of size 2", function() return t:get(3, 1) end)
    raises("#2.*index 0 is outside a dimension of size 3", function() return t:get(1, 0) end)
    raises("#2.*integer expected, got number", function() return t:get(1, 1.0) end)
    raises("#2.*integer expected, got no value", function() return t:get(1) end)
    raises("#3.*more indices than dimensions", function() return t:get(1, 1, 1) end)
    raises("#3.*one value follows one index", function() return t:set(1, 1) end)
    raises("#3.*200 does not fit int8", function() return t:set(1, 1, 200) end)
    raises("#1.*1%+2i has an imaginary part, int8 has none", function() return t:fill { 1, 2 } end)
    raises("item%(%) is of a tensor with one element", function() return t:item() end)
    fails("unsupported", "qint8: its elements are no numbers", ckpt.tensor("qint8", { 1 }):get(1))
    fails("unsupported", "qint8: its elements are no numbers", ckpt.tensor("qint8", { 1 }):tolist())
  end)

  it("are equal by dtype, shape and bits", function()
    local t = counting("int32", { 2, 3 })
    assert.is_true(t:equal(filed(t)))
    assert.is_false(t:equal(t:to("int64")))
    assert.is_false(t:equal(t:reshape { 3, 2 }))
    assert.is_false(t:equal(t:clone():set(1, 1, 8)))
    raises("#1.*ckpt.tensor expected", function() return t:equal(5) end)
  end)
end)

describe("a view", function()
  after_each(clean)

  both("by select and slice", "int32", { 2, 4 }, function(t)
    local v = t:select(1, -1)
    assert.same({ 4, 5, 6, 7 }, v:tolist())
    assert.is_true(v:shares_storage(t))
    assert.same({ 1, 2, 3, 5, 6, 7 }, t:slice(2, 2):tolist())
    assert.same({ 1, 2, 5, 6 }, t:slice(2, 2, 3):tolist())
    assert.same({ 2, 3, 6, 7 }, t:slice(-1, -2, -1):tolist())
    assert.same({ 0, 2, 4, 6 }, t:slice(2, 1, 4, 2):tolist())
    assert.same({ 2, 0 }, t:slice(2, 1, 0).shape)
    assert.same({ 2, 0 }, t:slice(2, 5).shape)
  end)

  both("by permute and transpose", "int32", { 2, 3 }, function(t)
    assert.same({ 0, 3, 1, 4, 2, 5 }, t:permute({ 2, 1 }):tolist())
    assert.same({ 0, 3, 1, 4, 2, 5 }, t:transpose(1, -1):tolist())
    assert.same({ 1, 3 }, t:transpose(1, 2):stride())
    assert.is_true(t:permute({ -1, 1 }):shares_storage(t))
  end)

  both("by reshape and flatten", "int32", { 2, 3, 2 }, function(t)
    assert.same({ 4, 3 }, t:reshape({ -1, 3 }).shape)
    assert.is_true(t:reshape({ 12 }):shares_storage(t))
    assert.same({ 6, 2 }, t:flatten(1, 2).shape)
    assert.same({ 2, 6 }, t:flatten(2).shape)
    assert.same({ 12 }, t:flatten().shape)
    local turned = t:transpose(1, 2):reshape { 6, 2 }
    assert.is_false(turned:shares_storage(t))
    assert.same({ 0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11 }, turned:tolist())
  end)

  both("by squeeze, unsqueeze and expand", "int32", { 1, 2, 1 }, function(t)
    assert.same({ 2 }, t:squeeze().shape)
    assert.same({ 1, 2 }, t:squeeze(-1).shape)
    assert.same({ 2 }, t:squeeze(1, 3, 2).shape)
    assert.same({ 1, 1, 2, 1 }, t:unsqueeze(1).shape)
    assert.same({ 1, 2, 1, 1 }, t:unsqueeze(-1).shape)
    assert.same({ 0, 0, 0, 1, 1, 1 }, t:expand({ -1, -1, 3 }):tolist())
    assert.same({ 4, 1, 2, 1 }, t:expand({ 4, 1, 2, 1 }).shape)
  end)

  both("by split and chunk", "int32", { 2, 5 }, function(t)
    local pieces = t:split({ 1, 0, 4 }, 2)
    assert.equal(3, #pieces)
    assert.same({ 0, 5 }, pieces[1]:tolist())
    assert.same({ 2, 0 }, pieces[2].shape)
    assert.same({ 1, 2, 3, 4, 6, 7, 8, 9 }, pieces[3]:tolist())
    assert.same({ 2, 2, 1 }, { t:split(2, 2)[1].shape[2], t:split(2, 2)[2].shape[2], t:split(2, 2)[3].shape[2] })
    assert.equal(3, #t:chunk(4, -1))
    assert.equal(2, #t:chunk(7))
    assert.is_true(t:chunk(2)[2]:shares_storage(t))
    assert.equal(1, #t:slice(1, 1, 0):split(3))
    assert.equal(3, #t:slice(1, 1, 0):chunk(3))
  end)

  it("has arguments that are looked at", function()
    local t = counting("int8", { 2, 3 })
    raises("#1.*there is no dimension 3 in a tensor of 2", function() return t:select(3, 1) end)
    raises("#1.*there is no dimension 0", function() return t:select(0, 1) end)
    raises("#2.*index 3 is outside a dimension of size 2", function() return t:select(1, 3) end)
    raises("#2.*integer expected", function() return t:select(1, "1") end)
    raises("#2.*it is outside the dimension", function() return t:slice(1, 0) end)
    raises("#2.*it is outside the dimension", function() return t:slice(1, -3) end)
    raises("#3.*it is outside the dimension", function() return t:slice(1, 1, 3) end)
    raises("#3.*it comes before the first index", function() return t:slice(2, 3, 1) end)
    raises("#4.*the least step is 1", function() return t:slice(1, 1, 2, 0) end)
    raises("#1.*every dimension is named once", function() return t:permute { 1, 1 } end)
    raises("#1.*every dimension is named once", function() return t:permute { 1 } end)
    raises("#1.*there is no dimension 3", function() return t:permute { 1, 3 } end)
    raises("#2.*there is no dimension %-3", function() return t:transpose(1, -3) end)
    raises("#2.*it comes before the first dimension", function() return t:flatten(2, 1) end)
    raises("#2.*the dimension is named twice", function() return t:squeeze(1, -2) end)
    raises("#1.*there is no dimension 4 in a tensor of 3", function() return t:unsqueeze(4) end)
    raises("#1.*a piece has 1 entry or more", function() return t:split(0, 1) end)
    raises("#1.*there is 1 chunk or more", function() return t:chunk(0, 1) end)
    raises("#1.*too many pieces", function() return t:slice(1, 1, 0):chunk(1 << 21, 1) end)
    raises("a tensor without dimensions has no pieces", function() return counting("int8", {}):split(1) end)
    raises("a tensor without dimensions has no pieces", function() return counting("int8", {}):chunk(1) end)
    raises("#1.*every entry must be an integer", function() return t:reshape { 1.5 } end)
  end)

  it("that the shape does not allow is nil, message, code", function()
    local t = counting("int8", { 2, 3 })
    fails("shape", "shape %[2, 3%] cannot become %[4, %-1%]", t:reshape { 4, -1 })
    fails("shape", "shape %[2, 3%] does not expand to %[2, 4%]", t:expand { 2, 4 })
    fails("shape", "the sizes do not add up to the 3 entries", t:split({ 1, 1 }, 2))
    fails("shape", "the sizes do not add up to the 3 entries", t:split({ -1, 4 }, 2))
    fails("unsupported", "no slice on packed quint4x2", ckpt.tensor("quint4x2", { 4 }):split({ 2, 2 }))
    fails("unsupported", "no permute on packed quint2x4", ckpt.tensor("quint2x4", { 4 }):permute { 1 })
  end)
end)

describe("a computed tensor", function()
  after_each(clean)

  both("by index_select, flip and roll", "int32", { 2, 3 }, function(t)
    assert.same({ 2, 0, 5, 3 }, t:index_select(2, { 3, -3 }):tolist())
    assert.same({ 0, 3 }, t:index_select(1, {}):transpose(1, 2):transpose(1, 2).shape)
    assert.same({ 2, 1, 0, 5, 4, 3 }, t:flip(2):tolist())
    assert.same({ 5, 4, 3, 2, 1, 0 }, t:flip(1, -1):tolist())
    assert.same({ 2, 0, 1, 5, 3, 4 }, t:roll(1, 2):tolist())
    assert.same({ 3, 4, 5, 0, 1, 2 }, t:roll(-3, 1):tolist())
  end)

  both("by cat, stack and pad", "int32", { 2, 2 }, function(t)
    assert.same({ 0, 1, 2, 3, 0, 1, 2, 3 }, ckpt.cat({ t, t }):tolist())
    assert.same({ 0, 1, 0, 1, 2, 3, 2, 3 }, ckpt.cat({ t, t }, -1):tolist())
    assert.same({ 2, 2, 2 }, ckpt.stack({ t, t }).shape)
    assert.same({ 0, 0, 1, 1, 2, 2, 3, 3 }, ckpt.stack({ t, t }, 3):tolist())
    assert.same({ 0, 0, 1, 2, 3 }, t:flatten():pad({ { 1, 0 } }):tolist())
    assert.same({ 0, 1, 9, 2, 3, 9 }, t:pad({ { 0, 0 }, { 0, 1 } }, 9):tolist())
    assert.same({ 3, 2 }, t:pad({ { 1, 0 } }).shape)
  end)

  both("by scale and add", "int32", { 3 }, function(t)
    assert.same({ 0, -3, -6 }, t:scale(-3):tolist())
    assert.same({ 0, 2, 4 }, t:scale(2.0):tolist())
    assert.same({ 5, 6, 7 }, t:add(5):tolist())
    assert.same({ 0, 2, 4 }, t:add(t):tolist())
    local wide = t:to("float64")
    assert.same({ 0.0, 0.1, 0.2 }, wide:scale(0.1):tolist())
    assert.same({ { 0.0, 0.0 }, { 0.0, 2.0 }, { 0.0, 4.0 } }, t:to("complex64"):scale({ 0, 2 }):tolist())
  end)

  both("by to and contiguous", "float32", { 2, 3 }, function(t)
    assert.equal("float16", t:to("float16").dtype)
    same_numbers({ 0, 1, 2, 3, 4, 5 }, t:to("uint8"):tolist())
    assert.is_true(t:contiguous():shares_storage(t))
    assert.is_true(t:to("float32"):shares_storage(t))
    local turned = t:transpose(1, 2)
    assert.is_false(turned:is_contiguous())
    assert.is_true(turned:contiguous():is_contiguous())
    assert.is_true(turned:contiguous():equal(turned))
  end)

  it("of a tensor in a file is read-only, of one's own is not", function()
    local t = counting("int32", { 2 })
    assert.equal(8, t:scale(2):set(1, 8):get(1))
    local lazy = filed(t):scale(2)
    raises("read%-only", lazy.set, lazy, 1, 8)
  end)

  it("is not changed by what happens to its source", function()
    local t = counting("int32", { 3 })
    local doubled = t:scale(2)
    t:fill(7)
    assert.same({ 0, 2, 4 }, doubled:tolist())
  end)

  it("outlives its sources, and is saved", function()
    local lazy = filed(counting("float32", { 4, 4 })):transpose(1, 2):to("bfloat16"):slice(1, 2, 3)
    collectgarbage()
    local back = filed(lazy)
    assert.same({ 1, 5, 9, 13, 2, 6, 10, 14 }, back:tolist())
    assert.equal("bfloat16", back.dtype)
  end)

  it("may be the last of a long chain", function()
    local t = filed(counting("int64", { 2 }))
    for _ = 1, 1000 do t = t:add(1) end
    assert.same({ 1000, 1001 }, t:tolist())
  end)

  it("has arguments that are looked at", function()
    local t = counting("int8", { 2, 3 })
    raises("#2.*index 4 is outside a dimension of size 3", function() return t:index_select(2, { 1, 4 }) end)
    raises("#2.*index 0 is outside", function() return t:index_select(2, { 0 }) end)
    raises("#2.*table expected", function() return t:index_select(2, 1) end)
    raises("#1.*a dimension is expected", function() return t:flip() end)
    raises("#2.*the dimension is named twice", function() return t:flip(1, 1) end)
    raises("#1.*integer expected", function() return t:roll(1.5, 1) end)
    raises("#2.*there is no dimension 3", function() return t:roll(1, 3) end)
    raises("#1.*a pair holds two integers, none negative", function() return t:pad { { 1, -1 } } end)
    raises("#1.*a pair holds two integers, none negative", function() return t:pad { { 1 } } end)
    raises("#1.*every entry is a pair", function() return t:pad { 1, 1 } end)
    raises("#1.*more pairs than dimensions", function() return t:pad { { 0, 0 }, { 0, 0 }, { 0, 0 } } end)
    raises("#1.*number expected, got string", function() return t:scale "2" end)
    raises("#1.*number expected, got nil", function() return t:add(nil) end)
    raises("#1.*ckpt.tensor expected", function() return t:add(io.stdout) end)
    raises("#1.*'half' is no dtype", function() return t:to "half" end)
    raises("#1.*a list of tensors is expected", ckpt.cat, {})
    raises("#1.*every entry is a tensor", ckpt.cat, { t, 5 })
    raises("#2.*there is no dimension 3", ckpt.cat, { t, t }, 3)
    raises("#2.*there is no dimension 4 in a tensor of 3", ckpt.stack, { t, t }, 4)
  end)

  it("that the tensors do not allow is nil, message, code", function()
    local t, flags = counting("int8", { 2, 3 }), ckpt.tensor("bool", { 2, 3 })
    fails("type", "0.5 is no whole number, int8 holds nothing else", t:scale(0.5))
    fails("range", "200 does not fit int8", t:add(200))
    fails("unsupported", "scale is not defined for bool: cast it first", flags:scale(2))
    fails("type", "int8 and bool are not added: cast one of them", t:add(flags))
    fails("shape", "tensors of different shapes are not added", t:add(t:transpose(1, 2)))
    fails("type", "tensors of int8 and bool are not joined", ckpt.cat { t, flags })
    fails("shape", "shapes %[2, 3%] and %[3, 2%] differ", ckpt.stack { t, t:transpose(1, 2) })
    fails("unsupported", "no cast from complex64 to float32: the imaginary parts would be lost",
      t:to("complex64"):to("float32"))
    fails("unsupported", "no cast from qint8 to float32", ckpt.tensor("qint8", { 1 }):to("float32"))
    fails("unsupported", "no flip on packed quint4x2", ckpt.tensor("quint4x2", { 2 }):flip(1))
    fails("range", "300 does not fit int8", t:pad({ { 1, 1 } }, 300))
    local wide = ckpt.tensor("float32", { 1 }):expand { 1 << 40 }
    fails("limit", "the view spreads a storage of 4 bytes", wide:to("float16"))
    fails("limit", "the view spreads a storage of 4 bytes", wide:clone())
  end)
end)

describe("statistics", function()
  after_each(clean)

  both("of numbers", "float32", { 2, 2 }, function(t)
    local s = t:stats()
    same_numbers({ 0.0, 3.0, 1.5 }, { s.min, s.max, s.mean })
    assert.is_true(math.abs(s.std - math.sqrt(5 / 3)) < 1e-12)
    same_numbers({ 4, 1, 0, 0, 0 }, { s.count, s.zeros, s.nan, s.inf, s.nonfinite })
  end)

  it("leave out what is not finite, and are nil of nothing", function()
    local huge, nan = math.huge, 0 / 0
    local s = ckpt.tensor("bfloat16", { 5 }, { nan, huge, 2, -huge, nan }):stats()
    assert.same({ min = 2.0, max = 2.0, mean = 2.0, count = 5, zeros = 0, nan = 2, inf = 2, nonfinite = 4 }, s)
    assert.same({ count = 0, zeros = 0, nan = 0, inf = 0, nonfinite = 0 }, ckpt.tensor("int8", { 0 }):stats())
  end)

  it("of complex numbers are of their magnitudes", function()
    assert.equal(5.0, ckpt.tensor("complex64", { 1 }, { { 3, -4 } }):stats().max)
  end)

  it("are not of quantised tensors", function()
    fails("unsupported", "stats is not defined for quint8", ckpt.tensor("quint8", { 1 }):stats())
  end)
end)

describe("the document", function()
  it("has every method of a tensor, and no other", function()
    local text = scratch.read(os.getenv("CKPT_TOP") .. "/bindings/README.md")
    local section = assert(text:match("\n## Tensor\n(.-)\n## "))
    local written, registered = {}, {}
    for name in section:gmatch("[`]([%w_]+)[%({]") do written[name] = true end
    for cell in section:gmatch("\n| ([^|]*) |") do
      for name in cell:gmatch("([%w_]+)[%({]") do written[name] = true end
    end
    for name in pairs(debug.getmetatable(ckpt.tensor("int8", {})).__methods) do registered[name] = true end
    assert.same(registered, written)
    for _, name in ipairs { "tensor", "cat", "stack" } do assert.truthy(text:find("| `ckpt." .. name .. "(", 1, true)) end
  end)
end)
