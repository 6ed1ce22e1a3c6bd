-- pet_policy_spec.lua: policies/pet.lua against the facts of Pet's CheckPointer, plan by plan, log line by log line.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run"
local pet = require "policies.pet"
local vgg16 = require "policies.maps.vgg16_reducedfc"

local NAN, INF = 0 / 0, math.huge
local ALL = { "model", "optimizer", "scheduler" }

local function same(expected, actual) assert.equal(fake.dump(expected), fake.dump(actual)) end

local function with(base, extra)
  local out = {}
  for key, value in pairs(base) do out[key] = value end
  for key, value in pairs(extra) do out[key] = value end
  return out
end

describe("pet candidates", function()
  local resume = { { file = "model_latest.pth", mode = "resume", must = true } }
  local pretrain = { { file = "w/r50.pth", mode = "pretrain", must = true } }
  local cases = {
    { "resumes from model_latest.pth", { files = { "model_latest.pth" } }, resume },
    { "prefers it to the weights", { files = { "model_latest.pth" }, weights = "w/r50.pth" }, resume },
    { "does not when auto_resume is off", { files = { "model_latest.pth" }, auto_resume = false }, {} },
    { "takes the weights when auto_resume is off",
      { files = { "model_latest.pth" }, auto_resume = false, weights = "w/r50.pth" }, pretrain },
    { "takes the weights when there is nothing to resume",
      { files = { "model_epoch3.pth" }, weights = "w/r50.pth" }, pretrain },
    { "starts from scratch without either", {}, {} },
    { "takes empty weights as none", { weights = "" }, {} },
    { "knows no other file to resume from", { files = { "model_epoch3.pth", "model_epoch4-0.50.pth" } }, {} },
  }
  for _, case in ipairs(cases) do
    it(case[1], function() same(case[3], pet.candidates(pet, fake.run(case[2]))) end)
  end
end)

describe("pet get_weights", function()
  local latest = { file = "model_latest.pth", mode = "pretrain", must = true }
  local cases = {
    { "the run's own", { nil, nil }, { latest } },
    { "the run's best", { "", "best" }, { { file = "model_best.pth", mode = "pretrain", must = true } } },
    { "a path first", { "a/b.pth" }, { { file = "a/b.pth", mode = "pretrain" }, latest } },
    { "a name of the working directory first", { "b.pth" }, { { file = "./b.pth", mode = "pretrain" }, latest } },
  }
  for _, case in ipairs(cases) do
    it("gives " .. case[1], function()
      same(case[3], pet.get_weights(fake.run {}, case[2][1], case[2][2]))
    end)
  end
end)

-- ---- plan_load ----

local MODEL = { { "fc.weight", { 5, 4 } }, { "conv1.weight", { 8, 3, 3, 3 } }, { "fc.bias", { 5 } } }

