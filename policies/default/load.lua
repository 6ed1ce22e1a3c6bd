-- load.lua: the plan of a load: what fills which tensor of the model, whether that is enough, and what a person wants
-- to know of it. Part of policies/default.lua.
--
--   fields.lua    what `load` asks for
--   match.lua     select, strip, align, compare shapes (rules.lua: map)
--   contract.lua  the conditions of load.require
--   suggest.lua   what would have matched more
-- A resume is not mapped and not converted unless that is asked for by role: its file is the run's own.
local names = require "policies.default.names"
local history = require "policies.default.history"
local fields = require "policies.default.fields"
local match = require "policies.default.match"
local contract = require "policies.default.contract"
local suggest = require "policies.default.suggest"

local M = {}

-- ---- log ----

local function add_list(log, what, list)
  if #list > 0 then log[#log + 1] = ("  %s: %s"):format(what, names.list(list)) end
end

local function is_rgb2bgr(ops)
  local op = ops and #ops == 1 and ops[1]
  return op and op[1] == "index_select" and op[2] == 1 and table.concat(op[3], " ") == "2 1 0"
end

local function how(a)
  if is_rgb2bgr(a.ops) then return "  rgb->bgr" end
  return (a.rule and "  rule " .. a.rule or "") .. (a.note and "  " .. a.note or "")
end

local function log_keys(log, plan)
  for _, a in ipairs(plan.assign) do
    log[#log + 1] = ("  %s <- %s%s"):format(a.to, a.from or "(made by its rule)", how(a))
  end
end

local function dropped_keys(state)
  local list = {}
  for i, item in ipairs(state.dropped) do list[i] = ("%s (rule %s)"):format(item.from, item.rule) end
  return list
end

local function partial_keys(plan)
  local list = {}
  for _, a in ipairs(plan.assign) do
    if a.overlap then list[#list + 1] = ("%s (%s)"):format(a.to, a.note) end
  end
  return list
end

local function log_load(plan, state, set, count, head)
  local map = state.map and ", map " .. state.map or ""
  plan.log[1] = ("%s: %d of %d model keys%s."):format(head, #plan.assign, #state.targets, map)
  if set.verbose then log_keys(plan.log, plan) end
  add_list(plan.log, "left as initialised", count.left)
  add_list(plan.log, "loaded in part", partial_keys(plan))
  add_list(plan.log, "unused in the file", contract.unused(state))
  add_list(plan.log, "dropped", dropped_keys(state))
  add_list(plan.log, "not in the map", state.unlisted)
  add_list(plan.log, "rules that met no key", state.unfired)
  add_list(plan.log, "not matched", plan.mismatched)
end

-- ---- the other parts of a resume ----

-- Sentences if the file lacks what is bound.
local function plan_parts(plan, run, source, set)
  local back, lacking = {}, {}
  plan.values = {}
  for _, part in ipairs(run.parts) do
    local here = part ~= "model" and names.contains(source.keys, part)
    if here then back[#back + 1] = part end
    if not here and part ~= "model" then lacking[#lacking + 1] = part end
    if here and part == "optimizer" then plan.optimizer = part end
    if here and part ~= "optimizer" then table.insert(plan.values, { group = part, from = part }) end
  end
  add_list(plan.log, "resumed with it", back)
  add_list(plan.log, "not in the file, left as initialised", lacking)
  for _, part in ipairs(set.parts and lacking or {}) do
    table.insert(plan.violations, ("was saved without '%s', which the trainer has bound (load.require.parts = false to "
      .. "go on without)"):format(part))
  end
end

-- The file says its epoch, or the ledger does, or (in Pet's files) the scheduler.
local function next_epoch(run, source)
  local epoch = math.tointeger(source.values.epoch)
  for _, point in ipairs(epoch and {} or history.points(run)) do
    if point.file == source.file then epoch = point.epoch end
  end
  local scheduler = source.values.scheduler
  epoch = epoch or (type(scheduler) == "table" and math.tointeger(scheduler.iteration)) -- the epochs that are finished
  return epoch and epoch + 1 or nil
end

-- The optimizer's state for a pre-training: what it is set to (learning rate and so on) stays the trainer's.
local function plan_optimizer(plan, run, source)
  if not names.contains(run.parts, "optimizer") then return end
  plan.optimizer_options = false
  if names.contains(source.keys, "optimizer") then
    plan.optimizer = "optimizer"
  else
    table.insert(plan.violations, "load.optimizer is set, but the file has no 'optimizer'")
  end
end

-- ---- plans ----

local function plan_of(state, set, count)
  local plan = { select = state.path, assign = state.assign, mismatched = state.mismatched, map = state.map,
                 unfilled = state.unfilled, checks = state.checks, dropped = state.dropped, unfired = state.unfired,
                 contract = contract.describe(set), log = {} }
  plan.violations = contract.violations(state, set, count)
  return plan
end

-- What would match more is looked for only where something is wanting.
local function add_suggestions(plan, state, set, count, run, source)
  if #plan.violations > 0 or #count.needed > 0 then plan.suggestions = suggest.find(state, set, run, source) end
end

---The plan where no file is taken.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.LoadPlan
function M.scratch(policy, run)
  local plan = { log = { "Training from scratch." } }
  if not fields.read(policy, run, "pretrain").file then return plan end
  plan.refuse = "there is nothing to resume from and no weights are given (load.require.file)"
  return plan
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@param source ckpt.Source
---@return ckpt.LoadPlan
function M.plan(policy, run, source)
  local set = fields.read(policy, run, source.mode)
  local state, why = match.match(run, source, set)
  if not state then return { refuse = why, violations = { why }, log = {} } end
  local count = contract.count(state, set)
  local plan = plan_of(state, set, count)
  log_load(plan, state, set, count, (set.resuming and "Resuming from " or "Pre-training on ") .. source.path)
  if set.resuming then
    plan_parts(plan, run, source, set)
    plan.next_epoch = next_epoch(run, source)
  elseif set.optimizer then
    plan_optimizer(plan, run, source)
  end
  add_suggestions(plan, state, set, count, run, source)
  plan.refuse = #plan.violations > 0 and table.concat(plan.violations, "; ") or nil
  return plan
end

return M
