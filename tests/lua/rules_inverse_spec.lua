-- rules_inverse_spec.lua: what undoes plans and sets: the sources come back bit for bit, on random tensors; what loses
-- something says so.
local ckpt = require "ckpt"
local gate = require "support.gate"
local mapped = require "support.mapped"
local rules = require "policies.rules"

local random = 12345
local function next_random()
  random = (random * 1103515245 + 12345) % 2147483648
  return random
end

-- Random bits of every kind that a float can have but for NaN and the subnormal, exact in all dtypes that they go through.
local function random_tensor(source)
  local numbers, n = {}, 1
  for _, size in ipairs(source.shape) do n = n * size end
  for i = 1, n do
    numbers[i] = source.dtype:find "int" and next_random() % 100 or (next_random() % 4096 - 2048) / 16
  end
  return ckpt.tensor(source.dtype, source.shape, numbers)
end

local function tensors_of(sources)
  local out = {}
  for _, source in ipairs(sources) do out[source.name] = random_tensor(source) end
  return out
end

local function make(expr, tensors) return type(expr) == "string" and tensors[expr] or assert(ckpt.apply(expr, tensors)) end

local function results_of(plan, tensors)
  local out, sources = {}, {}
  for i, o in ipairs(plan.outputs) do
    out[o.to] = make(o.expr, tensors)
    sources[i] = { name = o.to, shape = out[o.to].shape, dtype = out[o.to].dtype }
  end
  return out, sources
end

local function assert_back(outputs, results, tensors, n)
  local count = 0
  for _, o in ipairs(outputs) do
    assert.is_true(make(o.expr, results):equal(tensors[o.to]), o.to)
    count = count + 1
  end
  assert.equal(n, count)
end

