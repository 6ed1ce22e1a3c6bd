-- rules_plan_spec.lua: what plans hold: every field of a rule set and of a rule, on names and shapes.
local gate = require "support.gate"
local mapped = require "support.mapped"
local rules = require "policies.rules"
local ckpt = require "ckpt"

local function lines(...) return mapped.lines(mapped.plan(...)) end
local function shaped(...) return mapped.lines(mapped.plan(...), true) end

-- { name, rules or set, sources, lines [, options] }
local NAMES = {
  { "a key without a rule keeps its name", {}, { "a" }, { "a = a" } },
  { "the first rule that matches wins", { { "a{i}", to = "x{i}" }, { "a{j}", to = "y", optional = true } }, { "a1" },
    { "x1 = a1" } },
  { "the order of the file stays", { { "b", to = "z" }, { "a", to = "y" } }, { "a", "c", "b" },
    { "y = a", "c = c", "z = b" } },
  { "two keys change places", { { "a", to = "b" }, { "b", to = "a" } }, { "a", "b" }, { "b = a", "a = b" } },
  { "no to: the name stays", { { "a", op = { "flip", 0 } } }, { "a" }, { "a = flip(0)[a]" } },
  { "drop", { { "a", drop = true } }, { "a", "b" }, { "b = b", "dropped a by 1.1" } },
  { "keep stops the stage", { { "a.w", keep = true }, { "{s}.w", to = "{s}.x" } }, { "a.w", "b.w" },
    { "a.w = a.w", "b.x = b.w" } },
  { "sub", { { sub = { "_", "." } } }, { "a_b_c", "d" }, { "a.b.c = a_b_c", "d = d" } },
  { "sub of what patterns read otherwise", { { sub = { "%d", "." } } }, { "a%dc", "a1c" }, { "a.c = a%dc", "a1c = a1c" } },
  { "seg takes whole segments", { { seg = { "gamma", "weight" } } }, { "x.gamma", "x.gamma_1", "gamma.y.gamma" },
    { "x.weight = x.gamma", "x.gamma_1 = x.gamma_1", "weight.y.weight = gamma.y.gamma" } },
  { "seg of several segments", { { seg = { "a.b", "c" } } }, { "x.a.b.y", "xa.b" }, { "x.c.y = x.a.b.y", "xa.b = xa.b" } },
  { "tail", { { tail = { ".w", ".weight" } } }, { "a.w", "b.ww", ".w" }, { "a.weight = a.w", "b.ww = b.ww", ".w = .w" } },
  { "pass hands on within the stage", { { sub = { "_", "." }, pass = true }, { "a.b", to = "c" } }, { "a_b" },
    { "c = a_b" } },
  { "without pass it does not", { { sub = { "_", "." } }, { "a.b", to = "c", optional = true } }, { "a_b" },
    { "a.b = a_b" } },
  { "map gives a name, drops, passes over", { { map = function(key)
      if key == "a" then return "b" end
      if key == "c" then return false end
    end } }, { "a", "c", "d" }, { "b = a", "d = d", "dropped c by 1.1" } },
  { "map gives operations", { { map = function(key, t) return key .. #t.shape, { { "flip", 0 } } end } }, { "a 2x3" },
    { "a2 = flip(0)[a]" } },
  { "any takes the first that exists", { { any = { "x", "y", "z" }, to = "w" } }, { "z", "y" }, { "w = y" } },
  { "any without to keeps the name that it found", { { any = { "x", "y" }, op = { "flip", 0 } } }, { "z", "y" },
    { "z = z", "y = flip(0)[y]" } },
  { "any with captures", { { any = { "n.{i}.a", "o.{i}.a" }, to = "m.{i}" } }, { "o.1.a", "o.2.a", "n.2.a" },
    { "m.1 = o.1.a", "m.2 = n.2.a" } },
  { "gather in the order that is said", { { gather = { q = "{i}.q", k = "{i}.k" }, order = { "q", "k" }, to = "{i}.qk",
      op = { "cat", 0 } } }, { "0.k", "0.q", "1.q", "z", "1.k" },
    { "0.qk = cat(0)[0.q 0.k]", "1.qk = cat(0)[1.q 1.k]", "z = z" } },
  { "gather of a list", { { gather = { "a", "b" }, to = "c", op = { "stack", 0 } } }, { "b", "a" },
    { "c = stack(0)[a b]" } },
  { "over, by number and not by text", { { gather = { "e.{e}.w" }, over = "e", to = "w", op = { "stack", 0 } } },
    { "e.10.w", "e.9.w", "e.8.w" }, { "w = stack(0)[e.8.w e.9.w e.10.w]" } },
  { "over of two names", { { gather = { g = "{*}.e.{e}.w1", u = "{*}.e.{e}.w3" }, order = { "g", "u" }, over = "e",
      to = "{*}.gu", op = { { "stack", 0 }, { "cat", 1 }, { "transpose", 1, 2 } } } },
    { "l.0.e.0.w1", "l.0.e.1.w1", "l.0.e.1.w3", "l.0.e.0.w3", "l.1.e.0.w3", "l.1.e.0.w1" },
    { "l.0.gu = transpose(1,2)[cat(1)[stack(0)[l.0.e.0.w1 l.0.e.1.w1] stack(0)[l.0.e.0.w3 l.0.e.1.w3]]]",
      "l.1.gu = transpose(1,2)[cat(1)[stack(0)[l.1.e.0.w1] stack(0)[l.1.e.0.w3]]]" } },
  { "an optional gather lets go of what is there", { { gather = { q = "{i}.q", k = "{i}.k" }, order = { "q", "k" },
      to = "{i}.qk", op = { "cat", 0 }, optional = true }, { "{i}.q", to = "{i}.alone" } }, { "0.q", "1.q", "1.k" },
    { "0.alone = 0.q", "1.qk = cat(0)[1.q 1.k]" } },
  { "emit", { { gather = { cls = "cls", pos = "pos" }, emit = { pe = { "slice", 0, 1, of = "pos" },
      ct = { "add", of = { "cls", { "slice", 0, 0, 1, of = "pos" } } } } } }, { "cls 1x2", "pos 5x2" },
    { "ct = add()[cls slice(0,0,1)[pos]]", "pe = slice(0,1)[pos]" } },
  { "emit as a list keeps its order", { { gather = { a = "a" }, emit = { { "z", "a" }, { "b", { "flip", 0, of = "a" } } } } },
    { "a" }, { "z = a", "b = flip(0)[a]" } },
  { "make", { { make = "bias", op = { { "zeros", { 3 } }, { "unsqueeze", 0 } } } }, { "a" },
    { "a = a", "bias = unsqueeze(0)[zeros({3})]" } },
  { "a split", { { "{i}.qkv", op = { "split", 0, { 4, 2, 2 } }, to = { "{i}.q", "{i}.k", "{i}.v" } } }, { "3.qkv 8x2" },
    { "3.q = split(0,{4,2,2},0)[3.qkv]", "3.k = split(0,{4,2,2},1)[3.qkv]", "3.v = split(0,{4,2,2},2)[3.qkv]" } },
  { "a chunk after another operation", { { "w", op = { { "transpose", 0, 1 }, { "chunk", 0, 2 } }, to = { "a", "b" } } },
    { "w 2x4" }, { "a = chunk(0,2,0)[transpose(0,1)[w]]", "b = chunk(0,2,1)[transpose(0,1)[w]]" } },
  { "stages see the new names", { id = "s", stages = { { { "a", to = "b" } }, { { "b", to = "c" } }, { { "c", op = { "flip", 0 } } } } },
    { "a" }, { "c = flip(0)[a]" } },
  { "operations of two stages are one on the other", { id = "s", stages = { { { "a", op = { "flip", 0 } } }, { { "a", op = { "flip",
    1 } } } } },
    { "a" }, { "a = flip(1)[flip(0)[a]]" } },
  { "a table", { id = "s", table = { { "a", "b" }, { "c{i}", "d{i}" } } }, { "a", "c{i}", "c1" },
    { "b = a", "d{i} = c{i}", "c1 = c1" } },
  { "a table comes before the stages", { id = "s", table = { { "a", "b" } }, stages = { { { "b", to = "c" } } } }, { "a" },
    { "c = a" } },
  { "rename", { id = "s", rename = function(key, shape) return key == "a" and "b" .. #shape or nil end }, { "a 1x2x3", "c" },
    { "b3 = a", "c = c" } },
  { "peel to a fixed point", { id = "s", peel = { "module.", "_orig_mod." } },
    { "module._orig_mod.module.a", "module._orig_mod.module.b" },
    { "a = module._orig_mod.module.a", "b = module._orig_mod.module.b" } },
  { "peel needs all keys", { id = "s", peel = "module." }, { "module.a", "b" }, { "module.a = module.a", "b = b" } },
  { "peel each", { id = "s", peel = { "module.", "m.", mode = "each" } }, { "module.m.a", "b", "m.module.c" },
    { "a = module.m.a", "b = b", "c = m.module.c" } },
  { "peel leaves something", { id = "s", peel = "a" }, { "aa", "aaa" }, { "a = aa", "aa = aaa" } },
  { "lookup", { id = "s", lookup = { n = { [0] = "x", [5] = "y" } }, stages = { { { "f.{i}", to = "{n[i]}.w" } } } },
    { "f.5", "f.0" }, { "y.w = f.5", "x.w = f.0" } },
  { "rank", { { "f.{i}.{s}", to = "g.{rank(i)}.{s}" } }, { "f.10.w", "f.0.w", "f.0.b", "f.5.w" },
    { "g.2.w = f.10.w", "g.0.w = f.0.w", "g.0.b = f.0.b", "g.1.w = f.5.w" } },
  { "when is false", { { "a", to = "b", when = false }, { "a", to = "c" } }, { "a" }, { "c = a" } },
  { "when: a range", { { "{i}.w", to = "x{i}", when = { i = { 2, 3 } } } }, { "1.w", "2.w", "3.w", "4.w" },
    { "1.w = 1.w", "x2 = 2.w", "x3 = 3.w", "4.w = 4.w" } },
  { "when: one of", { { "{i}.{s}", to = "x.{i}.{s}", when = { i = { one_of = { 0, 7 } }, s = { one_of = { "w" } } } } },
    { "0.w", "7.b", "7.w", "5.w" }, { "x.0.w = 0.w", "7.b = 7.b", "x.7.w = 7.w", "5.w = 5.w" } },
  { "when: a value", { { "{i}.{s}", to = "x", when = { i = 1, s = "w" } } }, { "1.w", "1.b" }, { "x = 1.w", "1.b = 1.b" } },
  { "when: ndim and dtype", { { "{s}", to = "x", when = { ndim = 3, dtype = "float16" } } },
    { "a 1x2x3 float16", "b 1x2 float16", "c 1x2x3" }, { "x = a", "b = b", "c = c" } },
  { "when: a function", { { "{i}.w", to = "x", when = function(c, t) return c.i == 2 and t.shape[1] == 5 end } },
    { "2.w 5", "1.w 5" }, { "x = 2.w", "1.w = 1.w" } },
  { "when: a variable", { id = "s", vars = { flag = true, n = 3 }, stages = { { { "a", to = "x", when = { var = { flag = true } } },
      { "b", to = "y", when = { var = { flag = false } }, optional = true }, { "c", to = "z", when = { var = { n = 3 } } } } } },
    { "a", "b", "c" }, { "x = a", "b = b", "z = c" } },
  { "tie", { { "emb", to = "tok.weight", tie = "head.weight" } }, { "emb" },
    { "tok.weight = emb", "head.weight = emb tied to tok.weight" } },
  { "a cast leaves integers", { { "{s}", op = { "cast", "float16" } } }, { "a", "b 2 int64" }, { "a = cast(float16)[a]", "b = b" } },
  { "a cast of a named integer", { { "b", op = { "cast", "int32" } } }, { "b 2 int64" }, { "b = cast(int32)[b]" } },
  { "what is one view stays one", { { "{s}", to = "x.{s}", op = { "flip", 0 } } }, { "a 2x2 float32 @1", "b 2x2 float32 @1", "c" },
    { "x.a = flip(0)[a]", "x.b = flip(0)[b] tied to x.a", "x.c = flip(0)[c]" } },
  { "what is one view and treated otherwise does not", { { "a", op = { "flip", 0 } } }, { "a 2x2 float32 @1", "b 2x2 float32 @1" },
    { "a = flip(0)[a]", "b = b" } },
  { "arithmetic in operations", { id = "s", vars = { n = 2, m = "n * 3" }, stages = { { { "{i}.w",
      op = { { "reshape", { "n", "m // 2", -1 } }, { "scale", "1 / n" }, { "slice", 0, "i", "i + 1" } } } } } }, { "1.w 6x2" },
    { "1.w = slice(0,1,2)[scale(0.5)[reshape({2,3,-1})[1.w]]]" } },
}

describe("a plan", function()
  for _, case in ipairs(NAMES) do
    it(case[1], function() assert.same(case[4], lines(case[2], case[3], case[5])) end)
  end

  it("knows shapes and dtypes through all operations", function()
    assert.same({ "w = permute({1,0})[slice(1,0,3)[w]] 3x4 float32", "h = cast(float16)[h] 5 float16",
      "q = split(0,{3,1},0)[qk] 3x2 float32", "k = split(0,{3,1},1)[qk] 1x2 float32", "z = zeros({2,7},int8) 2x7 int8" },
      shaped({ { "w", op = { { "slice", 1, 0, 3 }, { "permute", { 1, 0 } } } }, { "h", op = { "cast", "float16" } },
        { "qk", op = { "split", 0, { 3, 1 } }, to = { "q", "k" } }, { make = "z", op = { "zeros", { 2, 7 }, "int8" } } },
        { "w 4x9", "h 5", "qk 4x2" }))
  end)

  it("does without shapes where none are known", function()
    assert.same({ "b = permute({5,4})[a]" }, lines({ { "a", to = "b", op = { "permute", { 5, 4 } } } }, { "a ?" }))
  end)

  it("gives text, rules and sources of each result", function()
    local plan = mapped.plan({ id = "s", stages = { { { gather = { "a", "b" }, to = "ab", op = { { "cat", 0 }, { "flip", 0 } } } },
      { { "ab", to = "c", op = { "scale", 2 }, id = "twice" } } } }, { "a", "b" })
    local o = plan.outputs[1]
    assert.equal("cat(0) | flip(0) | scale(2)", o.ops)
    assert.same({ "1.1", "twice" }, o.rules)
    assert.equal("twice", o.rule)
    assert.equal("a", o.from)
    assert.same({ "a", "b" }, o.sources)
  end)

  it("tells what passed, what did not fire, and what was peeled", function()
    local plan = mapped.plan({ id = "s", peel = { "m." }, stages = { { { "a", to = "b" }, { "x", to = "y" },
      { "z", drop = true, optional = true }, { "q", when = false } } } }, { "m.a", "m.c" })
    assert.same({ "m.c" }, plan.passed)
    assert.same({ "m." }, plan.peeled)
    assert.equal(2, #plan.unfired)
    assert.same({ rule = "1.2", optional = false }, plan.unfired[1])
    assert.same({ rule = "1.3", optional = true }, plan.unfired[2])
  end)

  it("asks for equal bytes where two sources become one", function()
    local plan = mapped.plan({ { any = { "x", "y" }, to = "w" }, { "tok", to = "emb" }, { "out", to = "head", tie = "emb" } },
      { "x", "y", "tok", "out" })
    assert.equal(2, #plan.checks)
    assert.same({ a = "x", b = "y", rule = "1.1" }, plan.checks[1])
    assert.equal("out", plan.checks[2].a)
    assert.equal("tok", plan.checks[2].b)
    assert.same({ "w = x", "emb = tok", "head = out tied to emb" }, mapped.lines(plan))
  end)

  it("is the same each time", function()
    local set, sources = { id = "s", vars = { n = 2 }, stages = { {} } }, {}
    for i = 1, 40 do
      set.stages[1][i] = { ("k%d.{i}"):format(i), to = ("n%d.{i+n}"):format(i) }
      sources[i] = ("k%d.%d"):format(i, i)
    end
    local first = table.concat(lines(set, sources), "\n")
    for _ = 1, 5 do assert.equal(first, table.concat(lines(set, sources), "\n")) end
  end)
end)

describe("variables", function()
  local function value(var, options, sources)
    local plan = rules.plan(mapped.compile { vars = { v = var, two = 2 }, stages = { { { "a", to = "a{v}" } } } },
      mapped.sources(sources or { "a", "l.0.w 4x6", "l.1.w 9x9" }), options)
    return plan.problems[1] and plan.problems[1].message or plan.outputs[1].to
  end

  local cases = {
    { "a number", 3, nil, "a3" },
    { "an expression", "two * (two + 1)", nil, "a6" },
    { "of the config", { config = "heads" }, { config = { heads = 8 } }, "a8" },
    { "of the config, a float that is whole", { config = "heads" }, { config = { heads = 8.0 } }, "a8" },
    { "of a table in the config", { config = "text.heads" }, { config = { text = { heads = 5 } } }, "a5" },
    { "of a key with a dot", { config = "text.heads" }, { config = { ["text.heads"] = 6 } }, "a6" },
    { "the default of the config", { config = "heads", default = 4 }, { config = {} }, "a4" },
    { "of an option", { option = "h" }, { vars = { h = "12" } }, "a12" },
    { "an option before the config", { option = "h", config = "h" }, { vars = { h = 1 }, config = { h = 2 } }, "a1" },
    { "--var by the name of the variable", { config = "heads" }, { vars = { v = "7" }, config = { heads = 8 } }, "a7" },
    { "text", { option = "h" }, { vars = { h = "x" } }, "ax" },
    { "true", { option = "h" }, { vars = { h = "true" } }, "a1" },
    { "a size", { dim = { "l.{i}.w", 1 } }, nil, "a6" },
    { "a size from the end", { dim = { "l.1.w", -2 } }, nil, "a9" },
    { "a count", { count = "l.{i}.w" }, nil, "a2" },
    { "a count of nothing", { count = "x.{i}" }, nil, "a0" },
    { "no config", { config = "heads" }, nil, "template 'a{v}': variable 'v': the config has no 'heads'" },
    { "no option", { option = "h" }, nil, "template 'a{v}': variable 'v': 'h' is not given" },
    { "no such key", { dim = { "q", 0 } }, nil, "template 'a{v}': variable 'v': no key matches 'q'" },
    { "no such dimension", { dim = { "a", 2 } }, nil, "template 'a{v}': variable 'v': 'a' has no dimension 2" },
    { "an overflow", "two * 9223372036854775807", nil, "template 'a{v}': 2 * 9223372036854775807 overflows" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function() assert.equal(case[4], value(case[2], case[3])) end)
  end

  it("ask names of before the first stage, whatever has been renamed when they are asked", function()
    local size, count = { dim = { "a", 0 } }, { count = "l.{i}" }
    assert.same({ "x = a", "y5 = b" }, lines({ vars = { n = size }, stages = { { { "a", to = "x" },
      { "b", to = "y{n}" } } } }, { "a 5x5", "b" }))
    assert.same({ "x = a", "y5 = b" }, lines({ vars = { n = size }, stages = { { { "a", to = "x" } },
      { { "b", to = "y{n}" } } } }, { "a 5x5", "b" }))
    assert.same({ "x.0 = l.0", "x.1 = l.1", "y2 = b" }, lines({ vars = { n = count }, stages = {
      { { "l.{i}", to = "x.{i}" } }, { { "b", to = "y{n}" } } } }, { "l.0", "l.1", "b" }))
  end)

  it("are made of variables, not of captures of the same name", function()
    local vars = { i = 7, twice = "2 * i" }
    assert.same({ "y.1.14 = x.1" }, lines({ vars = vars, stages = { { { "x.{i}", to = "y.{i}.{twice}" } } } }, { "x.1" }))
    assert.same({ "w.1 = x.1", "y = z" }, lines({ vars = vars, stages = { { { "x.{i}", to = "w.{i}" } },
      { { "z", to = "y", when = { var = { i = 7 } } } } } }, { "x.1", "z" }))
  end)

  it("that are made of each other have no value", function()
    local plan = rules.plan(mapped.compile { vars = { a = "b", b = "a" }, stages = { { { "x", to = "{a}" } } } },
      mapped.sources { "x" })
    assert.matches("is made of itself", plan.problems[1].message, 1, true)
  end)

  it("that nothing needs may have no value", function()
    assert.same({ "x = x" }, lines({ id = "s", vars = { a = { config = "no" } } }, { "x" }))
  end)
end)

describe("a target", function()
  local function plan(set, sources, target)
    return rules.plan(mapped.compile(set), mapped.sources(sources), { target = mapped.sources(target) })
  end

  it("says what is missing and what is unused", function()
    local made = plan({ stages = { { { "a", to = "x" }, { "d", drop = true } } } }, { "a", "b", "d" }, { "x", "y" })
    assert.same({ "y" }, made.missing)
    assert.same({ "b" }, made.unused)
    assert.same({}, made.problems)
  end)

  it("turns rules with target on", function()
    local set = { stages = { { { "a", to = "x", target = true }, { "a", to = "y" },
      { make = "m", op = { "zeros", { 1 } }, target = true }, { make = "n", op = { "ones", { 1 } }, target = true } } } }
    assert.same({ "x = a", "m = zeros({1})" }, mapped.lines(plan(set, { "a" }, { "x", "m" })))
    assert.same({ "y = a", "n = ones({1})" }, mapped.lines(plan(set, { "a" }, { "y", "n" })))
    assert.same({ "x = a" }, lines(set, { "a" }))
  end)

  it("keeps a prefix that it has itself", function()
    assert.same({ "m.a = m.a" }, mapped.lines(plan({ peel = "m." }, { "m.a" }, { "m.a" })))
    assert.same({ "a = m.a" }, mapped.lines(plan({ peel = "m." }, { "m.a" }, { "m.a", "b" })))
  end)

  local align = { align = { mode = "suffix" } }
  local cases = {
    { "the longest suffix behind a dot", align, { "conv1.w", "c.conv1.w" }, { "a.c.conv1.w", "b.conv1.w", "a.sub_conv1.w" },
      { "b.conv1.w = conv1.w", "a.c.conv1.w = c.conv1.w" } },
    { "the very name before another", align, { "fc.b" }, { "x.fc.b", "fc.b" }, { "fc.b = fc.b" } },
    { "the only shape that fits", align, { "fc.b 3" }, { "x.fc.b 4", "y.fc.b 3" }, { "y.fc.b = fc.b" } },
    { "without a boundary", { align = { boundary = false } }, { "conv1.w" }, { "a.sub_conv1.w" }, { "a.sub_conv1.w = conv1.w" } },
    { "another boundary", { align = { boundary = "/" } }, { "w" }, { "a/w", "b.w" }, { "a/w = w" } },
    { "several targets", { align = { unique = false } }, { "w" }, { "a.w", "b.w" }, { "a.w = w", "b.w = w" } },
    { "after the stages", { align = {}, stages = { { { "p", to = "w", op = { "flip", 0 } } } } }, { "p" }, { "a.w" },
      { "a.w = flip(0)[p]" } },
    { "what fits nothing stays", align, { "q" }, { "a.w" }, { "q = q" } },
  }
  for _, case in ipairs(cases) do
    it("is aligned with: " .. case[1], function()
      local made = plan(case[2], case[3], case[4])
      assert.same({}, made.problems)
      assert.same(case[5], mapped.lines(made))
    end)
  end

  it("that one result fits twice alike is an error", function()
    local made = plan(align, { "fc.b" }, { "x.fc.b", "y.fc.b" })
    assert.same({ "align: 'fc.b' fits 2 target keys alike: x.fc.b, y.fc.b" }, mapped.texts(made.problems))
  end)

  it("of another shape is told and not filled", function()
    local made = plan(align, { "w 2x3" }, { "a.w 3x2" })
    assert.same({ { to = "a.w", from = "w", message = "a.w: file [2, 3], model [3, 2]" } }, made.mismatched)
    assert.same({ "a.w" }, made.missing)
  end)
end)

describe("detect", function()
  local function set(detect, peel) return { id = "s", detect = detect, peel = peel } end
  local cases = {
    { "all keys", { keys = { "a", "b{i}" } }, { "a", "b1" }, true }, { "a key is missing", { keys = { "a", "c" } }, { "a", "b" }, false },
    { "one of", { any = { "x", "a" } }, { "a" }, true }, { "none of any", { any = { "x" } }, { "a" }, false },
    { "none", { keys = { "a" }, none = { "b" } }, { "a", "b" }, false }, { "none is there", { keys = { "a" }, none = { "c" } }, { "a" },
      true },
    { "the number", { nkeys = 2 }, { "a", "b" }, true }, { "another number", { nkeys = 3 }, { "a", "b" }, false },
    { "a shape", { shapes = { a = { 64, 0 } } }, { "a 64x7" }, true }, { "another shape", { shapes = { a = { 64, 3 } } }, { "a 64x7" },
      false },
    { "another rank", { shapes = { a = { 64 } } }, { "a 64x7" }, false }, { "nothing is said", {}, { "a" }, false },
    { "a function", function(list) return #list == 1 and list[1].shape[1] == 2 end, { "a 2" }, true },
    { "a function that raises", function() error "x" end, { "a" }, false },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      assert.equal(case[4], rules.detect({ set(case[2]) }, mapped.sources(case[3])) ~= nil)
    end)
  end

  it("takes the first set that fits, after peeling", function()
    local sets = { { id = "none" }, set({ keys = { "x" } }), set({ keys = { "a" } }, "module."), set({ keys = { "a" } }, "module.") }
    local found, place, compiled = rules.detect(sets, mapped.sources { "module.a" })
    assert.equal(sets[3], found)
    assert.equal(3, place)
    assert.equal("s", compiled.id)
  end)
end)

describe("include", function()
  local base = { id = "base", vars = { n = 2, m = 5 }, lookup = { t = { x = "y" } }, peel = "p.",
    stages = { { { "a", to = "b{n}", id = "first" }, { "c", to = "{t[s]}", optional = true } and { "c", to = "c{m}" } } } }

  it("puts the stages of others before its own", function()
    assert.same({ "z = p.a", "c5 = p.c" }, lines({ id = "s", include = { base }, stages = { { { "b2", to = "z" } } } }, { "p.a", "p.c" }))
  end)

  it("replaces a rule by its id, where it stands, and variables by their names", function()
    local set = { id = "s", include = base, vars = { m = 6 }, stages = { { { "a", to = "other", id = "first" }, { "other",
      to = "last" } } } }
    assert.same({ "last = p.a", "c6 = p.c" }, lines(set, { "p.a", "p.c" }))
  end)

  it("finds sets by name", function()
    local function load(name) if name == "base" then return base, { file = "maps/base.lua" } end end
    local compiled = assert(rules.compile({ id = "s", include = { "base" } }, { load = load }))
    assert.equal("base:1.2", compiled.stages[1].rules[2].id)
    assert.equal("maps/base.lua", compiled.stages[1].rules[2].file)
    local _, problems = rules.compile({ id = "s", include = { "nothing" } }, { load = load })
    assert.matches("there is no rule set 'nothing'", problems[1].message, 1, true)
  end)

  it("refuses a set that includes itself", function()
    local loop = { id = "loop" }
    loop.include = { loop }
    assert.matches("includes itself", table.concat(mapped.mistakes(loop)), 1, true)
  end)
end)

describe("expressions", function()
  after_each(gate)

  it("are inferred from tensors, state dicts and descriptions alike", function()
    local t = ckpt.tensor("float16", { 2, 3 })
    for _, tensors in ipairs { { x = t }, ckpt.state_dict { { "x", t } }, { x = { shape = { 2, 3 }, dtype = "float16" } } } do
      local shape, dtype = ckpt.infer({ "permute", { 1, 0 }, of = "x" }, tensors)
      assert.same({ 3, 2 }, shape)
      assert.equal("integer", math.type(shape[1]))
      assert.equal("float16", dtype)
    end
    assert.same({ 3, 2 }, ckpt.apply({ "permute", { 1, 0 }, of = "x" }, { x = t }).shape)
  end)

  local wrong = {
    { { "nope", of = "x" }, "'nope' is no operation" }, { { 7 }, "'number' is no operation" },
    { { "flip", of = "x" }, "{ flip, dim, ... }: nothing is named" }, { { "flip", 0 }, "flip: 'of' says nothing to work on" },
    { { "flip", 0.0, of = "x" }, "flip: argument 1 must be a whole number (//), not number" },
    { { "flip", "0", of = "x" }, "flip: argument 1 must be an integer, not string" },
    { { "permute", 1, of = "x" }, "permute: argument 1 must be a list of integers, not number" },
    { { "scale", "a", of = "x" }, "scale: argument 1 must be a number, not string" },
    { { "cast", "float17", of = "x" }, "cast: " }, { { "cast", 1, of = "x" }, "cast: argument 1 must be the name of a dtype" },
    { { "resize", { 0 }, { 1 }, "cubic", of = "x" }, "'nearest', 'bilinear' or 'bicubic'" },
    { { "resize", { 0, 1 }, { 1 }, "nearest", of = "x" }, "2 dimensions and 1 sizes" },
    { { "squeeze", 0, 1, of = "x" }, "squeeze: too many arguments" }, { { "zeros", { 1 }, of = "x" }, "zeros: it takes no 'of'" },
    { { "add", of = "x" }, "takes one tensor and a number, or several tensors" },
    { { "add", 1, of = { "x", "x" } }, "takes one tensor and a number, or several tensors" },
    { { "cat", 0, of = {} }, "cat: 'of' is a list of 0 operands" }, { { "flip", 0, of = 7 }, "an expression is a key or" },
    { "y", "there is no tensor 'y'" }, { { "flip", 0, of = "a\0b" }, "a key holds a NUL byte" },
    { { "flip", 2, of = "x" }, "flip({2}) of float32 [2, 3]: there is no dimension 2 in a tensor of 2" },
    { { "flip", 1 << 40, of = "x" }, "there is no dimension 1099511627776" },
    { { "squeeze", 1, of = "x" }, "squeeze(1) of float32 [2, 3]: dimension 1 has size 3, not 1" },
    { { "permute", { 0 }, of = "x" }, "it names 1 dimensions of a tensor of 2" },
    { { "permute", { 0, 0 }, of = "x" }, "dimension 0 is named twice" },
    { { "reshape", { 4, 2 }, of = "x" }, "reshape({4, 2}) of float32 [2, 3]: shape [2, 3] cannot become [4, 2]" },
    { { "slice", 1, 2, 5, of = "x" }, "entries [2, 5) are not inside dimension 1 of size 3" },
    { { "slice", 1, 0, 3, 0, of = "x" }, "a step of 0" }, { { "index_select", 1, { 3 }, of = "x" }, "index 3 is outside dimension 1" },
    { { "split", 1, { 1, 1 }, 0, of = "x" }, "the sizes add up to 2, dimension 1 has 3" },
    { { "split", 1, { -1, 4 }, 0, of = "x" }, "size -1 cannot be" }, { { "split", 1, { 3 }, 1, of = "x" }, "there is no piece 1 of 1" },
    { { "split", 1, { math.maxinteger, math.maxinteger }, 0, of = "x" }, "size 9223372036854775807 cannot be" },
    { { "chunk", 1, 2, 0, of = "x" }, "dimension 1 of size 3 has no 2 equal pieces" },
    { { "chunk", 1, 0, 0, of = "x" }, "has no 0 equal pieces" }, { { "chunk", 1, 3, 3, of = "x" }, "there is no piece 3 of 3" },
    { { "rope_split", 3, of = "x" }, "2 x 3 heads do not divide a first dimension of 2" },
    { { "rope_split", math.maxinteger, of = "x" }, "heads do not divide" }, { { "rope_merge", 0, of = "x" }, "2 x 0 heads" },
    { { "cat", 0, of = { "x", { "slice", 1, 0, 2, of = "x" } } }, "differ beside the dimension" },
    { { "cat", 0, of = { "x", { "cast", "float16", of = "x" } } }, "float32 and float16 are not joined" },
    { { "zeros", { -1 } }, "zeros({-1})" }, { { "zeros", { 1 << 40, 1 << 40 } }, "does not fit in 63 bits" },
    { { "ones", { 1 << 36 } }, "a constant of 274877906944 bytes is refused" }, { { "full", 1.5, { 1 }, "int8" }, "full(1.5, {1}, int8)" },
    { { "pad", 0, -1, 0, of = "x" }, "neither may be negative" }, { { "pad", 0, math.maxinteger, 1, of = "x" }, "63 bits" },
    { { "repeat", 0, 1 << 20, of = "x" }, "1048576 times" }, { { "sum", 2, of = "x" }, "there is no dimension 2" },
    { { "mean", 0, of = { "cast", "int32", of = "x" } }, "mean is not defined for int32" },
  }
  for _, case in ipairs(wrong) do
    local name = type(case[1]) == "string" and case[1] or tostring(case[1][1])
    it(name .. " refuses: " .. case[2], function()
      local t = ckpt.tensor("float32", { 2, 3 })
      for _, f in ipairs { ckpt.infer, ckpt.apply } do
        local result, message, code = f(case[1], { x = t })
        assert.is_nil(result)
        assert.matches(case[2], message, 1, true)
        assert.is_string(code)
      end
    end)
  end

  it("of too many parts or levels are refused", function()
    local wide, deep, long = "x", "x", {}
    for _ = 1, 40 do wide = { "add", of = { wide, wide } } end
    for _ = 1, 200 do deep = { "flip", 0, of = deep } end
    for i = 1, (1 << 20) + 1 do long[i] = 0 end
    local x = { x = { shape = { 2 }, dtype = "float32" } }
    assert.matches("more than 65536 parts", select(2, ckpt.infer(wide, x)), 1, true)
    assert.matches("more than 100 levels", select(2, ckpt.infer(deep, x)), 1, true)
    assert.matches("more than 1048576 indices", select(2, ckpt.infer({ "index_select", 0, long, of = "x" }, x)), 1, true)
  end)

  it("raise for what is no table of tensors", function()
    assert.has_error(function() ckpt.infer("x", 7) end)
    assert.has_error(function() ckpt.apply("x") end)
    local shape, message = ckpt.infer("x", { x = { dtype = "float32" } })
    assert.is_nil(shape)
    assert.equal("'x' has no shape", message)
    assert.equal("'x' has no dtype", select(2, ckpt.infer("x", { x = { shape = {} } })))
    assert.equal("'x' has no shape of integers", select(2, ckpt.infer("x", { x = { shape = { 1.5 }, dtype = "float32" } })))
  end)
end)
