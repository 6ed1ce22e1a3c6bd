-- compare_spec.lua: t:compare(u) from Lua: fields, options, refusals. The numbers themselves are test_compare.c's.

local ckpt = require "ckpt"
local gate = require "support.gate"

after_each(gate)

local function tensor(dtype, values) return assert(ckpt.tensor(dtype, { #values }, values)) end

describe("t:compare(u)", function()
  it("counts what differs and tells the first place from 1", function()
    local a, b = tensor("float32", { 1, 2, 3, 4 }), tensor("float32", { 1, 2, 5, 3 })
    local result = a:compare(b)
    assert.same({ differing = 2, beyond = 2, unordered = 0, first = 3, max_abs = 2.0, max_rel = 0.4 }, result)
    assert.equal("integer", math.type(result.first))
    assert.equal("float", math.type(result.max_abs))
    assert.same({ differing = 0, beyond = 0, unordered = 0, max_abs = 0.0, max_rel = 0.0 }, a:compare(a:clone()))
  end)

  it("takes tolerances", function()
    local a, b = tensor("float64", { 100, 1 }), tensor("float64", { 101, 1.5 })
    assert.equal(1, a:compare(b, { rtol = 0.01 }).beyond)
    assert.equal(2, a:compare(b, { rtol = 0.01 }).first)
    assert.equal(1, a:compare(b, { atol = 0.5 }).beyond)
    assert.equal(0, a:compare(b, { atol = 1 }).beyond)
    assert.equal(2, a:compare(b, { atol = 1 }).differing)
  end)

  it("tells a NaN from a NaN, unless asked not to", function()
    local nan = 0 / 0
    local a = tensor("float32", { nan, 1 })
    assert.same({ 1, 1, 1 }, { a:compare(a).beyond, a:compare(a).unordered, a:compare(a).first })
    assert.equal(0, a:compare(a:clone(), { equal_nan = true }).differing)
    assert.equal(1, a:compare(tensor("float32", { 0, 1 }), { equal_nan = true, atol = math.huge }).beyond)
  end)

  it("compares across dtypes", function()
    assert.equal(0, tensor("int64", { 1, -2 }):compare(tensor("float16", { 1, -2 })).differing)
    assert.equal(1, tensor("int64", { 1 << 53, 2 }):compare(tensor("int64", { (1 << 53) + 1, 2 })).differing)
  end)

  it("refuses what cannot be compared", function()
    local a = tensor("float32", { 1, 2 })
    local r, message, code = a:compare(tensor("float32", { 1 }))
    assert.is_nil(r)
    assert.same({ "tensors of different shapes cannot be compared", "shape" }, { message, code })
    assert.error_matches(function() a:compare(a, { atol = -1 }) end, "atol must be a number that is not negative")
    assert.error_matches(function() a:compare(a, { rtol = 0 / 0 }) end, "rtol must be a number that is not negative")
    assert.error_matches(function() a:compare(a, { rtol = "x" }) end, "number expected")
    assert.error_matches(function() a:compare(a, 1) end, "table expected")
    assert.error_matches(function() a:compare(1) end, "ckpt.tensor expected")
  end)
end)
