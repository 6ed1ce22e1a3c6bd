-- pet_spec.lua: policies/pet.lua through the whole machine: each scenario gives the exact listing of the directory, the
-- dictionaries in the files, the returned values and the log lines of Pet's CheckPointer.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

-- ---- a trainer of a few numbers ----

local MODEL = { { "conv1.weight", { 2, 3, 1, 1 } }, { "fc.bias", { 4 } } }

local function numel(shape)
  local n = 1
  for _, d in ipairs(shape) do n = n * d end
  return n
end

local function filled(shape, start)
  local values = {}
  for i = 1, numel(shape) do values[i] = start + i end
  return ckpt.tensor("float32", shape, values)
end

-- Opens a run with bound model, optimizer and scheduler (as the scenario says); the model is filled from `start`.
local function open(dir, s, start)
  local cp = assert(ckpt.checkpointer {
    dir = dir, policy = "pet", weights = s.weights and s.weights:gsub("DIR", dir), auto_resume = s.auto_resume,
    rank = s.rank, set = s.set,
  })
  for i, row in ipairs(s.model or MODEL) do
    assert(cp:bind("model", row[1], filled(row[2], start + 100 * i)))
    if s.optimizer ~= false then
      assert(cp:bind("optimizer", row[1] .. ".momentum_buffer", filled(row[2], start + 1000 * i)))
    end
  end
  if s.optimizer ~= false then assert(cp:set("optimizer", "lr", 0.1)) end
  if s.scheduler ~= false then
    assert(cp:set("scheduler", "iteration", 0))
    assert(cp:set("scheduler", "info.cur_acc", 0.0))
    assert(cp:set("scheduler", "info.best_acc", s.best_acc or 0.0))
    assert(cp:set("scheduler", "info.cur_epoch", 0))
    assert(cp:set("scheduler", "info.best_epoch", s.best_epoch or 0))
  end
  return cp
end

-- One epoch: `acc` is the metric; save and save_best are called as the scenario asks. Returns what save_best returned.
local function epoch(cp, s, number, acc)
  if s.scheduler ~= false then
    cp:set("scheduler", "iteration", number)
    cp:set("scheduler", "info.cur_acc", acc)
    cp:set("scheduler", "info.cur_epoch", number)
  end
  if s.save ~= false then assert(cp:save(number)) end
  if s.best then
    local improved, message = cp:save_best(number)
    assert(improved ~= nil, message)
    return improved
  end
end

-- ---- what is in a file ----

local function scheduler_of(path)
  local cp <close> = assert(ckpt.open(path, { verify = true }))
  local info = cp:at("scheduler.info")
  if not info then return nil end
  return { cp:at("scheduler.iteration"), info.cur_acc, info.best_acc, info.cur_epoch, info.best_epoch }
end

