-- rules_errors_spec.lua: every mistake in a rule set, and every rule that does not fit a file, is reported: with the rule's
-- id, its file and line, all of them in one go.
local mapped = require "support.mapped"
local rules = require "policies.rules"

local function rule(r) return { stages = { { r } } } end

describe("a mistake in a set", function()
  local cases = {
    { "an unknown field", { id = "s", stagez = {} }, "a rule set has no field 'stagez'; did you mean 'stages'?" },
    { "an unknown field of a rule", rule { "a", optionl = true }, "rule 1.1: a rule has no field 'optionl'; did you mean 'optional'?" },
    { "an unknown field of detect", { detect = { key = {} } }, "detect has no field 'key'; did you mean 'keys'?" },
    { "an unknown field of expect", { expect = { fire = "all" } }, "expect has no field 'fire'; did you mean 'fired'?" },
    { "an unknown field of align", { align = { shapes = true } }, "align has no field 'shapes'; did you mean 'shape'?" },
    { "an unknown field of a variable", { vars = { a = { option = "x", defalt = 1 } } },
      "vars.a has no field 'defalt'; did you mean 'default'?" },
    { "no kind", rule { to = "x" }, "rule 1.1: a rule has a pattern, or one of sub, seg, tail, map, any, gather, make" },
    { "two kinds", rule { "a", make = "b", op = { "zeros", { 1 } } }, "rule 1.1: a rule is of one kind, not of several: a pattern, make" },
    { "a rule that is no table", { stages = { { 7 } } }, "rule 1.1: a rule is a table, not number" },
    { "a pattern that is none", rule { "a{", to = "b" }, "rule 1.1: pattern 'a{': a brace is not closed, or not opened" },
    { "a template that is none", rule { "a", to = "{" }, "rule 1.1: template '{': a brace is not closed, or not opened" },
    { "an unknown name", rule { "a{i}", to = "{j}" }, "rule 1.1: template '{j}': there is no 'j'" },
    { "an unknown capture", rule { "a{i}", to = "{2}" }, "rule 1.1: template '{2}': there is no capture 2" },
    { "an unknown star", rule { "a{i}", to = "{*}" }, "rule 1.1: template '{*}': there is no such {*} in the pattern" },
    { "an unknown lookup", rule { "a{i}", to = "{t[i]}" }, "rule 1.1: template '{t[i]}': there is no 't'" },
    { "a name in an operation", rule { "a", op = { "slice", 0, "n" } }, "rule 1.1: slice: there is no 'n'" },
    { "an unknown operation", rule { "a", op = { "permut", { 0 } } }, "rule 1.1: 'permut' is no operation; did you mean 'permute'?" },
    { "an operation that is none", rule { "a", op = { { 7 } } }, "rule 1.1: an operation is { name, ... }" },
    { "a wrong argument", rule { "a", op = { "flip", 0.5 } }, "rule 1.1: flip: argument 1: an integer is expected" },
    { "a wrong list", rule { "a", op = { "permute", 0 } }, "rule 1.1: permute: argument 1: a list is expected" },
    { "a wrong mode", rule { "a", op = { "resize", { 0 }, { 1 }, "cubic" } },
      "rule 1.1: resize: argument 3: 'nearest', 'bilinear' or 'bicubic' is expected" },
    { "bad arithmetic", rule { "a", op = { "slice", 0, "1 +" } },
      "rule 1.1: slice: argument 2: '1 +': a number or a name expected before 'the end'" },
    { "arithmetic without a value", rule { "a", op = { "slice", 0, "1 // 0" } }, "rule 1.1: slice: 1 // 0" },
    { "too many arguments", rule { "a", op = { "squeeze", 0, 1 } }, "rule 1.1: squeeze: too many arguments" },
    { "an argument that is left out before one that is not", rule { "a", op = { "slice", 0, 1, nil, 2 } },
      "rule 1.1: slice: argument 3 is left out, but not 4" },
    { "pieces and names", rule { "a", op = { "split", 0, { 1, 2 } }, to = { "x", "y", "z" } },
      "rule 1.1: split makes 2 pieces, to names 3" },
    { "names without pieces", rule { "a", to = { "x", "y" } }, "rule 1.1: to names 2 keys, but op ends with neither split nor chunk" },
    { "a split that is not last", rule { "a", op = { { "chunk", 0, 2 }, { "flip", 0 } }, to = "x" },
      "rule 1.1: chunk makes several pieces, and stands last" },
    { "a cat without a gather", rule { "a", op = { "cat", 0 } }, "rule 1.1: cat joins the parts of a gather, and stands first" },
    { "zeros without make", rule { "a", op = { "zeros", { 1 } } }, "rule 1.1: zeros belongs to a rule with make" },
    { "make without zeros", rule { make = "a", op = { "flip", 0 } }, "rule 1.1: make begins with zeros, ones or full, not flip" },
    { "make without op", rule { make = "a" }, "rule 1.1: make needs an op: zeros, ones or full" },
    { "a gather without an order", rule { gather = { a = "x", b = "y" }, to = "z", op = { "cat", 0 } },
      "rule 1.1: gather needs order = { ... }: a table has none" },
    { "an order that names another part", rule { gather = { a = "x" }, order = { "a", "b" }, to = "z", op = { "cat", 0 } },
      "rule 1.1: order names 'b', gather does not" },
    { "an order that leaves one out", rule { gather = { a = "x", b = "y" }, order = { "a" }, to = "z", op = { "cat", 0 } },
      "rule 1.1: order leaves out 'b'" },
    { "parts with other captures", rule { gather = { "x{i}", "y{j}" }, to = "z", op = { "cat", 0 } },
      "rule 1.1: the patterns of a gather have the same captures; 'x{i}' and 'y{j}' do not" },
    { "over of no capture", rule { gather = { "x{i}" }, over = "e", to = "z", op = { "cat", 0 } },
      "rule 1.1: 'x{i}' has no integer capture 'e' to go over" },
    { "a gather without op", rule { gather = { "x", "y" }, to = "z" }, "rule 1.1: a gather joins its parts: op begins with cat or stack" },
    { "a gather without to", rule { gather = { "x", "y" }, op = { "cat", 0 } }, "rule 1.1: gather needs to" },
    { "emit of another part", rule { gather = { a = "x" }, emit = { z = "b" } }, "rule 1.1: emit: there is no part 'b'" },
    { "drop and to", rule { "a", drop = true, to = "b" }, "rule 1.1: what is dropped has no to, op or keep" },
    { "keep and op", rule { "a", keep = true, op = { "flip", 0 } }, "rule 1.1: what is kept as it is has no to and no op" },
    { "optional and required", rule { "a", optional = true, required = true }, "rule 1.1: a rule is not both optional and required" },
    { "a flag that is none", rule { "a", drop = "yes" }, "rule 1.1: drop is true or false" },
    { "when of no capture", rule { "a{i}", when = { j = 1 } }, "rule 1.1: when: the pattern has no capture 'j'" },
    { "when of no form", rule { "a{i}", when = { i = { 1, 2, 3 } } },
      "rule 1.1: when.i is a value, a range { low, high } or { one_of = { ... } }" },
    { "when of no variable", rule { "a", when = { var = { x = 1 } } }, "rule 1.1: when.var: there is no variable 'x'" },
    { "sub of no texts", rule { sub = { "a" } }, "rule 1.1: sub is { text, text }" },
    { "a variable of nothing", { vars = { a = {} } }, "vars.a says neither config, option, dim nor count" },
    { "a variable of another", { vars = { a = "b + 1" } }, "vars.a: there is no variable 'b'" },
    { "a dimension of no key", { vars = { a = { dim = "k" } } }, "vars.a.dim is { pattern, dimension }" },
    { "a count of no capture", { vars = { a = { count = "k" } } }, "vars.a.count has no capture to count" },
    { "a row that is none", { table = { { "a" } } }, "rule table.1: a row of table is { key, key }" },
    { "two rules of one id", { stages = { { { "a", id = "x" }, { "b", id = "x" } } } }, "rule x: two rules have the id 'x'" },
    { "peel of no mode", { peel = { "a.", mode = "some" } }, "peel.mode is \"all\" or \"each\"" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function() assert.same({ case[3] }, mapped.mistakes(case[2])) end)
  end

  it("without an id is one", function()
    local _, problems = rules.compile { stages = {} }
    assert.equal("a rule set has an id", problems[1].message)
    _, problems = rules.compile(7)
    assert.equal("a rule set is a table, not number", problems[1].message)
  end)

  it("is found with all the others, each with its line", function()
    local text = [==[
-- stages = { { { in a comment
return { id = "s", about = "stages = { { {",
  stages = { {
    { "a", to = "{q}" }, -- }
    { 'b{', to = [[ x ]] },
    { "c", op = {
        { "nope" } } },
  }, {
    { "d",
      drop = 1 },
  } } }]==]
    local problems = mapped.mistakes(load(text)(), { file = "maps/s.lua", text = text })
    assert.same({
      "maps/s.lua:4: rule 1.1: template '{q}': there is no 'q'",
      "maps/s.lua:5: rule 1.2: pattern 'b{': a brace is not closed, or not opened",
      "maps/s.lua:6: rule 1.3: 'nope' is no operation",
      "maps/s.lua:9: rule 2.1: drop is true or false",
    }, problems)
  end)

  it("is found by its pattern where rules are made by functions", function()
    local text = 'local function r(p) return { p, to = "{q}" } end\n'
      .. 'local list = {\n  r "one",\n  r "two" }\nreturn { id = "s", stages = { list } }'
    assert.same({ "f:3: rule 1.1: template '{q}': there is no 'q'", "f:4: rule 1.2: template '{q}': there is no 'q'" },
      mapped.mistakes(load(text)(), { file = "f", text = text }))
  end)

  it("in a table has its line", function()
    local text = 'return { id = "s", table = {\n  { "a", "b" },\n  { "c" },\n} }'
    assert.same({ "f:3: rule table.2: a row of table is { key, key }" }, mapped.mistakes(load(text)(), { file = "f", text = text }))
  end)
end)

describe("what does not fit a file", function()
  local cases = {
    { "a required rule that matches nothing", { { "a", required = true } }, { "b" }, "rule 1.1: 'a' matches nothing" },
    { "a rule that matches nothing where all must", { expect = { fired = "all" }, stages = { { { "a" }, { "b", optional = true },
      { make = "m", op = { "ones", { 1 } } } } } },
      { "c" }, "rule 1.1: 'a' matches nothing" },
    { "two results of one name", { { "a", to = "x" }, { "b", to = "x" } }, { "a", "b" },
      "rule 1.2: two results are named 'x': from 'a' (rule 1.1) and from 'b' (rule 1.2)" },
    { "a result of a name that is there", { { "a", to = "b" } }, { "a", "b" },
      "rule 1.1: two results are named 'b': from 'a' (rule 1.1) and from 'b'" },
    { "two peeled keys of one name", { peel = { "m.", mode = "each" } }, { "m.a", "a" },
      "two results are named 'a': from 'm.a' and from 'a'" },
    { "sizes that do not add up", { { "a", op = { "split", 0, { 1, 2 } }, to = { "x", "y" } } }, { "a 4x2" },
      "rule 1.1: split(0, {1, 2}, 0) of float32 [4, 2]: the sizes add up to 3, dimension 0 has 4" },
    { "a number of names that a variable makes wrong", { vars = { n = 3 }, stages = { { { "a", op = { "chunk", 0, "n" }, to = { "x",
      "y" } } } } },
      { "a 6" }, "rule 1.1: chunk makes 3 pieces, to names 2" },
    { "a part that is missing", { { gather = { q = "{i}.q", k = "{i}.k" }, order = { "q", "k" }, to = "{i}.qk", op = { "cat", 0 } } },
      { "0.q" },
      "rule 1.1: '0.q' was found, but not {i}.k" },
    { "an expert that is missing", { { gather = { "e.{e}" }, over = "e", to = "e", op = { "stack", 0 } } }, { "e.0", "e.2" },
      "rule 1.1: 'e.0' was found, but not e.{e} with e = 1" },
    { "two keys that are one part", { { gather = { a = "lua:^%d+%.q$", b = "k" }, order = { "a", "b" }, to = "c", op = { "cat", 0 } } },
      { "0.q", "1.q", "k" }, "rule 1.1: '0.q' and '1.q' are the same part of one group" },
    { "parts of other shapes", { { gather = { "a", "b" }, to = "c", op = { "stack", 0 } } }, { "a 2", "b 3" },
      "rule 1.1: stack(0) of float32 [2], float32 [3]: shapes [2] and [3] differ" },
    { "parts of other sizes than said", { { gather = { "a", "b" }, to = "c", op = { "cat", 0 }, sizes = { 2, 2 } } }, { "a 2", "b 3" },
      "rule 1.1: part 'b' has 3 entries in dimension 0, sizes says 2" },
    { "a permute of the wrong rank", { { "a", op = { "permute", { 1, 0, 2 } } } }, { "a 4x2" },
      "rule 1.1: permute({1, 0, 2}) of float32 [4, 2]: it names 3 dimensions of a tensor of 2" },
    { "an overflow in a template", { { "a{i}", to = "b{i*2}" } }, { "a9223372036854775807" },
      "rule 1.1: template 'b{i*2}': 9223372036854775807 * 2 overflows" },
    { "an overflow in an operation", { { "a{i}", op = { "slice", 0, "i + 1" } } }, { "a9223372036854775807" },
      "rule 1.1: slice: 9223372036854775807 + 1 overflows" },
    { "a lookup without the capture", { lookup = { t = { [1] = "x" } }, stages = { { { "a{i}", to = "{t[i]}" } } } }, { "a2" },
      "rule 1.1: template '{t[i]}': lookup 't' has nothing for '2'" },
    { "a key that no rule takes", { exact = true, stages = { { { "a" } } } }, { "a", "b" }, "no rule takes 'b', and the set is exact" },
    { "another number of results", { expect = { n_out = 3 } }, { "a" }, "1 results, 3 are expected" },
    { "a name that no result may have", { expect = { forbid = { "{*}.gamma" } } }, { "x.gamma" },
      "'x.gamma' is a name that no result may have" },
    { "a source that is not used", { expect = { unused = {} }, stages = { {} } }, { "a" }, "'a' is not used",
      { target = { { name = "b" } } } },
    { "a target that is not filled", { expect = { missing = { "head.{s}" } } }, { "a" }, "nothing fills 'b'",
      { target = { { name = "a" }, { name = "b" }, { name = "head.w" } } } },
    { "a file that is marked", { mark = { color = "bgr" } }, { "a" },
      "the file is marked 'color = bgr': these rules have been applied to it already", { marks = { color = "bgr" } } },
    { "a map that raises", { { map = function() error("no luck", 0) end } }, { "a" }, "rule 1.1: map raised: no luck" },
    { "a map that gives nonsense", { { map = function() return 7 end } }, { "a" }, "rule 1.1: map must return a key, false or nil" },
    { "a map that gives unknown operations", { { map = function() return "b", { { "nope" } } end } }, { "a" },
      "rule 1.1: 'nope' is no operation" },
    { "a when that raises", { { "a", when = function() error("no luck", 0) end } }, { "a", "a" }, nil },
    { "a Lua pattern that is none", { { "lua:^(a$" } }, { "a" }, nil },
  }
  for _, case in ipairs(cases) do
    it(case[1], function()
      local problems = mapped.problems(case[2], case[3], case[5])
      if case[4] then assert.same({ case[4] }, problems) else assert.is_true(#problems >= 1) end
    end)
  end

  it("is told all in one go, with file, line and key", function()
    local text = 'return { id = "s", stages = { {\n  { "a", op = { "permute", { 0 } } },\n'
      .. '  { "b", to = "c" },\n  { "x", required = true } } } }'
    local compiled = assert(rules.compile(load(text)(), { file = "m.lua", text = text }))
    local plan = rules.plan(compiled, mapped.sources { "a", "b", "c" })
    assert.same({
      "m.lua:2: rule 1.1: permute({0}) of float32 [2, 2]: it names 1 dimensions of a tensor of 2",
      "m.lua:3: rule 1.2: two results are named 'c': from 'b' (rule 1.2) and from 'c'",
      "m.lua:4: rule 1.3: 'x' matches nothing",
    }, mapped.texts(plan.problems))
    assert.equal("a", plan.problems[1].key)
    assert.same({ { to = "c", sources = { "b", "c" }, rules = { "1.2" } } }, plan.collisions)
  end)

  it("is not: another mark, a target that may stay empty", function()
    assert.same({}, mapped.problems({ mark = { color = "bgr" } }, { "a" }, { marks = { color = "rgb" } }))
    assert.same({}, mapped.problems({ expect = { missing = { "head.{s}" } } }, { "a" },
      { target = { { name = "a" }, { name = "head.w" } } }))
    assert.same({}, mapped.problems({ expect = { n_out = 1, fired = "all", forbid = { "q" } } }, { "a" }))
  end)
end)

describe("lint", function()
  local function found(set, sources, options)
    local out = {}
    for i, f in ipairs(rules.lint(set, sources and mapped.sources(sources),
      options)) do out[i] = f.level .. " " .. rules.problem_text(f) end
    return out
  end

  local cases = {
    { "nothing in a good set", { { "a{i}.w", to = "b" }, { "a{i}.{s}", to = "c" } }, nil, {} },
    { "mistakes", { { "a", opp = 1 } }, nil, { "error rule 1.1: a rule has no field 'opp'; did you mean 'op'?" } },
    { "a rule behind a wider one", { { "a.{*}", to = "x" }, { "a.{i}.w", to = "y" } }, nil,
      { "warning rule 1.2: 'a.{i}.w' is never reached: rule 1.1 comes before it and takes the same keys" } },
    { "two rules of one pattern", { { "a.{i}", to = "x" }, { "a.{i}", to = "y" } }, nil,
      { "warning rule 1.2: 'a.{i}' is the pattern of rule 1.1 too, which comes before it" } },
    { "not a rule behind a conditional one", { { "a.{i}", to = "x", when = { i = { 0, 3 } } }, { "a.{i}", to = "y" } }, nil, {} },
    { "not one in another stage", { id = "s", stages = { { { "a", to = "b" } }, { { "a", to = "c" } } } }, nil, {} },
    { "what matches nothing", { { "conv1.weigth", to = "x" } }, { "conv1.weight" },
      { "warning rule 1.1: matches nothing; did you mean 'conv1.weight'?" } },
    { "what matches nothing, unlike anything", { { "zzzzzzzz", to = "x" } }, { "a" }, { "warning rule 1.1: matches nothing: 'zzzzzzzz'" } },
    { "what another rule had", { { "{s}.w", to = "x", when = { s = "a" } }, { "a.{s}", to = "y" } }, { "a.w" },
      { "warning rule 1.2: takes nothing: rule 1.1 comes before it and takes 'a.w'" } },
    { "what a condition keeps off", { { "a{i}", to = "x", when = { i = 7 } } }, { "a1" },
      { "warning rule 1.1: takes nothing: 'a1' fits its pattern, but not its condition" } },
    { "collisions", { { "{s}.w", to = "x" } }, { "a.w", "b.w" },
      { "error rule 1.1: two results are named 'x': from 'a.w' (rule 1.1) and from 'b.w' (rule 1.1)" } },
    { "bad operations", { { "a", op = { "squeeze", 0 } } }, { "a" },
      { "error rule 1.1: squeeze(0) of float32 [2, 2]: dimension 0 has size 2, not 1" } },
    { "nothing of what is optional", { { "q", to = "x", optional = true } }, { "a" }, {} },
  }
  for _, case in ipairs(cases) do
    it("finds " .. case[1], function()
      local set = case[2][1] and { id = "s", stages = { case[2] } } or case[2]
      assert.same(case[4], found(set, case[3]))
    end)
  end
end)
