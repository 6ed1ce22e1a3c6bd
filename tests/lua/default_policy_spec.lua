-- default_policy_spec.lua: policies/default.lua at the level of plans: the defects of the reference (one block each),
-- candidates, the load contract, what is better, what is kept.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run"
local new_policy = require "policies.default"
local keep = require "policies.default.keep"
local names = require "policies.default.names"
local vgg16 = require "policies.maps.vgg16_reducedfc"

local NAN, INF = 0 / 0, math.huge

local function same(expected, actual) assert.equal(fake.dump(expected), fake.dump(actual)) end

-- A policy of these fields alone, as the runtime completes it: functions from the default, fields as they are.
local function bare(fields)
  local policy, default = fields or {}, new_policy()
  for _, name in ipairs { "candidates", "plan_load", "due", "plan_save", "plan_best", "kept", "ranking", "plan_prune" } do
    policy[name] = default[name]
  end
  return policy
end

-- Plays a list of metrics (numbers: acc) through save and save_best. Returns the run, results, and all save_best plans.
local function play(policy, list, run)
  run = run or fake.run {}
  local results, plans = {}, {}
  for epoch, metrics in ipairs(list) do
    if type(metrics) == "number" then metrics = { acc = metrics } end
    local _, plan = fake.epoch(policy, run, epoch, metrics)
    results[epoch], plans[epoch] = plan.result, plan
  end
  return run, results, plans
end

local function files_of(run, ...)
  local expected = { ... }
  table.sort(expected)
  same(expected, fake.file_names(run))
end

local function inode_of(run, name) return run.files[assert(fake.has_file(run, name), name)].inode end

local function listed(candidates)
  local list = {}
  for i, candidate in ipairs(candidates) do list[i] = candidate.file end
  return list
end

local function ledger(epochs, metrics)
  local list = {}
  for i, epoch in ipairs(epochs) do
    list[i] = fake.entry { file = ("model_epoch%d.pth"):format(epoch), epoch = epoch, time = 3600 * epoch,
                           metrics = metrics and { acc = metrics[i] } }
  end
  return list
end

-- ---- the reference's defects (checkpointer.md, section 8) ----

