-- peers_load_spec.lua: defects of other checkpointers on the load side, one block each: ours has them not. Real arrays.

local ckpt = require "ckpt"
local on = require "support.load_run"
local vgg16 = require "policies.maps.vgg16_reducedfc"

local path, state_dict, open, bytes_of = on.path, on.state_dict, on.open, on.bytes_of

before_each(on.enter)
after_each(on.leave)

local function save(rows, name) assert(ckpt.save(path(name or "w.pth"), { model = state_dict(rows) })) end

local function status(report, to)
  for _, e in ipairs(report.entries) do
    if e.to == to then return e.status, e.note end
  end
end

-- The source of a model key, with its status where it is not filled.
local function source(report, to)
  for _, e in ipairs(report.entries) do
    if e.to == to then return e.status == "matched" and e.source or e.status end
  end
end

describe("suffixes without a dot (Pet, maskrcnn-benchmark):", function()
  local cases = {
    { model = { "Backbone.conv1.weight", "RPN.sub_conv1.weight" }, file = { "conv1.weight" },
      is = { "conv1.weight", "missing" } },
    { model = { "head.fc.bias", "head.cls_fc.bias" }, file = { "fc.bias" }, is = { "fc.bias", "missing" } },
    { model = { "xconv1.weight" }, file = { "conv1.weight" }, is = { "missing" } },
    { model = { "a.conv1.weight" }, file = { "1.weight" }, is = { "missing" } },
    { model = { "a.b.weight" }, file = { "b.weight", "weight" }, is = { "b.weight" } },
  }
  for _, case in ipairs(cases) do
    it(table.concat(case.file, " ") .. " in " .. table.concat(case.model, " "), function()
      local file, model, got = {}, {}, {}
      for i, name in ipairs(case.file) do file[i] = { name, { 2 } } end
      for i, name in ipairs(case.model) do model[i] = { name, { 2 } } end
      save(file)
      local run <close> = open("{ require = { matched = 0 } }", model)
      local report = assert(run:load())
      for i, name in ipairs(case.model) do got[i] = source(report, name) end
      assert.same(case.is, got)
    end)
  end
end)

describe("one source that feeds several targets silently (Pet, detectron2):", function()
  local MODEL = { { "student.fc.weight", { 2 } }, { "teacher.fc.weight", { 2 } } }

  it("is told and refused, and neither is overwritten first", function()
    save { { "fc.weight", { 2 } } }
    local run <close>, bound = open("{}", MODEL)
    local before = bytes_of(bound)
    local _, message, code, report = run:load()
    assert.equal("contract", code)
    assert.matches("0 of 2 model keys", message, 1, true)
    for _, row in ipairs(MODEL) do
      assert.same({ "colliding", "'fc.weight' fits 2 model keys" }, { status(report, row[1]) })
    end
    assert.same(before, bytes_of(bound))
  end)

  it("is done where it is asked for", function()
    save { { "fc.weight", { 2 } } }
    local run <close>, bound = open("{ align = { fanout = true } }", MODEL)
    assert.equal(2, assert(run:load()).matched)
    assert.same(bound["student.fc.weight"]:tolist(), bound["teacher.fc.weight"]:tolist())
  end)
end)