-- Every case: run, source, plan. Logs are the reference's, padding included.
local loads = {
  { "scratch, only a model", { model = MODEL }, { mode = "scratch" }, { log = { "Training from scratch." } } },
  { "scratch, all parts", { model = MODEL, parts = ALL }, { mode = "scratch" },
    { log = { "Training from scratch.", "Initializing optimizer done.", "Initializing scheduler done." } } },

  { "pre-trains from 'model'", { model = MODEL, weights = "w.pth", parts = { "model", "optimizer" } },
    { keys = { "model" }, trees = { model = { { "conv1.weight", { 8, 3, 3, 3 } }, { "fc.bias", { 5 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "conv1.weight", from = "conv1.weight" }, { to = "fc.bias", from = "fc.bias" } },
      log = { "conv1.weight loaded from conv1.weight of shape (8, 3, 3, 3)",
              "fc.bias      loaded from fc.bias      of shape (5,)",
              "Pre-training on weights: w.pth.", "Initializing optimizer done." } } },

  { "pre-trains from a whole file that is the state dict", { model = MODEL, weights = "w.pth" },
    { keys = { "fc.bias" }, trees = { [""] = { { "fc.bias", { 5 } } } } },
    { select = "", mismatched = {}, assign = { { to = "fc.bias", from = "fc.bias" } },
      log = { "fc.bias      loaded from fc.bias of shape (5,)", "Pre-training on weights: w.pth." } } },

  { "shows a scalar as ()", { model = { { "bn.num_batches_tracked", {} } }, weights = "w.pth" },
    { keys = { "model" }, trees = { model = { { "num_batches_tracked", {} } } } },
    { select = "model", mismatched = {}, assign = { { to = "bn.num_batches_tracked", from = "num_batches_tracked" } },
      log = { "bn.num_batches_tracked loaded from num_batches_tracked of shape ()",
              "Pre-training on weights: w.pth." } } },

  { "strips 'module.' once, when all keys have it", { model = MODEL, weights = "w.pth" },
    { keys = { "model" },
      trees = { model = { { "module.fc.weight", { 5, 4 } }, { "module.fc.bias", { 5 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "fc.bias", from = "module.fc.bias" }, { to = "fc.weight", from = "module.fc.weight" } },
      log = { "fc.bias      loaded from fc.bias   of shape (5,)", "fc.weight    loaded from fc.weight of shape (5, 4)",
              "Pre-training on weights: w.pth." } } },

  { "strips one 'module.' of two", { model = MODEL, weights = "w.pth" },
    { keys = { "model" }, trees = { model = { { "module.module.fc.bias", { 5 } } } } },
    { select = "model", mismatched = {}, assign = {}, log = { "Pre-training on weights: w.pth." } } },

  { "strips nothing when one key lacks 'module.'", { model = MODEL, weights = "w.pth" },
    { keys = { "model" }, trees = { model = { { "module.fc.weight", { 5, 4 } }, { "fc.bias", { 5 } } } } },
    { select = "model", mismatched = {}, assign = { { to = "fc.bias", from = "fc.bias" } },
      log = { "fc.bias      loaded from fc.bias          of shape (5,)", "Pre-training on weights: w.pth." } } },

  { "skips and reports another shape", { model = MODEL, weights = "w.pth" },
    { keys = { "model" }, trees = { model = { { "fc.weight", { 7, 4 } }, { "fc.bias", { 5, 1 } } } } },
    { select = "model", assign = {},
      mismatched = { "fc.bias: file [5, 1], model [5]", "fc.weight: file [7, 4], model [5, 4]" },
      log = { "Pre-training on weights: w.pth." } } },

  { "matches a suffix within a word, the longest, and one source many times",
    { weights = "w.pth", model = { { "a.sub_conv1.weight", { 2 } }, { "a.conv1.weight", { 2 } }, { "b.fc.bias", { 3 } },
      { "cls_fc.bias", { 3 } } } },
    { keys = { "model" },
      trees = { model = { { "conv1.weight", { 2 } }, { "1.weight", { 2 } }, { "fc.bias", { 3 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "a.conv1.weight", from = "conv1.weight" }, { to = "a.sub_conv1.weight", from = "conv1.weight" },
                 { to = "b.fc.bias", from = "fc.bias" }, { to = "cls_fc.bias", from = "fc.bias" } },
      log = { "a.conv1.weight     loaded from conv1.weight of shape (2,)",
              "a.sub_conv1.weight loaded from conv1.weight of shape (2,)",
              "b.fc.bias          loaded from fc.bias      of shape (3,)",
              "cls_fc.bias        loaded from fc.bias      of shape (3,)", "Pre-training on weights: w.pth." } } },

  { "use_weights_once: the first model key of each source, in the order of the sources",
    { weights = "w.pth", options = { use_weights_once = "true" },
      model = { { "z.b.weight", { 2 } }, { "a.z.weight", { 3 } }, { "b.z.weight", { 3 } }, { "y.b.weight", { 2 } } } },
    { keys = { "model" }, trees = { model = { { "z.weight", { 3 } }, { "b.weight", { 2 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "y.b.weight", from = "b.weight" }, { to = "a.z.weight", from = "z.weight" } },
      log = { "y.b.weight loaded from b.weight of shape (2,)", "a.z.weight loaded from z.weight of shape (3,)",
              "Pre-training on weights: w.pth." } } },

  { "use_weights_once: a first key of another shape is skipped, the second gets nothing",
    { weights = "w.pth", options = { use_weights_once = "1" }, model = { { "a.w", { 9 } }, { "b.w", { 2 } } } },
    { keys = { "model" }, trees = { model = { { "w", { 2 } } } } },
    { select = "model", assign = {}, mismatched = { "a.w: file [2], model [9]" },
      log = { "Pre-training on weights: w.pth." } } },

  { "sorts in byte order: upper case, digits, dots",
    { weights = "w.pth", model = { { "b.w", { 1 } }, { "B.w", { 1 } }, { "b10.w", { 1 } }, { "b2.w", { 1 } } } },
    { keys = { "model" }, trees = { model = { { "w", { 1 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "B.w", from = "w" }, { to = "b.w", from = "w" }, { to = "b10.w", from = "w" },
                 { to = "b2.w", from = "w" } },
      log = { "B.w   loaded from w of shape (1,)", "b.w   loaded from w of shape (1,)",
              "b10.w loaded from w of shape (1,)", "b2.w  loaded from w of shape (1,)",
              "Pre-training on weights: w.pth." } } },

  { "convert_conv1 of conv1.weight",
    { weights = "r50.pth", model = MODEL, options = { convert_conv1 = "true" } },
    { path = "r50.pth", keys = { "model" }, trees = { model = { { "module.conv1.weight", { 8, 3, 3, 3 } } } } },
    { select = "model", mismatched = {},
      assign = { { to = "conv1.weight", from = "module.conv1.weight", ops = { { "index_select", 1, { 2, 1, 0 } } } } },
      log = { "Convert conv1.weight from RGB to BGR of (8, 3, 3, 3)",
              "conv1.weight loaded from conv1.weight of shape (8, 3, 3, 3)", "Pre-training on weights: r50.pth." } } },

  { "convert_conv1 without that key", { weights = "w.pth", model = MODEL, options = { convert_conv1 = "1" } },
    { keys = { "model" }, trees = { model = { { "fc.bias", { 5 } } } } },
    { refuse = "convert_conv1 is set, but the file has no key 'conv1.weight'", log = {} } },

  { "a key that the VGG16 table does not list", { weights = "d/vgg16_reducedfc.pth", model = MODEL },
    { keys = { "0.weight" }, trees = { [""] = { { "0.weight", { 64, 3, 3, 3 } }, { "34.weight", { 1 } } } } },
    { refuse = "key '34.weight' is not in the VGG16 table (vgg16_reducedfc)", log = {} } },

  { "the same keys under another path are not mapped", { weights = "d/vgg16.pth", model = MODEL },
    { keys = { "0.weight" }, trees = { [""] = { { "34.weight", { 1 } } } } },
    { select = "", assign = {}, mismatched = {}, log = { "Pre-training on weights: d/vgg16.pth." } } },

  { "retrain: weights that end in model_latest.pth hold 'model'",
    { weights = "other/model_latest.pth", model = { { "fc.bias", { 5 } } }, auto_resume = false },
    { keys = { "model", "optimizer" }, trees = { model = { { "fc.bias", { 5 } } } } },
    { select = "model", mismatched = {}, assign = { { to = "fc.bias", from = "fc.bias" } },
      log = { "fc.bias loaded from fc.bias of shape (5,)", "Pre-training on weights: other/model_latest.pth." } } },

  { "retrain: refused without 'model', though the file could be a state dict",
    { weights = "other/model_latest.pth", model = MODEL },
    { keys = { "fc.bias" }, trees = { [""] = { { "fc.bias", { 5 } } } } },
    { refuse = "there is no state dict at 'model'", log = {} } },
}

local SAVED = { mode = "resume", file = "model_latest.pth", path = "runs/x/model_latest.pth", keys = ALL,
                trees = { model = { { "fc.bias", { 5 } } } },
                values = { scheduler = { iteration = 8, info = { best_acc = 0.5 } } } }
local BOUND = { model = { { "fc.bias", { 5 } } }, parts = ALL, files = { "model_latest.pth" },
                values = { scheduler = { iteration = 0, info = { best_acc = 0.0 } } } }
local BACK = { select = "model", mismatched = {}, assign = { { to = "fc.bias", from = "fc.bias" } }, next_epoch = 9,
               optimizer = "optimizer", values = { { group = "scheduler", from = "scheduler" } },
               log = { "fc.bias loaded from fc.bias of shape (5,)",
                       "Resuming from weights: runs/x/model_latest.pth.",
                       "Loading optimizer done.", "Loading scheduler done." } }

local resumes = {
  { "resumes model, optimizer, scheduler", BOUND, SAVED, BACK },
  { "resumes over weights: neither mapped nor converted",
    with(BOUND, { weights = "vgg16_reducedfc.pth", options = { convert_conv1 = "1" } }), SAVED, BACK },
  { "joins a directory that ends in a slash", with(BOUND, { dir = "runs/x/" }), SAVED, BACK },
  { "resumes a model alone", with(BOUND, { parts = { "model" }, values = {} }), with(SAVED, { keys = { "model" }, values = {} }),
    { select = "model", mismatched = {}, assign = BACK.assign, log = { BACK.log[1], BACK.log[2] } } },
  { "refuses a file without the optimizer that is bound", BOUND, with(SAVED, { keys = { "model", "scheduler" } }),
    { refuse = "was saved without 'optimizer', which the trainer has bound, so it cannot be resumed", log = {} } },
  { "refuses a file without the scheduler that is bound", BOUND, with(SAVED, { keys = { "model", "optimizer" } }),
    { refuse = "was saved without 'scheduler', which the trainer has bound, so it cannot be resumed", log = {} } },
  { "refuses a scheduler without info", BOUND, with(SAVED, { values = { scheduler = { iteration = 8 } } }),
    { refuse = "its 'scheduler' has no 'info', which the trainer has bound, so it cannot be resumed", log = {} } },
  { "refuses a file without 'model'", BOUND, with(SAVED, { trees = { [""] = { { "fc.bias", { 5 } } } } }),
    { refuse = "there is no state dict at 'model'", log = {} } },
}

local function run_loads(cases)
  for _, case in ipairs(cases) do
    it(case[1], function() same(case[4], pet.plan_load(pet, fake.run(with(case[2], {})), fake.source(case[3]))) end)
  end
end

describe("pet plan_load, pre-training and scratch:", function() run_loads(loads) end)
describe("pet plan_load, resuming:", function() run_loads(resumes) end)

describe("pet plan_load of VGG16", function()
  local shapes = { weight = { 64, 3, 3, 3 }, bias = { 64 } }
  local file, model = {}, {}
  for i, row in ipairs(vgg16.table) do
    local shape = shapes[row[1]:match("%a+$")]
    file[i], model[i] = { "module." .. row[1], shape }, { "backbone." .. row[2], shape }
  end
  local function load(options)
    local run = fake.run { weights = "/w/vgg16_reducedfc.pth", model = model, options = options }
    return pet.plan_load(pet, run, fake.source { keys = {}, trees = { [""] = file } })
  end

  it("fills each of the 30 keys by the table", function()
    local from, plan = {}, load {}
    for _, a in ipairs(plan.assign) do from[a.to] = a.from end
    for _, row in ipairs(vgg16.table) do assert.equal("module." .. row[1], from["backbone." .. row[2]]) end
    assert.equal(30, #plan.assign)
    assert.equal(31, #plan.log)
    assert.equal("backbone.conv6.bias          loaded from conv6.bias          of shape (64,)", plan.log[1])
    assert.equal("Pre-training on weights: /w/vgg16_reducedfc.pth.", plan.log[31])
  end)

  it("converts features1.0.weight, and only that", function()
    local plan = load { convert_conv1 = "true" }
    assert.equal("Convert features1.0.weight from RGB to BGR of (64, 3, 3, 3)", plan.log[1])
    for _, a in ipairs(plan.assign) do
      local expected = a.to == "backbone.features1.0.weight" and { { "index_select", 1, { 2, 1, 0 } } } or nil
      same(expected, a.ops)
    end
  end)
end)

describe("pet load_weights", function()
  it("maps nothing and logs the keys that it left", function()
    local run = fake.run { weights = "vgg16_reducedfc.pth", model = MODEL, options = { convert_conv1 = "1" }, parts = ALL }
    local plan = pet.load_weights(pet, run, fake.source {
      path = "t.pth", keys = { "model" }, trees = { model = { { "module.fc.bias", { 5 } } } } })
    same({ select = "model", mismatched = {}, assign = { { to = "fc.bias", from = "module.fc.bias" } },
           log = { "fc.bias      loaded from fc.bias of shape (5,)", "Mismatch keys: conv1.weight, fc.weight." } }, plan)
  end)

  it("says so when none is left", function()
    local run = fake.run { model = { { "fc.bias", { 5 } } } }
    local plan = pet.load_weights(pet, run, fake.source { keys = {}, trees = { [""] = { { "fc.bias", { 5 } } } } })
    assert.equal("Mismatch keys: none.", plan.log[2])
  end)
end)

-- ---- plan_save ----

describe("pet plan_save", function()
  local latest = { file = "model_latest.pth", aliases = {}, retire = {}, ledger = false,
                   log = { "Saving checkpoint done." } }
  local copied = { file = "model_epoch7.pth", aliases = { "model_latest.pth" }, retire = {}, ledger = false, parts = ALL,
                   log = { 'Saving checkpoint done. And copy "model_latest.pth" to "model_epoch7.pth".' } }
  local scheduler = { scheduler = { iteration = 8 } }
  local cases = {
    { "the model alone", { parts = { "model" } }, with(latest, { parts = { "model" } }) },
    { "an optimizer but no scheduler", { parts = { "model", "optimizer" } },
      with(latest, { parts = { "model", "optimizer" } }) },
    { "a copy by the scheduler's iteration", { parts = ALL, values = scheduler }, copied },
    { "the parts in Pet's order, and no others", { parts = { "scheduler", "rng", "model", "optimizer" }, values = scheduler },
      copied },
    { "no copy with copy_latest=false", { parts = ALL, values = scheduler, options = { copy_latest = "false" } },
      with(latest, { parts = ALL }) },
    { "no copy with copy_latest=0", { parts = ALL, values = scheduler, options = { copy_latest = "0" } },
      with(latest, { parts = ALL }) },
    { "a copy with copy_latest=1", { parts = ALL, values = scheduler, options = { copy_latest = "1" } }, copied },
    { "another infix", { parts = ALL, values = { scheduler = { iteration = 1200 } }, options = { infix = "iter" } },
      with(copied, { file = "model_iter1199.pth",
                     log = { 'Saving checkpoint done. And copy "model_latest.pth" to "model_iter1199.pth".' } }) },
    { "beside older files, which stay", { parts = ALL, values = scheduler,
      files = { "model_epoch1.pth", "model_epoch2.pth", "model_latest.pth" } }, copied },
  }
  for _, case in ipairs(cases) do
    it("writes " .. case[1], function() same(case[3], pet.plan_save(pet, fake.run(case[2]))) end)
  end

  it("fails by name without an iteration", function()
    assert.error_matches(function() pet.plan_save(pet, fake.run { parts = ALL }) end, "no 'scheduler.iteration' is bound",
                         1, true)
  end)

  it("fails by name on an option that is no truth value", function()
    local run = fake.run { parts = ALL, options = { copy_latest = "maybe" } }
    assert.error_matches(function() pet.plan_save(pet, run) end, "option 'copy_latest' must be true, false, 1 or 0", 1, true)
  end)
end)

-- ---- plan_best ----

local function info(cur_acc, best_acc, cur_epoch, best_epoch)
  return { scheduler = { info = { cur_acc = cur_acc, best_acc = best_acc, cur_epoch = cur_epoch, best_epoch = best_epoch } } }
end

local function best_plan(file, acc, epoch, retire)
  return { file = file, aliases = { "model_latest.pth" }, retire = retire or {}, parts = ALL, ledger = false, result = true,
           set = { scheduler = { info = { best_acc = acc, best_epoch = epoch } } },
           log = { "Saving best checkpoint done: " .. file .. "." } }
end

describe("pet plan_best", function()
  local worse = { result = false, ledger = false, log = {} }
  local old = { "model_epoch3-0.60.pth" }
  local cases = {
    { "a first best", info(0.5, 0.0, 1, 0), {}, best_plan("model_epoch1-0.50.pth", 0.5, 1) },
    { "a better one, and removes the old", info(0.7, 0.6, 5, 3), { files = old },
      best_plan("model_epoch5-0.70.pth", 0.7, 5, old) },
    { "a better one, the old being gone", info(0.7, 0.6, 5, 3), { files = { "model_epoch2-0.60.pth" } },
      best_plan("model_epoch5-0.70.pth", 0.7, 5) },
    { "a better one, with remove_old off", info(0.7, 0.6, 5, 3), { files = old, options = { remove_old = "false" } },
      best_plan("model_epoch5-0.70.pth", 0.7, 5) },
    { "nothing for a worse one", info(0.59, 0.6, 4, 3), { files = old }, worse },
    { "a tie: the latest wins", info(0.6, 0.6, 4, 3), { files = old }, best_plan("model_epoch4-0.60.pth", 0.6, 4, old) },
    { "the same name again without removing it", info(0.601, 0.6, 3, 3), { files = old },
      best_plan("model_epoch3-0.60.pth", 0.601, 3) },
    { "NaN as better", info(NAN, 0.6, 4, 3), { files = old }, best_plan("model_epoch4- nan.pth", NAN, 4, old) },
    { "anything over NaN", info(0.4, NAN, 5, 4), { files = { "model_epoch4- nan.pth" } },
      best_plan("model_epoch5-0.40.pth", 0.4, 5, { "model_epoch4- nan.pth" }) },
    { "-NaN like NaN", info(-NAN, 0.6, 4, 3), {}, best_plan("model_epoch4- nan.pth", NAN, 4) },
    { "inf padded to four", info(INF, 0.6, 4, 3), {}, best_plan("model_epoch4- inf.pth", INF, 4) },
    { "over -inf, which fills four", info(-1.5, -INF, 4, 3), { files = { "model_epoch3--inf.pth" } },
      best_plan("model_epoch4--1.50.pth", -1.5, 4, { "model_epoch3--inf.pth" }) },
    { "an accuracy in percent", info(95.125, 9.0, 12, 2), { files = { "model_epoch2-9.00.pth" } },
      best_plan("model_epoch12-95.12.pth", 95.125, 12, { "model_epoch2-9.00.pth" }) },
    { "an integer accuracy, which stays one", info(3, 2, 4, 3), {}, best_plan("model_epoch4-3.00.pth", 3, 4) },
    { "another infix", info(0.7, 0.6, 500, 300), { files = { "model_iter300-0.60.pth" }, options = { infix = "iter" } },
      best_plan("model_iter500-0.70.pth", 0.7, 500, { "model_iter300-0.60.pth" }) },
  }
  for _, case in ipairs(cases) do
    it("writes " .. case[1], function()
      same(case[4], pet.plan_best(pet, fake.run(with({ parts = ALL, values = case[2] }, case[3]))))
    end)
  end

  it("fails by name without info, or a field of it", function()
    local function ask(values) return function() pet.plan_best(pet, fake.run { parts = ALL, values = values }) end end
    assert.error_matches(ask {}, "no 'scheduler.info' is bound", 1, true)
    assert.error_matches(ask(info(0.5, 0.4, 3)), "no 'scheduler.info.best_epoch' is bound", 1, true)
  end)
end)

describe("pet over a run", function()
  -- one accuracy per epoch; what the directory holds after save and save_best of each, and what save_best returned
  local function play(accuracies, options)
    local run = fake.run { parts = ALL, options = options, values = info(0.0, 0.0, 0, 0) }
    local results = {}
    for epoch, acc in ipairs(accuracies) do
      run.epoch, run.values.scheduler.iteration = epoch, epoch + 1
      run.values.scheduler.info.cur_acc, run.values.scheduler.info.cur_epoch = acc, epoch
      fake.apply(run, pet.plan_save(pet, run), "save")
      results[epoch] = fake.apply(run, pet.plan_best(pet, run), "best").result
    end
    return results, run
  end

  it("goes the way of the reference at a tie, NaN and a decrease", function()
    local results, run = play({ 0.5, 0.6, 0.6, NAN, 0.4, 0.7 }, { copy_latest = "0" })
    same({ true, true, true, true, true, true }, results)
    same({ "model_epoch6-0.70.pth", "model_latest.pth" }, fake.file_names(run))
    same({ best_acc = 0.7, best_epoch = 6, cur_acc = 0.7, cur_epoch = 6 }, run.values.scheduler.info)
  end)

  it("keeps every copy, and every best with remove_old off", function()
    local results, run = play({ 0.5, 0.4, 0.6 }, { remove_old = "0" })
    same({ true, false, true }, results)
    same({ "model_epoch1-0.50.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3-0.60.pth", "model_epoch3.pth",
           "model_latest.pth" }, fake.file_names(run))
    same({}, run.ledger)
  end)
end)