describe("default: a defect of the reference that it has not:", function()
  local policy = bare()

  it("no weights is no crash", function()
    same({}, policy.candidates(policy, fake.run {}))
    same({}, policy.candidates(policy, fake.run { weights = "" }))
    same({ log = { "Training from scratch." } }, policy.plan_load(policy, fake.run {}, fake.source { mode = "scratch" }))
  end)

  it("NaN is never the best, removes nothing, poisons nothing, and is logged", function()
    local run, results, plans = play(policy, { 0.5, 0.6, 0.6, NAN, 0.4, 0.7 })
    same({ true, true, true, false, false, true }, results)
    same({ result = false, ledger = false, reason = "acc is nan, which is never better",
           log = { "Epoch 4 is not the best: acc is nan, which is never better." } },
         plans[4])
    same({ "Epoch 5 is not the best: acc 0.4000 does not beat 0.6000." }, plans[5].log)
    for _, name in ipairs(fake.file_names(run)) do assert.is_nil(name:find("nan", 1, true)) end
    assert.equal(inode_of(run, "model_epoch6.pth"), inode_of(run, "model_best.pth"))
  end)

  it("a run of nothing but NaN and infinities has no best, and still saves", function()
    local run, results = play(policy, { NAN, INF, -INF, -NAN })
    same({ false, false, false, false }, results)
    files_of(run, "model_epoch2.pth", "model_epoch3.pth", "model_epoch4.pth", "model_latest.pth")
  end)

  it("the best of before stays on the disk until the better one is written", function()
    local run = play(bare { keep = { last = 1, best = 1 } }, { 0.5, 0.4, 0.3 })
    files_of(run, "model_epoch1.pth", "model_epoch3.pth", "model_best.pth", "model_latest.pth")
    run.epoch, run.metrics = 4, { acc = 0.9 }
    local one = bare { keep = { last = 1, best = 1 } }
    local save = fake.apply(run, one.plan_save(one, run), "save")
    same({ "model_epoch1.pth", "model_epoch3.pth" }, save.retire) -- after model_epoch4.pth, the best by its metric, is durable
    local best = fake.apply(run, one.plan_best(one, run), "best")
    same({}, best.retire)
    assert.equal("model_epoch4.pth", best.file)
  end)

  it("model_latest.pth is never written in place: it is another name of a new file", function()
    local run = play(policy, { 0.5 })
    run.epoch = 2
    local plan = policy.plan_save(policy, run)
    same({ "model_epoch2.pth", "model_latest.pth" }, { plan.file, plan.aliases[1] })
  end)

  it("an invalid newest file is not the end: older ones follow, and none must be valid", function()
    local run = fake.run { ledger = ledger { 1, 2, 3 },
      files = { "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth", "model_latest.pth" } }
    local list = policy.candidates(policy, run)
    same({ "model_epoch3.pth", "model_epoch2.pth", "model_epoch1.pth", "model_latest.pth" }, listed(list))
    for _, candidate in ipairs(list) do same({ "resume" }, { candidate.mode, candidate.must }) end
  end)

  it("a suffix within a word is no match", function()
    local model = { { "b.conv1.weight", { 2 } }, { "b.sub_conv1.weight", { 2 } }, { "fc.bias", { 3 } }, { "cls_fc.bias", { 3 } } }
    local plan = policy.plan_load(policy, fake.run { model = model }, fake.source {
      keys = { "model" }, trees = { model = { { "conv1.weight", { 2 } }, { "fc.bias", { 3 } } } } })
    same({ { to = "b.conv1.weight", from = "conv1.weight" }, { to = "fc.bias", from = "fc.bias" } }, plan.assign)
    assert.is_nil(plan.refuse)
  end)

  it("VGG16 is found by its keys under any path, and an unlisted key is reported", function()
    local file, model = { { "34.weight", { 9 } } }, {}
    for i, row in ipairs(vgg16.table) do
      file[i + 1], model[i] = { row[1], { 4, 3, 1, 1 } }, { "backbone." .. row[2], { 4, 3, 1, 1 } }
    end
    local run = fake.run { model = model, weights = "renamed.pth" }
    local plan = policy.plan_load(policy, run, fake.source { path = "renamed.pth", trees = { [""] = file } })
    assert.is_nil(plan.refuse)
    assert.equal(30, #plan.assign)
    assert.equal("Pre-training on renamed.pth: 30 of 30 model keys, map vgg16_reducedfc (found by its keys).", plan.log[1])
    same({ "  unused in the file: 34.weight", "  not in the map: 34.weight" }, { plan.log[2], plan.log[3] })
  end)

  it("nor by the path: other keys in a file of that name are not mapped", function()
    local run = fake.run { model = { { "fc.bias", { 1 } } }, weights = "vgg16_reducedfc.pth" }
    local plan = policy.plan_load(policy, run, fake.source {
      path = "vgg16_reducedfc.pth", trees = { [""] = { { "fc.bias", { 1 } } } } })
    assert.is_nil(plan.refuse)
    assert.equal("Pre-training on vgg16_reducedfc.pth: 1 of 1 model keys.", plan.log[1])
  end)

  it("a load that matches nothing is refused, with counts and keys", function()
    local run = fake.run { model = { { "a.weight", { 1 } }, { "a.bias", { 1 } } } }
    local plan = policy.plan_load(policy, run, fake.source { trees = { [""] = { { "x.weight", { 1 } } } } })
    assert.equal("0 of 2 model keys are matched (0.0 %), the contract asks for 50.0 %; without a source: a.weight, a.bias; "
      .. "the file's keys: x.weight", plan.refuse)
  end)

  it("content is written once: the copies are aliases, and save_best after save writes nothing", function()
    local run, _, plans = play(policy, { 0.5 })
    assert.is_true(plans[1].reuse)
    same({ "model_epoch1.pth", { "model_best.pth" } }, { plans[1].file, plans[1].aliases })
    assert.equal(inode_of(run, "model_epoch1.pth"), inode_of(run, "model_latest.pth"))
    assert.equal(inode_of(run, "model_epoch1.pth"), inode_of(run, "model_best.pth"))
  end)

  it("the least, ties, and a smallest gain can be chosen", function()
    local cases = {
      { { mode = "min" }, { 0.5, 0.4, 0.6, 0.4 }, { true, true, false, true } },
      { { mode = "min", tie = "first" }, { 0.5, 0.4, 0.4 }, { true, true, false } },
      { { mode = "max", tie = "last" }, { 0.5, 0.5 }, { true, true } },
      { { tie = "first" }, { 0.5, 0.5, 0.6 }, { true, false, true } },
      { { min_delta = 0.25 }, { 1.0, 1.25, 1.5, 1.0 }, { true, false, true, false } },
      { { min_delta = 0.25, mode = "min" }, { 1.0, 0.875, 0.5 }, { true, false, true } },
      { { min_delta = 0.25, tie = "last" }, { 1.0, 1.0 }, { true, false } },
    }
    for i, case in ipairs(cases) do
      local _, results = play(bare { best = case[1] }, case[2])
      assert.equal(fake.dump(case[3]), fake.dump(results), "case " .. i)
    end
  end)

  it("old files do not pile up for ever", function()
    local list = {}
    for i = 1, 20 do list[i] = i == 7 and 0.9 or 0.5 end
    files_of(play(policy, list), "model_epoch7.pth", "model_epoch18.pth", "model_epoch19.pth", "model_epoch20.pth",
             "model_best.pth", "model_latest.pth")
  end)
end)

-- ---- candidates ----

describe("default candidates", function()
  local cases = {
    { "the order of epochs, not of names", { ledger = ledger { 9, 10, 100 },
        files = { "model_epoch10.pth", "model_epoch100.pth", "model_epoch9.pth" } }, nil,
      { "model_epoch100.pth", "model_epoch10.pth", "model_epoch9.pth" } },
    { "only files that are there", { ledger = ledger { 1, 2, 3 }, files = { "model_epoch2.pth" } }, nil,
      { "model_epoch2.pth" } },
    { "without a ledger the alias, then epochs by number",
      { files = { "model_epoch10.pth", "model_epoch9.pth", "model_latest.pth", "model_epoch8-0.95.pth", "model_best.pth",
                  "notes.txt" } }, nil,
      { "model_latest.pth", "model_epoch10.pth", "model_epoch9.pth", "model_epoch8-0.95.pth" } },
    { "the ledger's before the others", { ledger = ledger { 2 },
        files = { "model_epoch2.pth", "model_epoch7.pth", "model_latest.pth" } }, nil,
      { "model_epoch2.pth", "model_latest.pth", "model_epoch7.pth" } },
    { "what a run that went back has overtaken after its own", { ledger = ledger { 1, 2, 3, 2 },
        files = { "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth" } }, nil,
      { "model_epoch2.pth", "model_epoch1.pth", "model_epoch3.pth" } },
    { "steps within an epoch", { ledger = { fake.entry { file = "a.pth", epoch = 1, step = 200 },
        fake.entry { file = "b.pth", epoch = 1, step = 1000 } }, files = { "a.pth", "b.pth" } }, nil, { "b.pth", "a.pth" } },
    { "hard links once", { files = { { name = "model_epoch4.pth", inode = 7 }, { name = "model_latest.pth", inode = 7 },
        { name = "model_epoch3.pth", inode = 6 } } }, nil, { "model_latest.pth", "model_epoch3.pth" } },
    { "nothing with auto_resume off", { auto_resume = false, ledger = ledger { 1 }, files = { "model_epoch1.pth" } }, nil, {} },
    { "nothing with resume = false", { ledger = ledger { 1 }, files = { "model_epoch1.pth" } }, { resume = false }, {} },
    { "a list of one's own", { ledger = ledger { 1 }, files = { "model_best.pth", "model_epoch1.pth" } },
      { resume = { "model_best.pth", "gone.pth", "../other/x.pth", "auto" } },
      { "model_best.pth", "../other/x.pth", "model_epoch1.pth" } },
    { "a function", { files = { "a.pth" } }, { resume = function(run) return { run.files[1].name } end }, { "a.pth" } },
    { "a template's epochs", { files = { "net-e008-i.pth", "net-e010-i.pth" } }, { name = "net-e{epoch:03d}-i.pth" },
      { "net-e010-i.pth", "net-e008-i.pth" } },
  }
  for _, case in ipairs(cases) do
    it("takes " .. case[1], function()
      local policy = bare(case[3] or {})
      same(case[4], listed(policy.candidates(policy, fake.run(case[2]))))
    end)
  end

  it("puts the weights last, which must be valid", function()
    local policy = bare()
    same({ { file = "model_latest.pth", mode = "resume" }, { file = "w.pth", mode = "pretrain", must = true } },
         policy.candidates(policy, fake.run { files = { "model_latest.pth" }, weights = "w.pth" }))
  end)
end)

-- ---- loading ----

local MODEL = { { "net.conv1.weight", { 8, 3, 3, 3 } }, { "net.fc.weight", { 5, 4 } }, { "net.fc.bias", { 5 } } }
local FILE = { { "conv1.weight", { 8, 3, 3, 3 } }, { "fc.weight", { 5, 4 } }, { "fc.bias", { 5 } } }

local function load(fields, source, run)
  local policy = bare { load = fields }
  local with = { model = MODEL }
  for key, value in pairs(run or {}) do with[key] = value end
  source.trees = source.trees or { model = FILE }
  return policy.plan_load(policy, fake.run(with), fake.source(source))
end

local function prefixed(prefix, rows)
  local list = {}
  for i, row in ipairs(rows) do list[i] = { prefix .. row[1], row[2] } end
  return list
end

local function targets(plan)
  local list = {}
  for i, a in ipairs(plan.assign) do list[i] = a.to end
  return table.concat(list, " ")
end

local EVERY = "net.conv1.weight net.fc.weight net.fc.bias"

describe("default plan_load, pre-training", function()
  it("selects the first tree that holds tensors", function()
    assert.equal("model", load(nil, {}).select)
    assert.equal("state_dict", load(nil, { trees = { model = {}, state_dict = FILE } }).select)
    assert.equal("", load(nil, { trees = { [""] = FILE } }).select)
    assert.equal("ema", load({ weights = { "ema", "model" } }, { trees = { model = FILE, ema = FILE } }).select)
    assert.equal("there is no state dict in the file (looked at: 'net')", load({ weights = "net" }, {}).refuse)
  end)

  it("peels wrappers in any nesting, if all keys have them and the model's do not", function()
    assert.equal(EVERY, targets(load(nil, { trees = { model = prefixed("_orig_mod.module.module.", FILE) } })))
    local mixed = prefixed("module.", FILE)
    mixed[3] = FILE[3]
    assert.equal("net.fc.bias", targets(load({ require = { matched = 0 } }, { trees = { model = mixed } })))
    local wrapped = prefixed("module.", MODEL)
    assert.equal("module.net.conv1.weight module.net.fc.weight module.net.fc.bias",
                 targets(load({ align = { mode = "exact" } }, { trees = { model = wrapped } }, { model = wrapped })))
    assert.equal(EVERY, targets(load(nil, { trees = { model = prefixed("w.", FILE) } }, { options = { strip = "w." } })))
  end)

  it("keeps the file's own key in the plan", function()
    assert.equal("module.fc.bias", load(nil, { trees = { model = prefixed("module.", FILE) } }).assign[3].from)
  end)

  it("maps by name, by a table, by a function; an unknown map is an error", function()
    local map = { id = "mine", table = { { "a", "conv1.weight" }, { "b", "fc.weight" }, { "c", "fc.bias" } } }
    local file = { { "a", { 8, 3, 3, 3 } }, { "b", { 5, 4 } }, { "c", { 5 } } }
    local plan = load({ map = map }, { trees = { model = file } })
    assert.equal(EVERY, targets(plan))
    assert.equal("Pre-training on w.pth: 3 of 3 model keys, map mine (by the policy).", plan.log[1])
    local function rename(key) return ({ a = "conv1.weight", b = "fc.weight", c = "fc.bias" })[key] end
    assert.equal(EVERY, targets(load({ map = rename }, { trees = { model = file } })))
    assert.equal("  not in the map: conv1.weight, fc.weight, fc.bias",
                 load(nil, {}, { options = { map = "vgg16_reducedfc" } }).log[2])
    assert.error_matches(function() load({ map = "nowhere" }, {}) end, "nowhere", 1, true)
  end)

  it("refuses a map that gives two keys one name", function()
    local map = { id = "bad", table = { { "a", "fc.bias" }, { "b", "fc.bias" } } }
    assert.equal("map 'bad' gives both 'a' and 'b' the name 'fc.bias'",
                 load({ map = map }, { trees = { model = { { "a", { 5 } }, { "b", { 5 } } } } }).refuse)
  end)

  it("reverses channels where it is asked to", function()
    local ops = { { "index_select", 1, { 2, 1, 0 } } }
    same({ to = "net.conv1.weight", from = "conv1.weight", ops = ops }, load({ rgb2bgr = true }, {}).assign[1])
    same(ops, load(nil, {}, { options = { rgb2bgr = "1" } }).assign[1].ops)
    assert.is_nil(load(nil, {}).assign[1].ops)
    assert.equal("rgb2bgr is set, but the file has no key 'stem.weight'", load({ rgb2bgr = "stem.weight" }, {}).refuse)
    assert.equal("'fc.bias' has no three input channels to reverse", load({ rgb2bgr = "fc.bias" }, {}).refuse)
  end)

  it("gives one source to one model key; where several fit, to the one of the same name or to none", function()
    local model = { { "a.fc.bias", { 5 } }, { "b.fc.bias", { 5 } } }
    local file = { trees = { model = { { "fc.bias", { 5 } } } } }
    local plan = load({ require = { matched = 0 } }, file, { model = model })
    same({}, plan.assign)
    same({ "a.fc.bias: 'fc.bias' fits 2 model keys", "b.fc.bias: 'fc.bias' fits 2 model keys" }, plan.mismatched)
    assert.matches("0 of 2 model keys", load(nil, file, { model = model }).refuse, 1, true)
    assert.equal("a.fc.bias b.fc.bias", targets(load({ align = { fanout = true } }, file, { model = model })))
    assert.equal("fc.bias", targets(load(nil, file, { model = { { "a.fc.bias", { 5 } }, { "fc.bias", { 5 } } } })))
  end)

  it("reports another shape with both", function()
    local plan = load({ require = { matched = 0 } }, { trees = { model = { { "fc.weight", { 9, 4 } } } } })
    same({ {}, { "net.fc.weight: file [9, 4], model [5, 4]" } }, { plan.assign, plan.mismatched })
  end)

  it("matches whole keys only with mode = exact, anything with boundary = false", function()
    assert.equal("", targets(load({ align = { mode = "exact" }, require = { matched = 0 } }, {})))
    local model = { { "xfc.bias", { 5 } } }
    local file = { trees = { model = { { "fc.bias", { 5 } } } } }
    assert.equal("", targets(load(nil, file, { model = model })))
    assert.equal("xfc.bias", targets(load({ align = { boundary = false } }, file, { model = model })))
    assert.error_matches(function() load({ align = { mode = "fuzzy" } }, {}) end,
                         "align.mode must be 'suffix' or 'exact', not 'fuzzy'", 1, true)
  end)

  it("holds the contract: a share, keys that must, keys that may miss", function()
    local two = { trees = { model = { FILE[2], FILE[3] } } }
    local cases = {
      { nil, nil }, -- 2 of 3 is more than half
      { { matched = 0.75 }, "2 of 3 model keys are matched (66.7 %), the contract asks for 75.0 %; without a source: "
        .. "net.conv1.weight; the file's keys: fc.weight, fc.bias" },
      { { matched = 1, may_miss = { "net.conv1.*" } }, nil },
      { { must = { "net.fc.*" } }, nil },
      { { must = { "*.weight" } }, "'net.conv1.weight' must be loaded ('*.weight')" },
      { { must = { "head.*" } }, "load.require.must names 'head.*', which no model key matches" },
      { { matched = 1, may_miss = { "conv1" } }, "2 of 3 model keys are matched (66.7 %), the contract asks for 100.0 %; "
        .. "without a source: net.conv1.weight; the file's keys: fc.weight, fc.bias" },
    }
    for i, case in ipairs(cases) do
      assert.equal(case[2], load({ require = case[1] }, two).refuse, "case " .. i)
    end
  end)

  it("counts exactly half as enough, and names no more keys than one reads", function()
    local model, file = {}, {}
    for i = 1, 20 do model[i] = { "k" .. i, { 1 } } end
    for i = 1, 10 do file[i] = model[i] end
    assert.is_nil(load(nil, { trees = { model = file } }, { model = model }).refuse)
    file[10] = nil
    assert.equal("9 of 20 model keys are matched (45.0 %), the contract asks for 50.0 %; without a source: k10, k11, k12, ... "
      .. "(8 more); the file's keys: k1, k2, k3, ... (6 more)", load(nil, { trees = { model = file } }, { model = model }).refuse)
  end)

  it("logs a summary, and each key where verbose is set", function()
    local log = load(nil, { path = "w/x.pth" }).log
    same({ "Pre-training on w/x.pth: 3 of 3 model keys." }, log)
    log = load({ rgb2bgr = true }, {}, { options = { verbose = "true" } }).log
    same({ "Pre-training on w.pth: 3 of 3 model keys.", "  net.conv1.weight <- conv1.weight  rgb->bgr",
           "  net.fc.weight <- fc.weight", "  net.fc.bias <- fc.bias" }, log)
  end)

  it("resumes no other part, and leaves the first epoch to the runtime", function()
    local plan = load(nil, { keys = { "model", "optimizer" }, values = { epoch = 9 } }, { parts = { "model", "optimizer" } })
    same({ nil, nil, nil }, { plan.optimizer, plan.values, plan.next_epoch })
  end)
end)

describe("default plan_load, resuming", function()
  local function resume(source, run, fields)
    source.mode, source.file, source.path = "resume", source.file or "model_epoch4.pth", "runs/x/model_epoch4.pth"
    source.keys = source.keys or { "model", "optimizer", "scheduler", "rng", "epoch" }
    source.trees = source.trees or { model = MODEL }
    return load(fields, source, run)
  end
  local all = { parts = { "model", "optimizer", "scheduler", "rng" } }

  it("brings everything that is bound back, and goes on with the next epoch", function()
    local plan = resume({ values = { epoch = 4 } }, all)
    assert.is_nil(plan.refuse)
    same({ "optimizer", { { group = "scheduler", from = "scheduler" }, { group = "rng", from = "rng" } }, 5 },
         { plan.optimizer, plan.values, plan.next_epoch })
    same({ "Resuming from runs/x/model_epoch4.pth: 3 of 3 model keys.",
           "  resumed with it: optimizer, scheduler, rng" }, plan.log)
  end)

  it("refuses a file without a part that is bound, unless it may be missing", function()
    local keys = { "model", "scheduler", "rng" }
    assert.equal("was saved without 'optimizer', which the trainer has bound (load.require.parts = false to go on without)",
                 resume({ keys = keys }, all).refuse)
    local plan = resume({ keys = keys }, all, { require = { parts = false } })
    assert.is_nil(plan.refuse)
    assert.is_nil(plan.optimizer)
    assert.equal("  not in the file, left as initialised: optimizer", plan.log[#plan.log])
  end)

  it("wants every key, but for those that may miss", function()
    local trees = { model = { MODEL[1], MODEL[2] } }
    assert.matches("2 of 3 model keys are matched (66.7 %), the contract asks for 100.0 %",
                   resume({ trees = trees }).refuse, 1, true)
    assert.is_nil(resume({ trees = trees }, nil, { require = { may_miss = { "*.bias" } } }).refuse)
    assert.is_nil(resume({ trees = trees }, nil, { require = { resume = 0.5 } }).refuse)
  end)

  it("neither maps nor converts: the file is the run's own", function()
    local plan = resume({}, nil, { map = function() return "x" end, rgb2bgr = true })
    assert.equal(EVERY, targets(plan))
    assert.is_nil(plan.assign[1].ops)
  end)

  it("takes the epoch from the file, else the ledger, else the scheduler", function()
    local scheduler = { iteration = 30 }
    local run = { ledger = ledger { 3, 4 }, files = { "model_epoch4.pth" } }
    local function next_epoch(values, with, file) return resume({ values = values, file = file }, with).next_epoch end
    assert.equal(fake.dump(9), fake.dump(next_epoch({ epoch = 8, scheduler = scheduler }, run)))
    assert.equal(fake.dump(5), fake.dump(next_epoch({ scheduler = scheduler }, run)))
    assert.equal(fake.dump(31), fake.dump(next_epoch({ scheduler = scheduler }, run, "other.pth")))
    assert.equal(fake.dump(1), fake.dump(next_epoch({ epoch = 0 })))
    assert.is_nil(next_epoch({}))
  end)
end)

-- ---- better ----

describe("default best", function()
  it("is found again in the ledger after a restart", function()
    local policy = bare()
    local run = play(policy, { 0.5, 0.9, 0.6 })
    local fresh = fake.run { ledger = run.ledger, files = run.files }
    local _, plan = fake.epoch(policy, fresh, 4, { acc = 0.8 })
    assert.is_false(plan.result)
    _, plan = fake.epoch(policy, fresh, 5, { acc = 0.95 })
    assert.is_true(plan.result)
    same({ "Best so far: model_epoch5.pth, acc 0.9500 (before: 0.9000 of epoch 2)." }, plan.log)
  end)

  it("is found by the metrics of saves in a run that never asked for it", function()
    local policy = bare()
    local run = fake.run { ledger = ledger({ 1, 2, 3 }, { 0.5, 0.9, NAN }), files = { "model_epoch2.pth" } }
    local _, plan = fake.epoch(policy, run, 4, { acc = 0.8 })
    assert.is_false(plan.result)
  end)

  it("is not moved by later saves that measured nothing", function()
    local policy = bare { keep = { last = 1, best = 1 } }
    local run = play(policy, { 0.5, 0.9 })
    for epoch = 3, 6 do
      run.epoch, run.metrics = epoch, {} -- the runtime drops the metrics of an earlier epoch
      fake.apply(run, policy.plan_save(policy, run), "save")
    end
    files_of(run, "model_epoch2.pth", "model_epoch6.pth", "model_best.pth", "model_latest.pth")
  end)

  it("is not lost when a run is killed between save and save_best", function()
    local policy = bare { keep = { last = 1, best = 1 } }
    local run = play(policy, { 0.5 })
    run.epoch, run.metrics = 2, { acc = 0.9 }
    fake.apply(run, policy.plan_save(policy, run), "save") -- and killed here
    local _, plan = fake.epoch(policy, run, 3, { acc = 0.8 })
    assert.is_false(plan.result)
    files_of(run, "model_epoch2.pth", "model_epoch3.pth", "model_best.pth", "model_latest.pth")
  end)

  it("forgets what a run that went back has overtaken", function()
    local policy = bare()
    local run = play(policy, { 0.5, 0.6, 0.9 })
    local _, plan = fake.epoch(policy, run, 2, { acc = 0.7 })
    assert.is_true(plan.result)
    assert.equal("model_epoch2.pth", plan.file)
    assert.is_truthy(fake.has_file(run, "model_epoch3.pth"))
  end)

  it("asks a function of the policy's, but never about what is not finite", function()
    local policy = new_policy()
    function policy.better(now, best) return now.acc > best.acc and now.loss < 2 * best.loss end
    local _, results = play(policy, { { acc = 0.5, loss = 1 }, { acc = NAN, loss = 1 }, { acc = 0.6, loss = 3 },
                                      { acc = 0.6, loss = 1.5 } })
    same({ true, false, false, true }, results)
  end)

  it("raises what that function raises: the save is then made without the policy", function()
    local policy = new_policy()
    function policy.better(now, best) return now.acc > best.acc and now.loss < best.loss end
    assert.error_matches(function() play(policy, { { acc = 0.5, loss = 1 }, { acc = 0.6 } }) end,
                         "attempt to compare nil with number", 1, true)
  end)

  it("needs its metric, and says which", function()
    local policy = bare { best = { metric = "f1" } }
    local _, results, plans = play(policy, { 0.5, { f1 = 0.1 } })
    same({ false, true }, results)
    same({ "Epoch 1 is not the best: the metric 'f1' is not set." }, plans[1].log)
  end)

  it("rejects a mode or tie that it does not know", function()
    assert.error_matches(function() play(bare { best = { mode = "most" } }, { 1.0 }) end,
                         "best.mode must be 'max' or 'min', not 'most'", 1, true)
    assert.error_matches(function() play(bare { best = { tie = "both" } }, { 1.0 }) end,
                         "best.tie must be 'first' or 'last', not 'both'", 1, true)
  end)

  it("reuses only what this very epoch and step has saved", function()
    local policy = bare()
    local function reuse(entry)
      local run = fake.run { epoch = 3, step = 30, metrics = { acc = 0.5 }, ledger = { fake.entry(entry) },
                             files = { "model_epoch3.pth" } }
      local plan = policy.plan_best(policy, run)
      return { plan.reuse, plan.aliases[1] }
    end
    same({ true, "model_best.pth" }, reuse { file = "model_epoch3.pth", epoch = 3, step = 30 })
    same({ false, "model_latest.pth" }, reuse { file = "model_epoch3.pth", epoch = 3, step = 29 })
    same({ false, "model_latest.pth" }, reuse { file = "model_epoch3.pth", epoch = 2, step = 30 })
    same({ false, "model_latest.pth" }, reuse { file = "other.pth", epoch = 3, step = 30 })
    same({ false, "model_latest.pth" }, reuse { event = "load", file = "model_epoch3.pth", epoch = 3, step = 30 })
  end)

  it("writes the file itself with reuse = false, and where save was not called", function()
    local _, _, plans = play(bare { reuse = false }, { 0.5 })
    assert.is_false(plans[1].reuse)
    local policy = bare()
    local run = fake.run { epoch = 1, metrics = { acc = 0.5 } }
    fake.apply(run, policy.plan_best(policy, run), "best")
    files_of(run, "model_epoch1.pth", "model_best.pth", "model_latest.pth")
  end)

  it("can have a name for each best: the one before goes, model_latest.pth stays", function()
    local run = play(bare { best_alias = "best-{acc:.2f}.pth", reuse = false }, { 0.5, 0.75, 0.6 })
    files_of(run, "best-0.75.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth", "model_latest.pth")
    local policy = bare { best_alias = "best-{acc:.2f}.pth" }
    run = fake.run { epoch = 1, metrics = { acc = 0.5 } }
    fake.apply(run, policy.plan_best(policy, run), "best") -- without a save: it names model_latest.pth too
    fake.epoch(policy, run, 2, { acc = 0.6 })
    files_of(run, "best-0.60.pth", "model_epoch1.pth", "model_epoch2.pth", "model_latest.pth")
    run = play(policy, { 0.5, 0.75, 0.8 })
    files_of(run, "best-0.80.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth", "model_latest.pth")
  end)
end)

-- ---- saving, names ----

describe("default plan_save", function()
  it("gives the whole plan", function()
    local policy = bare()
    same({ file = "model_epoch12.pth", aliases = { "model_latest.pth" }, retire = {}, why = {}, extra = { epoch = 12, step = 1440 },
           log = { "Saved model_epoch12.pth." } },
         policy.plan_save(policy, fake.run { epoch = 12, step = 1440, metrics = { acc = 0.5 } }))
  end)

  it("tells what is retired", function()
    local policy = bare { keep = { last = 2 } }
    local run = play(policy, { 0.1, 0.2, 0.3 })
    run.epoch = 4
    same({ "Saved model_epoch4.pth; retired model_epoch2.pth." }, policy.plan_save(policy, run).log)
  end)

  local cases = {
    { "model_{infix}{epoch}.pth", {}, "model_epoch7.pth" },
    { "model_{infix}{epoch}.pth", { infix = "iter" }, "model_iter7.pth" },
    { "e{epoch:03d}-s{step}.pth", {}, "e007-s70.pth" },
    { "{epoch:%02d}-{acc}.pth", {}, "07-0.5000.pth" },
    { "{epoch}-{acc:.2f}-{bad}.pth", {}, "7-0.50-nan.pth" },
    { "fixed.pth", {}, "fixed.pth" },
  }
  for _, case in ipairs(cases) do
    it("names " .. case[1] .. " -> " .. case[3], function()
      local policy = bare { name = case[1] }
      local run = fake.run { epoch = 7, step = 70, metrics = { acc = 0.5, bad = -NAN }, options = case[2] }
      assert.equal(case[3], policy.plan_save(policy, run).file)
    end)
  end

  it("rejects a name of what is not there", function()
    local policy = bare { name = "{epoch}-{f1}.pth" }
    assert.error_matches(function() policy.plan_save(policy, fake.run { epoch = 1 }) end,
                         "name '{epoch}-{f1}.pth': this save has no epoch, step, metric or option 'f1'", 1, true)
  end)

  it("leaves aliases out, and the one that is the file itself", function()
    local function aliases(fields)
      local policy = bare(fields)
      return policy.plan_save(policy, fake.run { epoch = 1 }).aliases
    end
    same({}, aliases { latest = false })
    same({ "last.pth" }, aliases { latest = "last.pth" })
    same({}, aliases { name = "model_latest.pth" })
  end)

  it("overwrites one file of a fixed name for ever", function()
    local run = play(bare { name = "only.pth" }, { 0.5, 0.6, 0.4 })
    files_of(run, "only.pth", "model_best.pth", "model_latest.pth")
    local policy = bare { name = "only.pth" }
    same({ { file = "only.pth", reasons = { "best #1", "last 1 of 3" } } }, policy.kept(policy, run))
  end)
end)

-- ---- keeping ----

describe("default keep", function()
  local function after(keep_fields, list)
    local run = play(bare { keep = keep_fields }, list)
    local left = {}
    for _, name in ipairs(fake.file_names(run)) do
      local epoch = name:match("^model_epoch(%d+)%.pth$")
      if epoch then left[#left + 1] = math.tointeger(tonumber(epoch)) end
    end
    table.sort(left)
    return table.concat(left, " ")
  end
  local RISE = { 0.1, 0.2, 0.9, 0.4, 0.8, 0.6, 0.7, 0.3, 0.3, 0.3 }

  local cases = {
    { "the default", nil, "3 8 9 10" },
    { "the last two", { last = 2 }, "3 9 10" },
    { "the best three", { best = 3 }, "3 5 7 10" },
    { "every four epochs", { every = { epochs = 4 } }, "3 4 8 10" },
    { "the union of pools", { last = 2, best = 2, every = { epochs = 5 } }, "3 5 9 10" },
    { "a pin by glob", { pin = { "*_epoch1.pth" } }, "1 3 10" },
    { "a pin by function", { pin = function(point) return point.metrics.acc == 0.4 end }, "3 4 10" },
    { "no pool: the best and the newest", {}, "3 10" },
    { "zero: the best and the newest", { last = 0, best = 0 }, "3 10" },
    { "everything", false, "1 2 3 4 5 6 7 8 9 10" },
    { "what fits into 350 bytes", { max_bytes = 350 }, "3 8 9 10" },
    { "what fits into 0.4 kB", { max_bytes = "0.4KB" }, "3 7 8 9 10" },
  }
  for _, case in ipairs(cases) do
    it("keeps " .. case[1], function() assert.equal(case[3], after(case[2], RISE)) end)
  end

  it("keeps the newest of each of the last hours", function()
    local policy = bare { keep = { hourly = 2 } }
    local run = fake.run {}
    for epoch = 1, 8 do
      run.time, run.epoch = 1800 * epoch, epoch -- two saves an hour: 1 | 2 3 | 4 5 | 6 7 | 8
      fake.apply(run, policy.plan_save(policy, run), "save")
    end
    files_of(run, "model_epoch7.pth", "model_epoch8.pth", "model_latest.pth")
  end)

  it("keeps every so many steps", function()
    local policy = bare { keep = { every = { steps = 100 } }, name = "s{step}.pth" }
    local run = fake.run { epoch = 1 }
    for step = 50, 250, 50 do
      run.step = step
      fake.apply(run, policy.plan_save(policy, run), "save")
    end
    files_of(run, "s100.pth", "s200.pth", "s250.pth", "model_latest.pth")
  end)

  it("never removes what the ledger does not know", function()
    local policy = bare { keep = { last = 1 } }
    local run = play(policy, { 0.9, 0.1, 0.1 }, fake.run { files = { "model_epoch0.pth", "mine.pth", "model_epoch77.pth" } })
    files_of(run, "mine.pth", "model_best.pth", "model_epoch0.pth", "model_epoch1.pth", "model_epoch3.pth",
             "model_epoch77.pth", "model_latest.pth")
  end)

  it("never removes or counts an alias, whatever it is called", function()
    local policy = bare { keep = { last = 1, best = 1 }, latest = "z.pth", best_alias = "a.pth" }
    local run = play(policy, { 0.5, 0.4, 0.3 })
    run.ledger[#run.ledger + 1] = fake.entry { file = "a.pth", epoch = 3 }
    run.epoch, run.metrics = 4, {}
    local plan = policy.plan_save(policy, run)
    same({ "model_epoch3.pth" }, plan.retire)
  end)

  it("leaves the files of a run that went back, and those that are gone, alone", function()
    local policy = bare { keep = { last = 1 } }
    local run = fake.run { ledger = ledger({ 1, 2, 3, 50 }, { 0.1, 0.2, 0.3, 0.9 }),
                           files = { "model_epoch3.pth", "model_epoch50.pth" } }
    play(policy, { 0.1, 0.2 }, run)
    files_of(run, "model_best.pth", "model_epoch2.pth", "model_epoch3.pth", "model_epoch50.pth", "model_latest.pth")
  end)

  it("rejects pools that it does not know, before anything is deleted", function()
    local bad = {
      { { lst = 3 }, "keep has no pool 'lst'" }, { { last = 2.5 }, "keep.last must be a whole number, not '2.5'" },
      { { best = -1 }, "keep.best must be a whole number" }, { { last = "3" }, "keep.last must be a whole number" },
      { { every = { epochs = 0 } }, "keep.every.epochs must be a whole number above 0" },
      { { max_bytes = "20 parsecs" }, "not '20 parsecs'" },
    }
    for _, case in ipairs(bad) do
      assert.error_matches(function() after(case[1], RISE) end, case[2], 1, true)
    end
  end)

  it("reads sizes", function()
    local sizes = { [7] = 7, ["20GB"] = 2e10, ["1.5 GiB"] = 1.5 * 2 ^ 30, ["10"] = 10, ["3kb"] = 3000, ["2TB"] = 2e12 }
    for text, bytes in pairs(sizes) do assert.equal(bytes, keep.bytes_of(text)) end
  end)

  it("explains why each file is there", function()
    local policy = bare { keep = { last = 3, best = 2, every = { epochs = 5 } } }
    local run = play(policy, RISE)
    same({
      { file = "model_epoch3.pth", reasons = { "best #1" } },
      { file = "model_epoch5.pth", reasons = { "best #2", "every 5 epochs" } },
      { file = "model_epoch8.pth", reasons = { "last 3 of 3" } },
      { file = "model_epoch9.pth", reasons = { "last 2 of 3" } },
      { file = "model_epoch10.pth", reasons = { "every 5 epochs", "last 1 of 3" } },
    }, policy.kept(policy, run))
    policy.keep = { last = 1 }
    same({ file = "model_epoch5.pth", reasons = {} }, policy.kept(policy, run)[2])
    policy.keep = {}
    same({ file = "model_epoch10.pth", reasons = { "newest" } }, policy.kept(policy, run)[5])
    policy.keep = false
    same({ file = "model_epoch3.pth", reasons = { "keep = false" } }, policy.kept(policy, run)[1])
  end)
end)

-- ---- the factory ----

describe("default factory", function()
  it("gives a new policy each time, whose fields say what a policy without fields does", function()
    local one, two = new_policy(), new_policy()
    one.keep.last, one.load.require.matched = 99, 0
    same({ 3, 0.5 }, { two.keep.last, two.load.require.matched })
    local list = { 0.5, NAN, 0.7, 0.7, 0.2, 0.9, 0.1, 0.1, 0.1, 0.1 }
    local full, partial = play(two, list), play(bare(), list)
    same(fake.file_names(partial), fake.file_names(full))
    same(partial.ledger, full.ledger)
  end)

  it("reads the fields of the policy it is called with at the time of the call", function()
    local policy = new_policy()
    policy.name = "x{epoch}.pth"
    assert.equal("x1.pth", policy.plan_save(policy, fake.run { epoch = 1 }).file)
    policy.name = "y{epoch}.pth"
    assert.equal("y1.pth", policy.plan_save(policy, fake.run { epoch = 1 }).file)
  end)
end)

describe("default globs", function()
  local cases = {
    { "a.*", "a.b.c", true }, { "a.*", "xa.b", false }, { "*.bias", "fc.bias", true }, { "*.bias", "fc.bias2", false },
    { "a*b*c", "axxbyyc", true }, { "a*b*c", "ac", false }, { "ab*ba", "aba", false }, { "*", "", true },
    { "a.b", "axb", false }, { "a%d", "a%d", true }, { "*x*", "axb", true }, { "a*bc*c", "abc", false },
  }
  for _, case in ipairs(cases) do
    it(("'%s' on '%s'"):format(case[1], case[2]), function() assert.equal(case[3], names.matches(case[1], case[2])) end)
  end
end)
