-- cookbook_spec.lua: the recipes of policies/README.md, taken out of the document and run as the policies that they are.

local ckpt = require "ckpt"
local on = require "support.load_run"
local scratch = require "support.scratch"

local README = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$") .. "policies/README.md"

-- { title, text } of each recipe, in order.
local function recipes()
  local list, part = {}, scratch.read(README):match("\n## Cookbook\n(.-)\n## ")
  for number, title, text in part:gmatch("\n### (%d+)%. ([^\n]+)\n```lua\n(.-)```") do
    list[tonumber(number)] = { title = title, text = text }
  end
  return list
end

local FOUND = recipes()

before_each(on.enter)
after_each(on.leave)

-- ---- what a recipe is tried on ----

local function save(rows) assert(ckpt.save(on.path "w.pth", { model = on.state_dict(rows) })) end

local function load(n, model, options)
  options = options or {}
  options.policy = FOUND[n].text
  local run <close>, bound = on.open(nil, model, options)
  return assert(run:load()), bound
end

local function statuses(report)
  local list = {}
  for i, e in ipairs(report.entries) do list[i] = e.status end
  return table.concat(list, " ")
end

-- A run of these metrics: the epochs whose files are left, and what save_best said.
local function train(n, metric, values)
  local run <close> = on.open(nil, { { "w", { 2 } } }, { policy = FOUND[n].text, weights = "" })
  local improved = {}
  for epoch, value in ipairs(values) do
    assert(run:set_metric(metric, value))
    assert(run:save(epoch))
    improved[epoch] = run:save_best(epoch)
  end
  local left = {}
  for _, name in ipairs(scratch.names(on.path "run")) do
    local epoch = name:match("^model_epoch(%d+)%.pth$")
    if epoch then left[#left + 1] = tonumber(epoch) end
  end
  table.sort(left)
  return table.concat(left, " "), improved
end

local checks = {
  function(n)
    local rows = { { "body.w", { 2 } }, { "head.w", { 2 } } }
    save(rows)
    local report, bound = load(n, rows)
    assert.equal("matched reset", statuses(report))
    assert.same({ -1999, -1998 }, bound["head.w"]:tolist())
  end,
  function(n)
    save { { "module.a", { 2 } }, { "_orig_mod.module.b", { 2 } }, { "c", { 2 } } }
    assert.equal("matched matched matched", statuses(load(n, { { "a", { 2 } }, { "b", { 2 } }, { "c", { 2 } } })))
  end,
  function(n)
    save { { "stem.w", { 2 } }, { "head.w", { 3 } } }
    local report = load(n, { { "net.conv1.weight", { 2 } }, { "net.fc.weight", { 3 } } })
    assert.same({ "mine (by the policy)", "matched matched" }, { report.map, statuses(report) })
  end,
  function(n)
    save { { "layer1.0.w", { 2 } }, { "layer4.0.w", { 3 } }, { "fc.weight", { 4 } } }
    local report = load(n, { { "res2.0.w", { 2 } }, { "res5.0.w", { 3 } } })
    assert.same({ "matched matched", { "fc.weight (rule 1.2)" } }, { statuses(report), report.dropped })
  end,
  function(n)
    save { { "stem.conv.weight", { 1, 3, 1, 1 } } }
    local _, bound = load(n, { { "stem.conv.weight", { 1, 3, 1, 1 } } })
    assert.same({ 103, 102, 101 }, bound["stem.conv.weight"]:tolist())
  end,
  function(n)
    local _, improved = train(n, "loss", { 0.5, 0.4995, 0.4, 0.4, 0 / 0, 0.3 })
    assert.same({ true, false, true, false, false, true }, improved)
  end,
  function(n) assert.equal("2 4 5 7", (train(n, "acc", { 0.1, 0.9, 0.2, 0.8, 0.7, 0.3, 0.4 }))) end,
  function(n)
    local values = {}
    for i = 1, 23 do values[i] = i == 1 and 0.9 or 0.5 end
    assert.equal("1 10 20 22 23", (train(n, "acc", values))) -- the best is never retired
  end,
  function(n) assert.equal("1 5 8", (train(n, "acc", { 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7 }))) end, -- best, pin, last
  function(n)
    local rows = { { "w", { 2 } } }
    assert(ckpt.save(on.path "w.pth", { epoch = 1, model = on.state_dict(rows, 0), ema = on.state_dict(rows, 5000) }))
    local _, bound = load(n, rows)
    assert.same({ 5101, 5102 }, bound.w:tolist())
    local resumed <close>, own = on.open(nil, rows, { policy = FOUND[n].text, weights = "", auto_resume = true })
    assert(ckpt.save(on.path "run/model_epoch1.pth", { epoch = 1, model = on.state_dict(rows, 0), ema = on.state_dict(rows, 5000) }))
    assert.equal("resume", assert(resumed:load()).mode)
    assert.same({ 101, 102 }, own.w:tolist())
  end,
  function(n)
    save { { "backbone.w", { 2 } }, { "head.w", { 2, 2 } } }
    local report, bound = load(n, { { "backbone.w", { 2 } }, { "head.w", { 3, 2 } } })
    assert.equal("matched partial", statuses(report))
    assert.same({ 201, 202, 203, 204, -1995, -1994 }, bound["head.w"]:tolist())
  end,
  function(n)
    train(n, "acc", { 0.5, 0.9, 0.6 })
    local run <close> = on.open(nil, { { "w", { 2 } } }, { policy = FOUND[n].text, weights = "", auto_resume = true })
    local report = assert(run:load())
    assert.same({ on.path "run/model_best.pth", 3 }, { report.path, run:next_epoch() })
  end,
}

describe("the cookbook of policies/README.md", function()
  it("has twelve recipes, each with a check", function()
    assert.same({ 12, 12 }, { #FOUND, #checks })
  end)

  for n, recipe in ipairs(FOUND) do
    it(("%d. %s"):format(n, recipe.title), function() checks[n](n) end)
  end
end)