-- Of the plan; and of the set, where `set_too`.
local function check(set, list, set_too)
  if set[1] then set = { id = "s", stages = { set } } end
  local compiled, sources = mapped.compile(set), mapped.sources(list)
  local plan = rules.plan(compiled, sources)
  assert.same({}, mapped.texts(plan.problems))
  local tensors = tensors_of(sources)
  local results, made = results_of(plan, tensors)
  local inverse, lossy = rules.inverse(compiled, plan, sources)
  assert.same({}, lossy)
  assert_back(inverse.outputs, results, tensors, #sources)
  local back, why = rules.inverse(compiled)
  if not set_too then
    assert.is_nil(back)
    assert.is_true(#why > 0)
    return
  end
  assert.is_truthy(back, why[1] and why[1].message)
  local other = rules.plan(mapped.compile(back), made)
  assert.same({}, mapped.texts(other.problems))
  assert_back(other.outputs, results, tensors, #sources)
end

describe("the inverse", function()
  after_each(gate)

  -- name, rules, sources, whether the set can be turned round without a file
  local cases = {
    { "of names", { { "layer{i}.{j}.bn{k}.{s}", to = "res{i+1}.{j}.conv{k}.norm.{s}" }, { "a.{*}", to = "b.{*}.c" } },
      { "layer1.0.bn2.weight", "layer4.1.bn1.bias", "a.x.y" }, true },
    { "of a range that moves", { { "{i}.{s}", to = "f1.{i}.{s}", when = { i = { 0, 21 } } },
      { "{i}.{s}", to = "f2.{i-23}.{s}", when = { i = { 24, 28 } } } }, { "0.w", "21.b", "24.w", "28.b" }, true },
    { "of a lookup", { id = "s", lookup = { t = { [0] = "x", [2] = "y" } }, stages = { { { "f.{i}.{s}", to = "{t[i]}.{s}" } } } },
      { "f.0.w", "f.2.w" }, true },
    { "of stages", { id = "s", stages = { { { "a.{i}", to = "b.{i}" } }, { { "b.{i}", to = "c.{i+2}" } }, { { tail = { ".3", ".x" } } } } },
      { "a.0", "a.1" }, true },
    { "of segments and ends", { { seg = { "gamma", "weight" } }, { tail = { ".b", ".bias" } } }, { "x.gamma", "y.b" }, true },
    { "of a table", { id = "s", table = { { "a", "b" }, { "c", "d" } } }, { "a", "c" }, true },
    { "of index_select", { { "a", op = { "index_select", 1, { 2, 0, 1 } } } }, { "a 2x3" }, true },
    { "of flip", { { "a", op = { "flip", 0, -1 } } }, { "a 2x3x2" }, true },
    { "of roll", { { "a", op = { "roll", -1, 4 } } }, { "a 2x3" }, true },
    { "of transpose and permute", { { "a", op = { { "transpose", 0, -1 }, { "permute", { 1, 2, 0 } } } } }, { "a 2x3x4" }, true },
    { "of unsqueeze and squeeze", { { "a", op = { { "unsqueeze", -1 }, { "squeeze", 0 } } } }, { "a 1x3" }, true },
    { "of a scale by a power of two", { { "a", op = { "scale", -0.25 } } }, { "a 7" }, true },
    { "of rotary heads", { { "q", op = { "rope_split", 4 } }, { "k", op = { "rope_merge", 2 } } }, { "q 16x3", "k 16" }, true },
    { "of pad", { { "a", op = { "pad", 1, 2, 3, 9 } }, { "b", op = { "pad", 0, 0, 0 } }, { "c", op = { "pad", -1, 1, 0 } } },
      { "a 2x3", "b 4", "c 2x2" }, true },
    { "of a split", { { "{i}.qkv", op = { { "transpose", 0, 1 }, { "split", 1, { 3, 1, 2 } } }, to = { "q{i}", "k{i}", "v{i}" } } },
      { "0.qkv 6x2", "1.qkv 6x4" }, true },
    { "of a chunk", { { "a", op = { "chunk", 0, 3 }, to = { "x", "y", "z" } } }, { "a 6x2" }, true },
    { "of a cat that says its sizes", { { gather = { q = "{i}.q", k = "{i}.k" }, order = { "q", "k" }, to = "{i}.qk",
      op = { { "cat", 0 }, { "flip", 1 } }, sizes = { 4, 2 } } }, { "0.q 4x2", "0.k 2x2" }, true },
    { "of a cat that does not, in a file", { { gather = { q = "{i}.q", k = "{i}.k" }, order = { "q", "k" }, to = "{i}.qk", op = { "cat",
      0 } } },
      { "0.q 4x2", "0.k 2x2" }, false },
    { "of a stack, in a file", { { gather = { "a", "b" }, to = "c", op = { { "stack", 1 }, { "roll", 0, 1 } } } }, { "a 2x3", "b 2x3" },
      false },
    { "of experts, in a file", { { gather = { g = "e.{e}.g", u = "e.{e}.u" }, order = { "g", "u" }, over = "e", to = "w",
      op = { { "stack", 0 }, { "cat", 1 } } } }, { "e.0.g", "e.1.g", "e.0.u", "e.1.u" }, false },
    { "of reshape, in a file", { { "a", op = { "reshape", { -1, 2 } } } }, { "a 2x3x2" }, false },
    { "of a wider cast, in a file", { { "a", op = { { "cast", "float32" }, { "flip", 0 } } } }, { "a 5 float16" }, false },
    { "of tied results, in a file", { { "a", to = "x", tie = "y" } }, { "a" }, true },
    { "that a rule gives itself", { { "a", to = "b", op = { "reshape", { 6 } }, inverse = { "b", to = "a", op = { "reshape", { 2,
      3 } } } } },
      { "a 2x3" }, true },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      if case[1]:find "tied" then
        local compiled, sources = mapped.compile { stages = { case[2] } }, mapped.sources(case[3])
        local inverse = rules.inverse(compiled, rules.plan(compiled, sources), sources)
        assert.same({ { to = "a", expr = "x" } }, inverse.outputs)
        return
      end
      check(case[2], case[3], case[4])
    end)
  end

  local lost = {
    { "slice", { { "a", op = { "slice", 0, 1 } } } }, { "an index_select of some", { { "a", op = { "index_select", 0, { 1 } } } } },
    { "an index_select of all and one more", { { "a", op = { "index_select", 0, { 1, 0, 1 } } } } },
    { "repeat", { { "a", op = { "repeat", 0, 2 } } } }, { "sum", { { "a", op = { "sum", 0 } } } }, { "add", { { "a", op = { "add",
      1 } } } },
    { "a scale by another number", { { "a", op = { "scale", 3 } } } }, { "a narrower cast", { { "a", op = { "cast", "float16" } } } },
    { "resize", { { "a", op = { "resize", { 0 }, { 3 }, "nearest" } } } }, { "drop", { { "a", drop = true } } },
    { "a rule that says so", { { "a", to = "b", lossy = true } } },
    { "emit of a sum", { { gather = { x = "a", y = "b" }, emit = { c = { "add", of = { "x", "y" } } } } } },
  }
  for _, case in ipairs(lost) do
    it("is none of " .. case[1], function()
      local compiled, sources = mapped.compile { stages = { case[2] } }, mapped.sources { "a", "b" }
      local plan = rules.plan(compiled, sources)
      local inverse, ids = rules.inverse(compiled, plan, sources)
      assert.is_nil(inverse)
      assert.same({ "1.1" }, ids)
      assert.is_true(#rules.undo(compiled, plan, sources).lossy == 1)
    end)
  end

  it("goes as far as it goes", function()
    local compiled, sources = mapped.compile { stages = { { { "a", drop = true }, { "b", to = "c" } } } }, mapped.sources { "a", "b" }
    local undone = rules.undo(compiled, rules.plan(compiled, sources), sources)
    assert.same({ { to = "b", expr = "c" } }, undone.outputs)
    assert.same({ "a" }, undone.gone)
  end)

  local no_set = {
    { "sub", { { sub = { "_", "." } } } }, { "map", { { map = function() end } } }, { "any", { { any = { "a", "b" }, to = "c" } } },
    { "arithmetic that cannot be turned", { { "a{i}", to = "b{2*i}" } } }, { "a capture that is left out", { { "a{i}", to = "b" } } },
    { "a condition on the shape", { { "a", to = "b", when = { ndim = 2 } } } }, { "a Lua pattern", { { "lua:^a$", to = "b" } } },
    { "a cat without sizes", { { gather = { "a", "b" }, to = "c", op = { "cat", 0 } } } },
    { "a lookup of two equal texts", { { "a{i}", to = "{t[i]}" } } },
  }
  for _, case in ipairs(no_set) do
    it("of a set has no rule for " .. case[1], function()
      local set, why = rules.inverse(mapped.compile { lookup = { t = { "x", "x" } }, stages = { case[2] } })
      if case[1]:find "lookup" and set then
        local _, problems = rules.compile(set)
        assert.is_true(#problems > 0)
        return
      end
      assert.is_nil(set)
      assert.equal("1.1", why[1].rule)
      assert.matches("has no inverse: ", why[1].message, 1, true)
    end)
  end

  it("of a set goes on without what was dropped or made", function()
    local set = rules.inverse(mapped.compile { stages = { { { "x", drop = true }, { make = "m", op = { "ones", { 1 } } }, { "a",
      to = "b" } } } })
    assert.same({ "a = b", "q = q" }, mapped.lines(mapped.plan(set, { "b", "q" })))
  end)
end)
