-- load_spec.lua: loads through the whole machine, into real arrays: the report, the contract, and that a load which
-- fails, however late, leaves every byte as it was.

local ckpt = require "ckpt"
local on = require "support.load_run"
local scratch = require "support.scratch"

local path, filled, state_dict, open, bytes_of = on.path, on.filled, on.state_dict, on.open, on.bytes_of

before_each(on.enter)
after_each(on.leave)

local MODEL = { { "net.conv1.weight", { 2, 3, 1, 1 } }, { "net.fc.weight", { 5, 4 } }, { "net.fc.bias", { 5 } } }
local FILE = { { "conv1.weight", { 2, 3, 1, 1 } }, { "fc.weight", { 5, 4 } }, { "fc.bias", { 5 } } }

-- ---- the report ----

describe("the report of a load", function()
  it("has an entry for each model key, with source, operations, shapes and dtypes", function()
    assert(ckpt.save(path "w.pth", { model = state_dict({ FILE[1], { "fc.weight", { 5, 4 }, "float64" }, { "fc.bias", { 7 } },
                                                          { "old.weight", { 2 } } }, 0) }))
    local cp <close>, bound = open("{ rgb2bgr = true, require = { matched = 0 } }", MODEL)
    local report = assert(cp:load())
    assert.same({
      { to = "net.conv1.weight", status = "matched", source = "conv1.weight", operations = "index_select(1, [2, 1, 0])",
        dtype = "float32", shape = { 2, 3, 1, 1 }, file_dtype = "float32", file_shape = { 2, 3, 1, 1 } },
      { to = "net.fc.weight", status = "matched", source = "fc.weight", dtype = "float32", shape = { 5, 4 },
        file_dtype = "float64", file_shape = { 5, 4 } },
      { to = "net.fc.bias", status = "mismatched", source = "fc.bias", dtype = "float32", shape = { 5 },
        file_dtype = "float32", file_shape = { 7 }, note = "file [7], model [5]" },
    }, report.entries)
    assert.same({ "pretrain", 2, 124, 104, { "net.fc.bias" }, { "fc.bias", "old.weight" } },
      { report.mode, report.matched, report.bytes, report.matched_bytes, report.missing, report.unexpected })
    assert.same({ 103, 102, 101, 106, 105, 104 }, bound["net.conv1.weight"]:tolist())
    assert.equal(201, bound["net.fc.weight"]:get(1, 1))
  end)

  it("is the same when it is only planned, and reads nothing", function()
    assert(ckpt.save(path "w.pth", { model = state_dict(FILE, 0) }))
    local cp <close>, bound = open("{ rgb2bgr = true }", MODEL)
    local before = bytes_of(bound)
    local plan = assert(cp:plan_load())
    assert.same(before, bytes_of(bound))
    local report = assert(cp:load())
    for _, field in ipairs { "mode", "matched", "bytes", "matched_bytes", "entries", "missing", "unexpected" } do
      assert.same(report[field], plan[field], field)
    end
    assert.same({ "model", nil }, { plan.select, plan.refuse })
  end)

  it("is there for a load that was refused, and says which conditions failed", function()
    assert(ckpt.save(path "w.pth", { model = state_dict({ FILE[3], { "junk", { 1 } } }, 0) }))
    local cp <close>, bound = open([[{ require = { matched = 0.9, bytes = 0.5, must = { "net.fc.*", "head.*" },
                                                   max_unexpected = 0 } }]], MODEL)
    local before = bytes_of(bound)
    local report, message, code, refused = cp:load()
    assert.is_nil(report)
    assert.equal("contract", code)
    assert.same(before, bytes_of(bound))
    assert.same({
      "1 of 3 model keys are matched (33.3 %), the contract asks for 90.0 %; without a source: net.conv1.weight, "
        .. "net.fc.weight; the file's keys: fc.bias, junk",
      "16.1 % of the model's bytes are matched, the contract asks for 50.0 % (load.require.bytes)",
      "'net.fc.weight' must be loaded ('net.fc.*')",
      "load.require.must names 'head.*', which no model key matches",
      "1 keys of the file are of no use, the contract allows 0 (load.require.max_unexpected): junk",
    }, refused.violations)
    assert.matches(path "w.pth" .. ": 1 of 3 model keys", message, 1, true)
    assert.same({ "missing", "missing", "matched" }, { refused.entries[1].status, refused.entries[2].status,
                                                       refused.entries[3].status })
    local told = 0
    for _, line in ipairs(cp:log()) do
      for _, sentence in ipairs(refused.violations) do
        if line == ("warning: %s: %s"):format(path "w.pth", sentence) then told = told + 1 end
      end
    end
    assert.equal(5, told)
  end)
end)

-- ---- all or nothing ----

