-- rules_cli_spec.lua: ckpt lint, ckpt convert --map and ckpt diff --map.
local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"

local RULES = [[
return { id = "r", from = "a", to = "b", mark = { color = "bgr" },
  vars = { n = { config = "n", default = 3 } },
  stages = { {
    { "conv{i}.weight", to = "c.{i+1}.w", op = { "index_select", 1, { 2, 1, 0 } } },
    { "fc.{s}", drop = true },
    { "bn", to = "bn.{n}", inverse = { "bn.{i}", to = "bn" } },
    { "extra", to = "more", optional = true },
  } },
}]]

local function counted(shape)
  local n, numbers = 1, {}
  for _, size in ipairs(shape) do n = n * size end
  for i = 1, n do numbers[i] = i end
  return ckpt.tensor("float32", shape, numbers)
end

local function write(name, text) scratch.write(cli.path(name), text) end

describe("mapping on the command line", function()
  before_each(function()
    cli.enter()
    write("r.lua", RULES)
    write("bad.lua", 'return { id = "bad", stages = { {\n  { "conv1.weight", to = "x" },\n'
      .. '  { "bn", to = "x", op = { "permute", { 1, 0 } } },\n} } }')
    write("broken.lua", 'return {\n  id = 7 8 }')
    write("raises.lua", 'error "no luck"')
    write("loops.lua", 'while true do pcall(function() while true do end end) end')
    write("data.lua", 'return { id = tostring(io or os or debug or load or ckpt.open or getmetatable) }')
    write("half.lua", 'return { id = "half", stages = { { { "conv1.weight", op = { "slice", 0, 1 } } } } }')
    write("half2.lua", 'return { id = "half", stages = { { { "conv1.weight", op = { "slice", 0, 1 }, lossy = true } } } }')
    write("base.lua", 'return { id = "base", stages = { { { "bn", to = "b" } } } }')
    write("inc.lua", 'return { id = "inc", include = { "base" }, stages = { { { "b", to = "bb" } } } }')
    write("any.lua", 'return { id = "any", stages = { { { any = { "conv1.weight", "conv2.weight" }, to = "w" } } } }')
    write("config.json", '{ "n": 5 }')
    write("other.json", '{ "n": 6 }')
    assert(ckpt.save(cli.path "a.pth", { state_dict = ckpt.ordered { { "conv1.weight", counted { 2, 3, 2 } },
      { "conv2.weight", counted { 1, 3 } }, { "fc.weight", counted { 2 } }, { "bn", counted { 4 } } }, epoch = 3 }))
    write("keys.txt", "# of a model\nconv1.weight 64x3x7x7\nconv2.weight 8,3 float16\r\nfc.weight\n\nbn [4]\n")
    write("twice.txt", "a\nb\na 3\n")
  end)
  after_each(cli.leave)

  describe("lint", function()
    it("finds nothing in good rules", function()
      assert.equal("r: 0 errors, 0 warnings\n", cli.says(0, "lint", "@r.lua"))
      assert.equal("vgg16_reducedfc: 0 errors, 0 warnings\n", cli.says(0, "lint", "vgg16_reducedfc"))
    end)

    it("tells what becomes of the keys of a checkpoint", function()
      assert.equal([[
  c.2.w  <-  conv1.weight  index_select(1, {2, 1, 0})  2x3x2  (rule 1.1)
  c.3.w  <-  conv2.weight  index_select(1, {2, 1, 0})  1x3  (rule 1.1)
  bn.5  <-  bn  4  (rule 1.3)
  fc.weight  dropped  (rule 1.2)
r: 0 errors, 0 warnings, 4 keys to 3
]], cli.says(0, "lint", "@r.lua", "--keys", "@a.pth", "--plan"))
    end)

    it("takes a list of keys with shapes", function()
      local report = cli.json(0, "lint", "@r.lua", "--keys", "@keys.txt", "--var", "n=9", "--plan", "--json")
      assert.same({ 64, 3, 7, 7 }, report.plan[1].shape)
      assert.same({ "c.3.w", "float16", "1.1" }, { report.plan[2].to, report.plan[2].dtype, report.plan[2].rule })
      assert.equal("bn.9", report.plan[3].to)
      assert.same({ 4, 3, 0, 0 }, { report.keys, report.results, report.errors, report.warnings })
      cli.refuses(3, "@twice.txt:3: the key 'a' stands twice", "lint", "@r.lua", "--keys", "@twice.txt")
    end)

    it("reports every mistake with its place and exits with 1", function()
      local report = cli.json(1, "lint", "@bad.lua", "--keys", "@a.pth", "--json")
      assert.same({ 2, 0 }, { report.errors, report.warnings })
      assert.same({ "1.2", 3, "error" }, { report.findings[1].rule, report.findings[1].line, report.findings[1].level })
      assert.equal("permute({1, 0}) of float32 [4]: it names 2 dimensions of a tensor of 1", report.findings[1].message)
      assert.equal("two results are named 'x': from 'conv1.weight' (rule 1.1) and from 'bn' (rule 1.2)", report.findings[2].message)
    end)

    it("tells where a rule file does not parse, raises or never ends", function()
      assert.equal("error: @broken.lua:2: '}' expected (to close '{' at line 1) near '8'\n@broken.lua: 1 error, 0 warnings\n",
        cli.says(1, "lint", "@broken.lua"))
      assert.matches("@raises.lua:1: no luck", cli.says(1, "lint", "@raises.lua"), 1, true)
      assert.matches("runs for too long", cli.says(1, "lint", "@loops.lua"), 1, true)
    end)

    it("gives rules nothing but data to work with", function()
      assert.equal("nil: 0 errors, 0 warnings\n", cli.says(0, "lint", "@data.lua"))
    end)

    it("needs files that are there", function()
      cli.refuses(3, "@no.lua: No such file or directory", "lint", "@no.lua")
      cli.refuses(3, "there is no 'nothing.lua', nor a built-in rule set of that name", "lint", "nothing")
      cli.refuses(3, "@no.pth: No such file or directory", "lint", "@r.lua", "--keys", "@no.pth")
      cli.refuses(2, "@no.json: No such file or directory", "lint", "@r.lua", "--config", "@no.json")
    end)

    it("checks against a model", function()
      write("model.txt", "c.2.w\nc.3.w\nhead")
      assert.matches("0 errors", cli.says(0, "lint", "@r.lua", "--keys", "@a.pth", "--target", "@model.txt"), 1, true)
    end)
  end)

  describe("convert", function()
    it("maps, drops, marks, and proves that it can be undone", function()
      assert.equal([[
@a.pth -> @b.pth: 3 tensors, 2.0 KB
  mapped by r: 4 tensors to 3
  dropped by a rule: fc.weight
  not taken along: epoch
  marked: color = bgr
  undone again: 3 tensors the same bit for bit
  which do not come back: fc.weight
]], cli.says(0, "convert", "@a.pth", "@b.pth", "--map", "@r.lua", "--check-roundtrip"))
      local sd = assert(ckpt.open(cli.path "b.pth")):state_dict()
      assert.same({ "c.2.w", "c.3.w", "bn.5" }, ckpt.keys(sd))
      assert.same({ 5, 6, 3, 4, 1, 2, 11, 12, 9, 10, 7, 8 }, sd["c.2.w"]:tolist())
    end)

    it("refuses to map twice, in both formats, and the inverse takes the mark away", function()
      for _, name in ipairs { "@m.pth", "@m.safetensors" } do
        cli.says(0, "convert", "@a.pth", name, "--map", "@r.lua")
        local _, err, status = cli.run("convert", name, "@n.pth", "--map", "@r.lua")
        assert.equal(1, status)
        assert.matches("r.lua: the file is marked 'color = bgr': these rules have been applied to it already", err, 1, true)
        assert.matches("nothing was done: 1 problem", err, 1, true)
        cli.says(0, "convert", name, "@back.pth", "--map", "@r.lua", "--inverse")
        assert.matches("only in B  fc.weight", cli.says(1, "diff", "@a.pth", "@back.pth", "--map", "@half2.lua"):gsub("A ", "B "), 1, true)
        cli.says(0, "convert", "@back.pth", "@again.pth", "--map", "@r.lua", "--var", "n=5")
      end
    end)

    it("takes variables from a config beside the file, from --config, from --var", function()
      local cases = { { {}, "bn.5" }, { { "--config", "@other.json" }, "bn.6" }, { { "--var", "n=7", "--config", "@other.json" }, "bn.7" } }
      for _, case in ipairs(cases) do
        cli.says(0, "convert", "@a.pth", "@v.pth", "--map", "@r.lua", table.unpack(case[1]))
        assert.equal(case[2], ckpt.keys(assert(ckpt.open(cli.path "v.pth")):state_dict())[3])
      end
    end)

    it("tells all problems and writes nothing", function()
      local out, err, status = cli.run("convert", "@a.pth", "@none.pth", "--map", "@bad.lua", "--var", "q=1")
      assert.same({ "", 1 }, { out, status })
      assert.matches("bad.lua:3: rule 1.2: permute", err, 1, true)
      assert.matches("bad.lua:3: rule 1.2: two results", err, 1, true)
      assert.matches("bad.lua: there is no variable or option 'q'", err, 1, true)
      assert.matches("nothing was done: 3 problems", err, 1, true)
      assert.is_nil(io.open(cli.path "none.pth"))
    end)

    it("does not pass what loses something as undoable, unless it says so", function()
      local _, err, status = cli.run("convert", "@a.pth", "@none.pth", "--map", "@half.lua", "--check-roundtrip")
      assert.equal(1, status)
      assert.matches("half.lua: rule 1.1: loses something, and does not say so", err, 1, true)
      assert.is_nil(io.open(cli.path "none.pth"))
      cli.says(0, "convert", "@a.pth", "@half.pth", "--map", "@half2.lua", "--check-roundtrip")
      _, err, status = cli.run("convert", "@a.pth", "@none.pth", "--map", "@half2.lua", "--inverse")
      assert.equal(1, status)
      assert.matches("half2.lua:1: rule 1.1: has no inverse: it says so (lossy)", err, 1, true)
    end)

    it("does not take two tensors for one", function()
      local _, err, status = cli.run("convert", "@a.pth", "@none.pth", "--map", "@any.lua")
      assert.equal(1, status)
      assert.matches("rule 1.1: 'conv1.weight' and 'conv2.weight' are to be one tensor, but differ", err, 1, true)
    end)

    it("includes what lies beside the rules, selects, casts", function()
      cli.says(0, "convert", "@a.pth", "@i.safetensors", "--map", "@inc.lua", "--select", "state_dict", "--dtype", "float16")
      local sd = assert(ckpt.open(cli.path "i.safetensors")):state_dict()
      assert.equal("float16", sd["bb"].dtype)
    end)

    it("keeps one tensor one, and computes it once", function()
      local w = counted { 4 }
      assert(ckpt.save(cli.path "t.pth", ckpt.ordered { { "a", w }, { "b", w }, { "c", counted { 4 } } }))
      write("t.lua", 'return { id = "t", stages = { { { "{s}", to = "x.{s}", op = { "flip", 0 } } } } }')
      cli.says(0, "convert", "@t.pth", "@u.pth", "--map", "@t.lua", "--check-roundtrip")
      local sd = assert(ckpt.open(cli.path "u.pth")):state_dict()
      assert.same({ "x.a", "x.b", "x.c" }, ckpt.keys(sd))
      assert.is_true(sd["x.a"]:shares_storage(sd["x.b"]))
      assert.is_false(sd["x.a"]:shares_storage(sd["x.c"]))
      assert.same({ 4, 3, 2, 1 }, sd["x.b"]:tolist())
    end)

    it("says it in JSON", function()
      local report = cli.json(0, "convert", "@a.pth", "@j.safetensors", "--map", "@r.lua", "--check-roundtrip", "--json")
      assert.same({ rules = "r", select = "state_dict", sources = 4, results = 3, passed = {}, dropped = { "fc.weight" },
        unfired = { "1.4" }, left = { "epoch" }, peeled = {}, marks = { color = "bgr" },
        roundtrip = { same = 3, differ = {}, gone = { "fc.weight" }, lossy = { "1.2" } } }, report.map)
    end)
  end)

  it("diff compares what the rules make of A with B", function()
    cli.says(0, "convert", "@a.pth", "@d.pth", "--map", "@r.lua")
    assert.equal("the same: 3 tensors, 0 plain values\n", cli.says(0, "diff", "@a.pth", "@d.pth", "--map", "@r.lua"))
    assert.matches("only in A  bn.8", cli.says(1, "diff", "@a.pth", "@d.pth", "--map", "@r.lua", "--var", "n=8"), 1, true)
    assert.matches("values", cli.says(1, "diff", "@a.pth", "@d.pth", "--map", "@inc.lua", "--all") .. "values", 1, true)
    local _, err, status = cli.run("diff", "@d.pth", "@a.pth", "--map", "@r.lua")
    assert.equal(1, status)
    assert.matches("applied to it already", err, 1, true)
  end)
end)