describe("the VGG16 mapping by a substring of the path (Pet):", function()
  local function rows(prefix, column)
    local list = {}
    for i, row in ipairs(vgg16.table) do
      list[i] = { prefix .. row[column], row[1] == "0.weight" and { 4, 3, 1, 1 } or { 4 } }
    end
    return list
  end

  it("goes by the keys, whatever the file is called, and the channels of its first convolution turn", function()
    local file = rows("", 1)
    file[#file + 1] = { "35.weight", { 2 } } -- KeyError in Pet
    save(file, "renamed.pth")
    local run <close>, bound = open("{ rgb2bgr = true }", rows("body.", 2), { weights = path "renamed.pth" })
    local report = assert(run:load())
    assert.equal(30, report.matched)
    assert.same({ "35.weight" }, report.unexpected)
    assert.same({ 103, 102, 101 }, { table.unpack(bound["body.features1.0.weight"]:tolist(), 1, 3) })
  end)

  it("is not used for other keys in a file of that name", function()
    save({ { "conv1.weight", { 4, 3, 1, 1 } } }, "vgg16_reducedfc.pth")
    local run <close> = open("{ rgb2bgr = true }", { { "conv1.weight", { 4, 3, 1, 1 } } },
                             { weights = path "vgg16_reducedfc.pth" })
    assert.is_nil(assert(run:load()).map)
  end)
end)

describe("stem.fc, renamed and lost (detectron2's converter):", function()
  local RULES = [[{ require = { %s }, map = { id = "d2", stages = { {
    { "layer{i}.{*}", to = "res{i+1}.{2}" }, { "conv1.{s}", to = "stem.conv1.{s}" }, %s } } } }]]
  local FILE = { { "conv1.weight", { 2 } }, { "layer1.0.conv1.weight", { 2 } }, { "fc.weight", { 3 } } }
  local MODEL = { { "backbone.stem.conv1.weight", { 2 } }, { "backbone.res2.0.conv1.weight", { 2 } } }

  it("is dropped by a rule that says so, and reported", function()
    save(FILE)
    local run <close> = open(RULES:format("max_unexpected = 0", '{ "fc.{s}", drop = true }'), MODEL)
    local report = assert(run:load())
    assert.same({ 2, { "fc.weight (rule 1.3)" }, {} }, { report.matched, report.dropped, report.unexpected })
  end)

  it("without such a rule is unexpected, which the contract may forbid", function()
    save(FILE)
    local run <close> = open(RULES:format("max_unexpected = 0", ""), MODEL)
    local _, message = run:load()
    assert.matches("1 keys of the file are of no use, the contract allows 0 (load.require.max_unexpected): fc.weight",
                   message, 1, true)
    run:close()
    local other <close> = open(RULES:format('max_unexpected = 0, may_ignore = { "fc.*" }', ""), MODEL)
    assert.same({ "fc.weight" }, assert(other:load()).unexpected)
  end)
end)

describe("only the first number of a key (torchtune, torchtitan):", function()
  it("two indices are two captures, with arithmetic of their own", function()
    local file, model = {}, {}
    for layer = 0, 1 do
      for expert = 0, 11 do
        file[#file + 1] = { ("layers.%d.experts.%d.w"):format(layer, expert), { 1 } }
        model[#model + 1] = { ("h.%d.e%d.w"):format(layer + 1, 11 - expert), { 1 } }
      end
    end
    save(file)
    local run <close>, bound = open([[{ map = { id = "two", stages = { {
      { "layers.{i}.experts.{e}.w", to = "h.{i+1}.e{11-e}.w" } } } } }]], model)
    assert.equal(24, assert(run:load()).matched)
    for i, row in ipairs(model) do assert.equal(100 * i + 1, bound[row[1]]:get(1), row[1]) end
  end)
end)

describe("resume without a pointer file trains from scratch (mmengine):", function()
  local MODEL = { { "w", { 2 } } }

  local function trained()
    local run <close> = open("{}", MODEL, { weights = "" })
    for epoch = 1, 3 do assert(run:save(epoch)) end
  end

  local function resumed(load)
    local run <close> = open(load or "{}", MODEL, { weights = "", auto_resume = true })
    local report, message, code = run:load()
    return report and report.mode, report and report.path, message, code
  end

  it("finds the newest by the ledger", function()
    trained()
    assert(os.remove(path "run/model_latest.pth"))
    assert.same({ "resume", path "run/model_epoch3.pth" }, { resumed() })
  end)

  it("and without a ledger by the names", function()
    trained()
    assert(os.remove(path "run/model_latest.pth"))
    assert(os.remove(path "run/ckpt.jsonl"))
    assert.same({ "resume", path "run/model_epoch3.pth" }, { resumed() })
  end)

  it("says scratch in its report where there is nothing, and can be forbidden to", function()
    assert.same({ "scratch" }, { resumed() })
    local mode, _, message, code = resumed "{ require = { file = true } }"
    assert.same({ nil, "contract" }, { mode, code })
    assert.equal(path "run" .. ": there is nothing to resume from and no weights are given (load.require.file)", message)
  end)
end)