local late = {
  { "a tensor that cannot be cast, behind ones that can", code = "unsupported",
    file = { FILE[1], FILE[2], { "fc.bias", { 5 }, "complex64" } }, load = "{}",
    says = "'net.fc.bias' cannot be cast from complex64 [5] to float32 [5]" },
  { "a shape that the plan did not look at", code = "shape", file = FILE,
    policy = [[return { plan_load = function() return { select = "model", assign = {
      { to = "net.conv1.weight", from = "conv1.weight" }, { to = "net.fc.bias", from = "fc.weight" } } } end }]],
    says = "'net.fc.bias' is float32 [5,4] in the file and float32 [5] here" },
  { "several at once, all of them named", code = "shape", file = FILE,
    policy = [[return { plan_load = function() return { select = "model", assign = {
      { to = "net.conv1.weight", from = "conv1.weight" }, { to = "net.fc.bias", from = "fc.weight" },
      { to = "net.fc.weight", from = "fc.bias" } } } end }]],
    says = ", and 1 more like it", violations = 2 },
  { "an operation that fails on the last tensor", code = "range", file = FILE,
    policy = [[return { plan_load = function() return { select = "model", assign = {
      { to = "net.conv1.weight", from = "conv1.weight" },
      { to = "net.fc.bias", expr = { "slice", 0, 0, 9, of = "fc.bias" } } } } end }]], says = "slice" },
  { "a source that is not there", code = "policy", file = FILE,
    policy = [[return { plan_load = function() return { select = "model", assign = {
      { to = "net.conv1.weight", from = "conv1.weight" }, { to = "net.fc.bias", from = "gone" } } } end }]],
    says = "the plan takes 'gone'" },
}

describe("a load that fails late leaves the model as it was:", function()
  for _, case in ipairs(late) do
    it(case[1], function()
      assert(ckpt.save(path "w.pth", { model = state_dict(case.file, 0) }))
      local cp <close>, bound = open(case.load, MODEL, { policy = case.policy })
      local before = bytes_of(bound)
      local report, message, code, refused = cp:load()
      assert.is_nil(report)
      assert.equal(case.code, code)
      assert.matches(case.says, message, 1, true)
      assert.same(before, bytes_of(bound))
      if case.violations then assert.equal(case.violations, #refused.violations) end
    end)
  end

  it("a value of another group, after all tensors were made ready", function()
    assert(ckpt.save(path "run.pth", { model = state_dict(MODEL, 0), epoch = 3, scheduler = { iteration = "twelve" } }))
    scratch.write(path "policy.lua", ("return { resume = { %q } }"):format(path "run.pth"))
    local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "policy.lua" })
    local bound = {}
    for i, row in ipairs(MODEL) do
      bound[row[1]] = filled(row[2], -1000 * i)
      assert(cp:bind("model", row[1], bound[row[1]]))
    end
    assert(cp:set("scheduler", "iteration", 7))
    local before = bytes_of(bound)
    local report, message = cp:load()
    assert.is_nil(report)
    assert.matches("'iteration' of group 'scheduler'", message, 1, true)
    assert.same(before, bytes_of(bound))
    assert.same({ 7, 1 }, { cp:get("scheduler", "iteration"), cp:next_epoch() })
  end)
end)

-- ---- partial shapes ----

