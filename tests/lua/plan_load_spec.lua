-- plan_load_spec.lua: `ckpt plan --load` as a person sees it: rows, conditions, what would match more; and its JSON.

local cli = require "support.cli"
local ckpt = require "ckpt"
local dkjson = require "dkjson"
local scratch = require "support.scratch"

before_each(cli.enter)
after_each(cli.leave)

-- Rows of { name, shape }: a checkpoint with them as `model`, and a model file.
local function save(name, rows)
  local list = {}
  for i, row in ipairs(rows) do list[i] = { row[1], ckpt.tensor("float32", row[2]) } end
  cli.save(name, { model = ckpt.ordered(list) })
end

local function model(rows)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = ('"%s": {"dtype":"float32","shape":%s}'):format(row[1], dkjson.encode(row[2]))
  end
  scratch.write(cli.path "model.json", "{" .. table.concat(list, ", ") .. "}")
end

local function policy(load) scratch.write(cli.path "policy.lua", "return { load = " .. load .. " }") end

local function words(...) return "plan", "--load", "@w.pth", "--model", "@model.json", ... end

-- The command with more arguments; every line must fit a terminal.
local function says(status, ...)
  local out = cli.says(status, words(...))
  for line in out:gmatch("[^\n]+") do assert.is_true(#line <= 80, line) end
  return out
end

local function json(status, ...) return (cli.json(status, words("--json", ...))) end

describe("ckpt plan --load", function()
  it("shows operations, rules, parts and what is left, each beside its row", function()
    save("w.pth", { { "conv1.weight", { 4, 3, 1, 1 } }, { "head.weight", { 2, 4 } }, { "old.bias", { 2 } }, { "junk", { 1 } } })
    model { { "conv1.weight", { 4, 3, 1, 1 } }, { "head.weight", { 3, 4 } }, { "new.bias", { 2 } }, { "extra.bias", { 2 } },
            { "cls.weight", { 2 } } }
    policy [[{ rgb2bgr = true, on_mismatch = "overlap", reset = { "cls.*" }, map = { id = "mine", stages = { {
      { "old.{s}", to = "new.{s}" }, { "junk", drop = true }, { "gone", to = "x" } } } } }]]
    assert.equal([[
@w.pth -> model (5 keys)
rule set mine (by the policy)
  conv1.weight  <- conv1.weight  4x3x1x1  rgb->bgr
  head.weight   <- head.weight   2x4
      in part, 2 to 2 of dimension 0 stay as initialised
  new.bias      <- old.bias      2        rule 1.1
  extra.bias    <- (nothing)     2        as initialised
  cls.weight    <- (nothing)     2        as initialised (load.reset)
matched 3 of 5 keys, 73.3 % of the bytes
missing: extra.bias, cls.weight
dropped: junk (rule 1.2)
rules that met no key: 1.3
contract: matched >= 0.5: ok
]], says(0, "--policy", "@policy.lua"))
    local value = json(0, "--policy", "@policy.lua")
    assert.same({ to = "head.weight", status = "partial", source = "head.weight", file_shape = { 2, 4 }, file_dtype = "float32",
                  shape = { 3, 4 }, dtype = "float32", note = "2 to 2 of dimension 0 stay as initialised" }, value.entries[2])
    assert.same({ "mine (by the policy)", { "junk (rule 1.2)" }, { "1.3" }, {}, {} },
                { value.map, value.dropped, value.unfired, value.violations, value.suggestions })
  end)

  it("names each condition that is not met on its own", function()
    save("w.pth", { { "a", { 2 } }, { "b", { 9 } } })
    model { { "a", { 2 } }, { "b", { 3 } }, { "c", { 5 } } }
    policy [[{ require = { matched = 0.9, bytes = 0.8, must = { "c", "d" } }, on_mismatch = "error" }]]
    local out = says(1, "--policy", "@policy.lua")
    local _, refusals = out:gsub("\nrefused: ", "")
    assert.equal(5, refusals)
    assert.matches("\nrefused: 'b' has another shape (file [9], model [3]), and load.on_mismatch =\n  'error'\n", out, 1, true)
    assert.matches("\nrefused: 'c' must be loaded ('c')\nrefused: load.require.must names 'd', which no model key matches\n"
      .. "nothing would be loaded\n", out, 1, true)
    assert.equal(5, #json(1, "--policy", "@policy.lua").violations)
  end)

  it("puts names that are too long for one line above what fills them", function()
    local long = ("backbone.bottom_up.stage%d.very_long_name_of_a_block.conv.weight")
    save("w.pth", { { "conv0.conv.weight", { 2 } }, { "conv1.conv.weight", { 2, 3 } } })
    model { { long:format(0), { 2 } }, { long:format(1), { 2, 3 } } }
    scratch.write(cli.path "mine.lua", ([[return { id = "mine", stages = { { { "conv{i}.{*}",
      to = "%s" } } } }]]):format(long:gsub("%%d", "{i}")))
    assert.matches("\n  " .. long:format(1) .. "\n      <- conv1.conv.weight  2x3  rule 1.1\n", says(0, "--map", "@mine.lua"), 1, true)
  end)

  it("takes a rule file and a prefix", function()
    save("w.pth", { { "module.x.a", { 2 } }, { "x.b", { 3 } } })
    model { { "y.a", { 2 } }, { "y.b", { 3 } } }
    scratch.write(cli.path "mine.lua", 'return { id = "mine", stages = { { { "x.{s}", to = "y.{s}" } } } }')
    assert.matches("matched 2 of 2 keys", says(0, "--map", "@mine.lua", "--strip", "module."), 1, true)
    assert.matches("matched 2 of 2 keys", says(0, "--map", "@mine.lua", "--strip", "module."), 1, true)
    cli.refuses(3, "@none.lua: there is no such rule file", "plan", "--load", "@w.pth", "--model", "@model.json", "--map",
                "@none.lua")
  end)

  it("reads variables of the rules from a config", function()
    save("w.pth", { { "qkv.w", { 12, 3 } } })
    model { { "q", { 8, 3 } }, { "k", { 2, 3 } }, { "v", { 2, 3 } } }
    scratch.write(cli.path "mine.lua", [[return { id = "mine",
      vars = { q = { config = "model.q_rows" }, kv = { config = "kv_rows" } },
      stages = { { { "qkv.w", op = { "split", 0, { "q", "kv", "kv" } }, to = { "q", "k", "v" } } } } }]])
    assert.matches("the config has no 'model.q_rows'", cli.run(words("--map", "@mine.lua")), 1, true)
    scratch.write(cli.path "other.json", '{"model": {"q_rows": 8, "heads": [1, 2]}, "kv_rows": 2}')
    assert.matches("matched 3 of 3 keys", says(0, "--map", "@mine.lua", "--config", "@other.json"), 1, true)
    assert.matches("matched 3 of 3 keys", says(0, "--map", "@mine.lua", "--set", "config.kv_rows=2", "--set",
      "config.model.q_rows=8"), 1, true)
    scratch.write(cli.path "config.json", '{"model": {"q_rows": 8}, "kv_rows": 9}')
    assert.matches("matched 3 of 3 keys", says(0, "--map", "@mine.lua", "--set", "config.kv_rows=2"), 1, true)
    cli.refuses(3, "@none.json: No such file or directory", "plan", "--load", "@w.pth", "--model", "@model.json", "--config",
                "@none.json")
  end)
end)

-- ---- did you mean ----

local function numbered(format, n, offset)
  local rows = {}
  for i = 1, n do rows[i] = { format:format(i + (offset or 0)), { i } } end
  return rows
end

local function joined(...)
  local rows = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #rows + 1, rows) end
  return rows
end

local suggestions = {
  { "a prefix that only some keys have", file = joined(numbered("module.a%d.w", 8), numbered("b%d.w", 2)),
    model = joined(numbered("a%d.w", 8), numbered("c%d.w", 9)), text = "--strip module.", matches = 8 },
  { "a prefix of several segments", file = numbered("module.net.a%d.w", 4), model = numbered("a%d.w", 4),
    set = { "strip=x" }, text = "--strip module.net.", matches = 4 },
  { "one segment for another", file = numbered("net.enc.%d.w", 5), model = numbered("net.encoder.%d.w", 5),
    text = 'a rule { seg = { "enc", "encoder" } }', matches = 5 },
  { "numbered segments, with the offset", file = numbered("layer%d.w", 4), model = numbered("res%d.w", 4, 1),
    text = 'a rule { "layer{i}.{*}", to = "res{i+1}.{2}" }', matches = 4 },
  { "numbered segments inside", file = numbered("net.layer%d.w", 4), model = numbered("net.stage%d.w", 4),
    text = 'a rule { "{*}.layer{i}.{*}", to = "{1}.stage{i}.{3}" }', matches = 4 },
  { "a name that differs in a letter", file = { { "embeding_table", { 7 } } }, model = { { "embedding_table", { 7 } }, { "z", { 1 } },
    { "y", { 1 } } }, text = "'embeding_table' for 'embedding_table'", matches = 1 },
  { "suffixes, where whole keys were asked for", file = numbered("a%d.w", 4), model = numbered("net.a%d.w", 4),
    load = '{ align = { mode = "exact" } }', text = "load.align.mode = 'suffix'", matches = 4 },
}

describe("ckpt plan --load, did you mean:", function()
  for _, case in ipairs(suggestions) do
    it(case[1], function()
      save("w.pth", case.file)
      model(case.model)
      policy(case.load or "{}")
      local value = json(1, "--policy", "@policy.lua", table.unpack(case.set and { "--set", case.set[1] } or {}))
      assert.same({ text = case.text, matches = case.matches }, value.suggestions[1])
      local out = says(1, "--policy", "@policy.lua", table.unpack(case.set and { "--set", case.set[1] } or {}))
      assert.matches("nothing would be loaded\n  did you mean  " .. case.text, out, 1, true)
      assert.matches(("(would match %d)"):format(case.matches), out, 1, true)
    end)
  end

  it("the prefix that it suggests does what it says", function()
    save("w.pth", joined(numbered("module.a%d.w", 8), numbered("b%d.w", 2)))
    model(joined(numbered("a%d.w", 8), numbered("c%d.w", 3)))
    assert.equal(8, json(0, "--strip", "module.").matched)
  end)

  it("a rule set of the library, by its keys", function()
    local file, rows = {}, {}
    for i, row in ipairs(require("policies.maps.vgg16_reducedfc").table) do
      file[i], rows[i] = { row[1], { i } }, { "net." .. row[2], { i } }
    end
    save("w.pth", file)
    model(rows)
    local value = json(0, "--map", "none")
    assert.same({ text = "--map vgg16_reducedfc", matches = 30 }, value.suggestions[1])
    assert.equal(30, json(0, "--map", "vgg16_reducedfc").matched)
  end)

  it("nothing where nothing would match more", function()
    save("w.pth", { { "a", { 2 } } })
    model { { "b", { 3 } } }
    assert.same({}, json(1).suggestions)
    assert.matches("nothing would be loaded\nnext: the same with --all shows every key\n", says(1), 1, true)
  end)

  it("is told to a trainer's log too", function()
    save("w.pth", numbered("net.enc.%d.w", 5))
    local run <close> = assert(ckpt.checkpointer { dir = cli.path "run", weights = cli.path "w.pth" })
    for _, row in ipairs(numbered("net.encoder.%d.w", 5)) do assert(run:bind("model", row[1], ckpt.tensor("float32", row[2]))) end
    local report, _, code, refused = run:load()
    assert.same({ nil, "contract" }, { report, code })
    assert.same({ text = 'a rule { seg = { "enc", "encoder" } }', matches = 5 }, refused.suggestions[1])
    local log = table.concat(run:log(), "\n")
    assert.matches('warning:   did you mean a rule { seg = { "enc", "encoder" } } (would match 5)?\n', log, 1, true)
  end)
end)