local function keys_of(path)
  local cp <close> = assert(ckpt.open(path))
  local keys = {}
  for key in pairs(cp:at()) do keys[#keys + 1] = key end
  return keys
end

-- ---- saving ----

local NAN = 0 / 0
local SAVED = function(n) return ('Saving checkpoint done. And copy "model_latest.pth" to "model_%s.pth".'):format(n) end
local BEST = function(n) return ("Saving best checkpoint done: model_%s.pth."):format(n) end
local PLAIN = "Saving checkpoint done."

local saves = {
  { "keeps every epoch beside the latest", accs = { .5, .6 },
    files = { "model_epoch0.pth", "model_epoch1.pth", "model_latest.pth" }, log = { SAVED "epoch0", SAVED "epoch1" } },
  { "writes only the latest without copy_latest", accs = { .5, .6 }, set = { copy_latest = false },
    files = { "model_latest.pth" }, log = { PLAIN, PLAIN } },
  { "writes only the latest without a scheduler", accs = { .5 }, scheduler = false,
    files = { "model_latest.pth" }, log = { PLAIN }, keys = { "model", "optimizer" } },
  { "leaves the optimizer out when there is none", accs = { .5 }, optimizer = false,
    files = { "model_epoch0.pth", "model_latest.pth" }, log = { SAVED "epoch0" }, keys = { "model", "scheduler" } },
  { "saves a model alone", accs = { .5 }, optimizer = false, scheduler = false,
    files = { "model_latest.pth" }, log = { PLAIN }, keys = { "model" } },
  { "names the copies by infix", accs = { .5, .6 }, set = { infix = "iter" },
    files = { "model_iter0.pth", "model_iter1.pth", "model_latest.pth" }, log = { SAVED "iter0", SAVED "iter1" } },
  { "does nothing on another rank", accs = { .5 }, rank = 1, best = true, returns = { false }, files = {}, log = {} },
  { "keeps the best of a rising metric", accs = { .5, .6, .7 }, save = false, best = true, returns = { true, true, true },
    files = { "model_epoch3-0.70.pth", "model_latest.pth" },
    log = { BEST "epoch1-0.50", BEST "epoch2-0.60", BEST "epoch3-0.70" }, scheduler_is = { 3, .7, .7, 3, 3 } },
  { "returns false when the metric falls", accs = { .7, .5, .6 }, save = false, best = true,
    returns = { true, false, false }, files = { "model_epoch1-0.70.pth", "model_latest.pth" }, log = { BEST "epoch1-0.70" },
    scheduler_is = { 1, .7, .7, 1, 1 } },
  { "takes a tie as better: the latest wins", accs = { .6, .6 }, save = false, best = true, returns = { true, true },
    files = { "model_epoch2-0.60.pth", "model_latest.pth" }, log = { BEST "epoch1-0.60", BEST "epoch2-0.60" } },
  { "keeps the old best without remove_old", accs = { .5, .6 }, save = false, best = true, set = { remove_old = false },
    returns = { true, true }, files = { "model_epoch1-0.50.pth", "model_epoch2-0.60.pth", "model_latest.pth" },
    log = { BEST "epoch1-0.50", BEST "epoch2-0.60" } },
  { "names the best by infix", accs = { .5 }, save = false, best = true, set = { infix = "iter" }, returns = { true },
    files = { "model_iter1-0.50.pth", "model_latest.pth" }, log = { BEST "iter1-0.50" } },
  { "rounds the metric to two digits in the name", accs = { .994, .995001, 100.0 }, save = false, best = true,
    set = { remove_old = false }, returns = { true, true, true },
    files = { "model_epoch1-0.99.pth", "model_epoch2-1.00.pth", "model_epoch3-100.00.pth", "model_latest.pth" },
    log = { BEST "epoch1-0.99", BEST "epoch2-1.00", BEST "epoch3-100.00" } },
  { "is poisoned by NaN, as Pet is", accs = { .5, .6, .6, NAN, .4, .7 }, save = false, best = true,
    returns = { true, true, true, true, true, true }, files = { "model_epoch6-0.70.pth", "model_latest.pth" },
    log = { BEST "epoch1-0.50", BEST "epoch2-0.60", BEST "epoch3-0.60", BEST "epoch4- nan", BEST "epoch5-0.40",
      BEST "epoch6-0.70" } },
  { "does not improve on a best that was resumed", accs = { .5 }, best_acc = .9, best_epoch = 7, save = false, best = true,
    returns = { false }, files = {}, log = {} },
  { "removes a best that an earlier run left", accs = { .95 }, best_acc = .9, best_epoch = 7, save = false, best = true,
    before = { "model_epoch7-0.90.pth", "other.txt" }, returns = { true },
    files = { "model_epoch1-0.95.pth", "model_latest.pth", "other.txt" }, log = { BEST "epoch1-0.95" } },
  { "saves and keeps the best in one epoch", accs = { .5, .4 }, best = true, returns = { true, false },
    files = { "model_epoch0.pth", "model_epoch1-0.50.pth", "model_epoch1.pth", "model_latest.pth" },
    log = { SAVED "epoch0", BEST "epoch1-0.50", SAVED "epoch1" }, scheduler_is = { 2, .4, .5, 2, 1 } },
  { "overwrites the copy of the same epoch", accs = { .5 }, twice = true, files = { "model_epoch0.pth", "model_latest.pth" },
    log = { SAVED "epoch0", SAVED "epoch0" } },
}

describe("policies/pet.lua saving", function()
  after_each(gate)

  for _, s in ipairs(saves) do
    it(s[1], function()
      local dir = scratch.dir()
      finally(function() scratch.remove(dir) end)
      for _, name in ipairs(s.before or {}) do scratch.write(dir .. "/" .. name, "old") end
      local returns = {}
      do
        local cp <close> = open(dir, s, 0)
        for number, acc in ipairs(s.accs) do
          returns[number] = epoch(cp, s, number, acc)
          if s.twice then epoch(cp, s, number, acc) end
        end
        assert.same(s.log, cp:log())
      end
      assert.same(s.files, scratch.names(dir))
      assert.same(s.returns or {}, returns)
      if #s.files > 0 then
        assert.same(s.keys or { "model", "optimizer", "scheduler" }, keys_of(dir .. "/model_latest.pth"))
      end
      if s.scheduler_is then assert.same(s.scheduler_is, scheduler_of(dir .. "/model_latest.pth")) end
    end)
  end

  it("writes the dictionaries of torch.save", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    do
      local cp <close> = open(dir, {}, 0)
      epoch(cp, {}, 1, .5)
    end
    local cp <close> = assert(ckpt.open(dir .. "/model_epoch0.pth", { verify = true }))
    assert.same({ 101, 102, 103, 104, 105, 106 }, cp:at("model")["conv1.weight"]:tolist())
    assert.same({ 2001, 2002, 2003, 2004 }, cp:at("optimizer.state.1.momentum_buffer"):tolist())
    local group = cp:at("optimizer.param_groups[0]")
    assert.equal(0.1, group.lr)
    assert.equal("[0, 1]", tostring(group.params))
    assert.equal("['conv1.weight', 'fc.bias']", tostring(group.param_names))
    assert.equal("integer", math.type(cp:at("scheduler.iteration")))
    assert.equal("float", math.type(cp:at("scheduler.info.cur_acc")))
  end)
end)

-- ---- loading ----

local ROW = function(key, from, shape) return ("%s loaded from %s of shape %s"):format(key, from, shape) end
local INIT = { "Initializing optimizer done.", "Initializing scheduler done." }
local LOAD = { "Loading optimizer done.", "Loading scheduler done." }

-- A checkpoint of another run: names -> shapes, values count from 1; wrapped as the scenario says.
local function write_weights(path, rows, wrap)
  local sd = ckpt.state_dict()
  for _, row in ipairs(rows) do sd[row[1]] = filled(row[2], 0) end
  assert(ckpt.save(path, wrap and { [wrap] = sd } or sd))
end

local function prefixed(prefix)
  local rows = {}
  for i, row in ipairs(MODEL) do rows[i] = { prefix .. row[1], row[2] } end
  return rows
end

local CONV, BIAS = ROW("conv1.weight", "conv1.weight", "(2, 3, 1, 1)"), ROW("fc.bias     ", "fc.bias     ", "(4,)")

local loads = {
  { "starts from scratch", mode = "scratch", log = { "Training from scratch.", INIT[1], INIT[2] } },
  { "starts from scratch without optimizer and scheduler", optimizer = false, scheduler = false, mode = "scratch",
    log = { "Training from scratch." } },
  { "pre-trains on a bare state dict", weights = "DIR/w.pth", file = { "w.pth", MODEL }, mode = "pretrain", matched = 2,
    log = { CONV, BIAS, "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "pre-trains on a training checkpoint's model", weights = "DIR/w.pth", file = { "w.pth", MODEL, "model" },
    mode = "pretrain", matched = 2, log = { CONV, BIAS, "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "retrains on a foreign model_latest.pth", weights = "DIR/other/model_latest.pth",
    file = { "other/model_latest.pth", MODEL, "model" }, mode = "pretrain", matched = 2,
    log = { CONV, BIAS, "Pre-training on weights: DIR/other/model_latest.pth.", INIT[1], INIT[2] } },
  { "wants 'model' in a foreign model_latest.pth", weights = "DIR/other/model_latest.pth",
    file = { "other/model_latest.pth", MODEL }, fails = "DIR/other/model_latest.pth: there is no state dict at 'model'" },
  { "strips module. when every key has it", weights = "DIR/w.pth", file = { "w.pth", prefixed "module." },
    mode = "pretrain", matched = 2, log = { CONV, BIAS, "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "strips nothing when one key lacks it", weights = "DIR/w.pth",
    file = { "w.pth", { { "module.conv1.weight", { 2, 3, 1, 1 } }, { "fc.bias", { 4 } } } }, mode = "pretrain", matched = 1,
    missing = { "conv1.weight" },
    log = { ROW("fc.bias     ", "fc.bias            ", "(4,)"), "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "fills by the longest suffix, dot or not", weights = "DIR/w.pth", optimizer = false, scheduler = false,
    model = { { "a.sub_conv1.weight", { 2 } }, { "b.conv1.weight", { 2 } } },
    file = { "w.pth", { { "conv1.weight", { 2 } }, { "b.conv1.weight", { 2 } }, { "weight", { 2 } } } },
    mode = "pretrain", matched = 2,
    log = { ROW("a.sub_conv1.weight", "conv1.weight  ", "(2,)"), ROW("b.conv1.weight    ", "b.conv1.weight", "(2,)"),
      "Pre-training on weights: DIR/w.pth." } },
  { "lets one source feed many", weights = "DIR/w.pth", optimizer = false, scheduler = false,
    model = { { "x.w", { 2 } }, { "y.w", { 2 } } }, file = { "w.pth", { { "w", { 2 } } } }, mode = "pretrain", matched = 2,
    log = { ROW("x.w", "w", "(2,)"), ROW("y.w", "w", "(2,)"), "Pre-training on weights: DIR/w.pth." } },
  { "uses weights once, in their order", weights = "DIR/w.pth", optimizer = false, scheduler = false,
    set = { use_weights_once = true }, model = { { "x.w", { 2 } }, { "y.w", { 2 } }, { "z.a", { 2 } } },
    file = { "w.pth", { { "w", { 2 } }, { "a", { 2 } } } }, mode = "pretrain", matched = 2, missing = { "y.w" },
    log = { ROW("z.a", "a", "(2,)"), ROW("x.w", "w", "(2,)"), "Pre-training on weights: DIR/w.pth." } },
  { "skips a pair of different shapes", weights = "DIR/w.pth", file = { "w.pth", { { "conv1.weight", { 5 } }, { "fc.bias", { 4 } } } },
    mode = "pretrain", matched = 1, missing = { "conv1.weight" },
    log = { BIAS, "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "converts conv1 from RGB to BGR", weights = "DIR/w.pth", set = { convert_conv1 = true }, file = { "w.pth", MODEL },
    mode = "pretrain", matched = 2, conv1 = { 3, 2, 1, 6, 5, 4 },
    log = { "Convert conv1.weight from RGB to BGR of (2, 3, 1, 1)", CONV, BIAS, "Pre-training on weights: DIR/w.pth.",
      INIT[1], INIT[2] } },
  { "matches nothing without a word", weights = "DIR/w.pth", file = { "w.pth", { { "else", { 2 } } } }, mode = "pretrain",
    matched = 0, missing = { "conv1.weight", "fc.bias" },
    log = { "Pre-training on weights: DIR/w.pth.", INIT[1], INIT[2] } },
  { "refuses a key outside the VGG16 table", weights = "DIR/vgg16_reducedfc.pth",
    file = { "vgg16_reducedfc.pth", { { "0.weight", { 2, 3, 1, 1 } }, { "99.weight", { 2 } } } },
    fails = "DIR/vgg16_reducedfc.pth: key '99.weight' is not in the VGG16 table (vgg16_reducedfc)" },
  { "fails on missing weights", weights = "DIR/none.pth", fails = "DIR/none.pth: there is no such file" },
  { "resumes from the run's latest, whatever the weights are", weights = "DIR/none.pth", saved = {}, mode = "resume",
    matched = 2, log = { CONV, BIAS, "Resuming from weights: DIR/model_latest.pth.", LOAD[1], LOAD[2] } },
  { "does not resume when told not to", auto_resume = false, saved = {}, mode = "scratch",
    log = { "Training from scratch.", INIT[1], INIT[2] } },
  { "cannot resume the optimizer from a file without one", saved = { optimizer = false },
    fails = "DIR/model_latest.pth: was saved without 'optimizer', which the trainer has bound, so it cannot be resumed" },
  { "cannot resume the scheduler from a file without one", saved = { scheduler = false },
    fails = "DIR/model_latest.pth: was saved without 'scheduler', which the trainer has bound, so it cannot be resumed" },
}

describe("policies/pet.lua loading", function()
  after_each(gate)

  local function expand(text, dir) return (text:gsub("DIR", dir)) end

  local function prepare(dir, s)
    if s.file then
      os.execute("mkdir -p '" .. dir .. "/other'")
      write_weights(dir .. "/" .. s.file[1], s.file[2], s.file[3])
    end
    if s.saved then
      local cp <close> = open(dir, s.saved, 5000)
      epoch(cp, s.saved, 3, .25)
    end
  end

  for _, s in ipairs(loads) do
    it(s[1], function()
      local dir = scratch.dir()
      finally(function() scratch.remove(dir) end)
      prepare(dir, s)
      local before = scratch.names(dir)
      local cp <close> = open(dir, s, 0)
      local report, message = cp:load()
      if s.fails then
        assert.is_nil(report)
        assert.equal(expand(s.fails, dir), message)
        assert.same({ 101, 102 }, { table.unpack(cp:get("model", (s.model or MODEL)[1][1]):tolist(), 1, 2) })
        assert.same(before, scratch.names(dir))
        return
      end
      assert(report, message)
      assert.equal(s.mode, report.mode)
      assert.equal(s.matched or 0, report.matched)
      assert.same(s.missing or {}, report.missing)
      local log = {}
      for i, line in ipairs(s.log) do log[i] = expand(line, dir) end
      assert.same(log, cp:log())
      if s.conv1 then assert.same(s.conv1, cp:get("model", "conv1.weight"):tolist()) end
      assert.same(before, scratch.names(dir))
    end)
  end

  it("gives weights, momentum, schedule and epoch back", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    prepare(dir, { saved = {} })
    local cp <close> = open(dir, {}, 0)
    assert(cp:load())
    assert.same({ 5101, 5102, 5103, 5104, 5105, 5106 }, cp:get("model", "conv1.weight"):tolist())
    assert.same({ 7001, 7002, 7003, 7004 }, cp:get("optimizer", "fc.bias.momentum_buffer"):tolist())
    assert.equal(3, cp:get("scheduler", "iteration"))
    assert.equal(.25, cp:get("scheduler", "info.cur_acc"))
    assert.equal(4, cp:next_epoch())
  end)
end)