describe("load.on_mismatch", function()
  local HEAD = { { "head.weight", { 4, 3 } }, { "head.bias", { 4 } } }

  before_each(function()
    assert(ckpt.save(path "w.pth", { model = state_dict({ { "head.weight", { 2, 5 } }, { "head.bias", { 2 } } }, 0) }))
  end)

  it("overlap copies what both have and says which rows are new", function()
    local cp <close>, bound = open('{ on_mismatch = "overlap" }', HEAD)
    local report = assert(cp:load())
    assert.same({ 101, 102, 103, 106, 107, 108, -993, -992, -991, -990, -989, -988 }, bound["head.weight"]:tolist())
    assert.same({ 201, 202, -1997, -1996 }, bound["head.bias"]:tolist())
    assert.same({ "partial", "2 to 3 of dimension 0 stay as initialised; the file's 3 to 4 of dimension 1 are left out" },
                { report.entries[1].status, report.entries[1].note })
    assert.same({ 2, 64, 32 }, { report.matched, report.bytes, report.matched_bytes })
  end)

  it("overlap casts, and goes through the operations of a rule first", function()
    assert(ckpt.save(path "w.pth", { model = state_dict({ { "head.weight", { 2, 5 }, "float64" } }, 0) }))
    local cp <close>, bound = open('{ on_mismatch = "overlap", require = { may_miss = { "*.bias" } } }', HEAD)
    assert(cp:load())
    assert.same({ 101, 102, 103, 106, 107, 108, -993, -992, -991, -990, -989, -988 }, bound["head.weight"]:tolist())
  end)

  it("skip is the default, and error is a violation for each key", function()
    local cp <close> = open('{ require = { matched = 0 } }', HEAD)
    assert.equal("mismatched", assert(cp:load()).entries[1].status)
    cp:close() -- lets go of the directory
    local other <close>, bound = open('{ on_mismatch = "error", require = { matched = 0 } }', HEAD)
    local before = bytes_of(bound)
    local report, _, _, refused = other:load()
    assert.is_nil(report)
    assert.same({ "'head.weight' has another shape (file [2, 5], model [4, 3]), and load.on_mismatch = 'error'",
                  "'head.bias' has another shape (file [2], model [4]), and load.on_mismatch = 'error'" }, refused.violations)
    assert.same(before, bytes_of(bound))
  end)

  it("a function decides for each key, and may give operations", function()
    local cp <close>, bound = open([[{ require = { matched = 0 }, on_mismatch = function(to, file, model)
      if to == "head.bias" then return "skip" end
      if file.shape[1] == 2 and model.dtype == "float32" then
        return { { "slice", 1, 0, 3 }, { "cat", 0 } , { "index_select", 0, { 0, 1, 0, 1 } } }
      end
    end }]], HEAD)
    local report = assert(cp:load())
    assert.same({ "matched", "mismatched" }, { report.entries[1].status, report.entries[2].status })
    assert.equal("slice(1, 0, 3), cat(0), index_select(0, [0, 1, 0, 1])", report.entries[1].operations)
    assert.same({ 101, 102, 103, 106, 107, 108, 101, 102, 103, 106, 107, 108 }, bound["head.weight"]:tolist())
  end)

  it("a function whose operations do not lead to the shape is told so", function()
    local cp <close> = open([[{ require = { matched = 0 }, on_mismatch = function() return { { "unsqueeze", 0 } } end }]], HEAD)
    assert.equal("load.on_mismatch makes [1, 2, 5] of it, model [4, 3]", assert(cp:load()).entries[1].note)
  end)

  it("another number of dimensions is no overlap", function()
    local cp <close> = open('{ on_mismatch = "overlap", require = { matched = 0 } }', { { "head.bias", { 4, 1 } } })
    assert.equal("mismatched", assert(cp:load()).entries[1].status)
  end)

  it("load.reset keeps a head as it was initialised, whatever the file has", function()
    assert(ckpt.save(path "w.pth", { model = state_dict(HEAD, 0) }))
    local cp <close>, bound = open('{ reset = { "head.b*" } }', HEAD)
    local report = assert(cp:load())
    assert.same({ "matched", "reset" }, { report.entries[1].status, report.entries[2].status })
    assert.same({ -1999, -1998, -1997, -1996 }, bound["head.bias"]:tolist())
    assert.same({ "head.bias" }, report.unexpected)
  end)
end)

-- ---- the moving average ----

describe("load.weights by role", function()
  local function save_run(with)
    local cp <close>, bound = open("{}", { { "fc.weight", { 2, 2 } }, { "fc.bias", { 2 } } }, { weights = "" })
    for _, group in ipairs(with) do
      for name, tensor in pairs(bound) do
        assert(cp:bind(group, name, filled(tensor.shape, 5000)))
      end
    end
    assert(cp:save(1))
  end

  local ROLES = '{ weights = { pretrain = { "ema", "model" } } }'
  local ROWS = { { "fc.weight", { 2, 2 } }, { "fc.bias", { 2 } } }

  it("takes the average to pre-train, which is saved as a state dict", function()
    save_run { "ema" }
    local file <close> = assert(ckpt.open(path "run/model_epoch1.pth"))
    assert.same({ 5001, 5002 }, file:state_dict("ema")["fc.bias"]:tolist())
    local cp <close>, bound = open(ROLES, ROWS, { weights = path "run/model_epoch1.pth" })
    assert.equal("ema", cp:plan_load().select)
    assert(cp:load())
    assert.same({ 5001, 5002 }, bound["fc.bias"]:tolist())
  end)

  it("falls back to the model in a file without one", function()
    save_run {}
    local cp <close> = open(ROLES, ROWS, { weights = path "run/model_epoch1.pth" })
    assert.equal("model", cp:plan_load().select)
  end)

  it("resumes the model, and the average too where it is bound", function()
    save_run { "ema" }
    local cp <close>, bound = open(ROLES, ROWS, { auto_resume = true, weights = "" })
    local average = filled({ 2 }, 0)
    assert(cp:bind("ema", "fc.bias", average))
    assert.equal("model", cp:plan_load().select)
    assert.equal("resume", assert(cp:load()).mode)
    assert.same({ -1999, -1998 }, bound["fc.bias"]:tolist())
    assert.same({ 5001, 5002 }, average:tolist())
  end)
end)
