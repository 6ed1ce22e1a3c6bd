-- default.lua: the policy that is used where a policy file says nothing else.
--
--   local policy = require "policies.default"()
--   policy.best = { metric = "loss", mode = "min" }
--   policy.keep = { last = 2, best = 3, every = { epochs = 10 } }
--   return policy
--
-- The functions read the fields of the policy that they are called with, at the time of the call; a field (or a
-- field of a field) that is not there has its default. README.md describes each.
--   * A resume takes the newest checkpoint that is valid; the runtime says why each newer one was refused.
--   * Keys match at a '.', each source fills one model key, and a load that matches too little is refused as a whole.
--   * A metric that is not finite is never better; the best so far is found again in the ledger.
--   * A save is made when it is due; a file is retired only after the new one is durable; the newest, the bests, what
--     is pinned and foreign files never are.
local names = require "policies.default.names"
local history = require "policies.default.history"
local best = require "policies.default.best"
local keep = require "policies.default.keep"
local when = require "policies.default.when"

local NAME = "model_{infix}{epoch}.pth"
local LATEST = "model_latest.pth"
local BEST = "model_best.pth"

-- ---- candidates ----

-- Adds a file once; of several names of one file (hard links) the first.
local function candidate_list(run)
  local files, seen, list = history.files(run), {}, {}
  local function add(name)
    local file = files[name]
    local inode = file and file.inode
    if not file or seen[name] or inode and seen[inode] then return end
    seen[name] = true
    if inode then seen[inode] = true end
    list[#list + 1] = { file = name, mode = "resume" }
  end
  return list, add
end

-- Files of the directory that carry an epoch in their names, the highest first.
local function numbered(policy, run)
  local epoch_of = names.epoch_reader(policy.name or NAME, run.options.infix or "epoch")
  local list = {}
  for i, file in ipairs(run.files) do
    local epoch = epoch_of(file.name)
    if epoch then list[#list + 1] = { name = file.name, epoch = epoch, place = i } end
  end
  table.sort(list, function(a, b)
    if a.epoch ~= b.epoch then return a.epoch > b.epoch end
    return a.place < b.place
  end)
  return list
end

-- The newest by the ledger, then the alias, then what the names tell.
local function add_auto(policy, run, add)
  local points = history.points(run)
  for i = #points, 1, -1 do
    if not points[i].stale then add(points[i].file) end
  end
  add(policy.latest or LATEST)
  for _, file in ipairs(numbered(policy, run)) do add(file.name) end
end

-- What `resume` lists: "auto", names of files in the directory, paths, or whole candidates.
local function resumable(policy, run, resume)
  local list, add = candidate_list(run)
  for _, item in ipairs(type(resume) == "table" and resume or { resume }) do
    if item == "auto" then
      add_auto(policy, run, add)
    elseif type(item) == "table" then
      list[#list + 1] = item
    elseif item:find("/", 1, true) then
      list[#list + 1] = { file = item, mode = "resume" }
    else
      add(item)
    end
  end
  return list
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Candidate[]
local function candidates(policy, run)
  local resume = policy.resume
  if resume == nil then resume = "auto" end
  local list = {}
  if run.auto_resume and resume then
    if type(resume) == "function" then resume = resume(run) end
    list = resumable(policy, run, resume or {})
  end
  if run.weights and run.weights ~= "" then
    list[#list + 1] = { file = run.weights, mode = "pretrain", must = true }
  end
  return list
end

-- ---- loading ----

---@param policy ckpt.Policy
---@param run ckpt.Run
---@param source ckpt.Source
---@return ckpt.LoadPlan
local function plan_load(policy, run, source)
  local load = require "policies.default.load" -- with the rule engine: most of what there is to compile, for loads only
  if source.mode == "scratch" then return load.scratch(policy, run) end
  return load.plan(policy, run, source)
end

-- ---- saving ----

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return boolean due
---@return string why
local function due(policy, run) return when.due(policy, run) end

local function alias_of(template, default, run)
  if template == false then return nil end
  return names.expand(template or default, run)
end

-- Adds a name unless it is the file's own, or there already.
local function add_alias(plan, name)
  if name and name ~= plan.file and not names.contains(plan.aliases, name) then
    plan.aliases[#plan.aliases + 1] = name
  end
end

-- Whether one of the saves before this one has the name.
local function holders(run, before)
  return function(name) return history.holder(run, before, name) ~= nil end
end

-- The plan of a save to `file`, without its log.
local function new_plan(policy, run, event, file)
  local point = { event = event, file = file, epoch = run.epoch, step = run.step, time = run.time,
                  metrics = run.metrics }
  local retired, why = keep.retired(policy, run, point)
  return { file = file, aliases = {}, retire = retired, why = why, extra = { epoch = run.epoch, step = run.step },
           parts = policy.parts, async = policy.async, recycle = policy.recycle }
end

local function saved_line(head, retired)
  if #retired == 0 then return head .. "." end
  return ("%s; retired %s."):format(head, names.list(retired))
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.SavePlan
local function plan_save(policy, run)
  local plan = new_plan(policy, run, "save", names.file(policy.name or NAME, run, holders(run, history.before(run))))
  add_alias(plan, alias_of(policy.latest, LATEST, run))
  plan.log = { saved_line("Saved " .. plan.file, plan.retire) }
  return plan
end

-- ---- the bests ----

---@class ckpt.Judgement
---@field spec ckpt.BestSpec
---@field old ckpt.Point? the best before
---@field better boolean
---@field why string

---@return ckpt.Judgement[]
local function judge(policy, run, before)
  local list = {}
  for i, spec in ipairs(best.specs(policy)) do
    local old = best.of_run(spec, before)
    local better, why = best.better(spec, run.metrics, old and old.metrics)
    list[i] = { spec = spec, old = old, better = better, why = why }
  end
  return list
end

local function template_of(policy, spec)
  if spec.name then return spec.alias end
  if policy.best_alias == nil then return BEST end
  return policy.best_alias
end

-- The name that a template gave a save of the ledger; nil if that cannot be told.
local function name_then(template, entry, run)
  local then_ = { epoch = entry.epoch, step = entry.step, time = entry.time, metrics = entry.metrics,
                  options = run.options }
  local ok, name = pcall(names.expand, template, then_)
  return ok and names.contains(entry.aliases or {}, name) and name or nil
end

-- Adds earlier names of a best to what is retired, where the template gives each best a name of its own.
local function retire_names(policy, run, plan, template)
  if not template:find("{", 1, true) then return end
  local files, latest = history.files(run), alias_of(policy.latest, LATEST, run)
  for _, entry in ipairs(run.ledger) do
    local name = entry.event == "best" and name_then(template, entry, run)
    local used = name == plan.file or name == latest or names.contains(plan.aliases, name)
    if name and files[name] and not used and not names.contains(plan.retire, name) then
      plan.retire[#plan.retire + 1], plan.why[#plan.why + 1] = name, "another is the best now"
    end
  end
end

local function best_line(run, plan, judged)
  local metric, old = judged.spec.rules[1].metric, judged.old
  local by = judged.spec.name and " by " .. judged.spec.name or ""
  local line = ("Best%s so far: %s, %s %s"):format(by, plan.file, metric, names.number(run.metrics[metric]))
  if not old then return line end
  return ("%s (before: %s of epoch %d)"):format(line, names.number(old.metrics[metric]), old.epoch)
end

local function refuse_best(run, why)
  local log = { ("Epoch %d is not the best: %s."):format(run.epoch, why) }
  return { result = false, ledger = false, reason = why, log = log }
end

-- Metrics that were set after the save was made: without them in the ledger it could never be the second best.
local function has_news(run, entry)
  for name, value in pairs(run.metrics) do
    local known = entry.metrics[name]
    if known ~= value and (known == known or value == value) then return true end
  end
  return false
end

-- Nothing is better: at most the ledger learns of it.
local function plan_worse(policy, run, judged, file, saved)
  if not saved or policy.reuse == false or not has_news(run, saved) then return refuse_best(run, judged[1].why) end
  local plan = new_plan(policy, run, "best", file)
  plan.reuse, plan.result, plan.reason = true, false, judged[1].why
  plan.log = refuse_best(run, judged[1].why).log
  return plan
end

local function plan_better(policy, run, judged, file, saved)
  local plan, lines = new_plan(policy, run, "best", file), {}
  plan.reuse = policy.reuse ~= false and saved ~= nil
  plan.result, plan.reason = judged[1].better, judged[1].why
  if not plan.reuse then add_alias(plan, alias_of(policy.latest, LATEST, run)) end
  for _, one in ipairs(judged) do
    if one.better then
      local template = template_of(policy, one.spec)
      if template then add_alias(plan, names.expand(template, run)) end
      lines[#lines + 1] = best_line(run, plan, one)
    end
  end
  for _, one in ipairs(judged) do
    local template = one.better and template_of(policy, one.spec)
    if template then retire_names(policy, run, plan, template) end
  end
  lines[#lines] = saved_line(lines[#lines], plan.retire)
  plan.log = lines
  return plan
end

local function any_better(judged)
  for _, one in ipairs(judged) do
    if one.better then return true end
  end
  return false
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.SavePlan
local function plan_best(policy, run)
  local before = history.before(run)
  local file = names.file(policy.name or NAME, run, holders(run, before))
  local judged, saved = judge(policy, run, before), history.just_saved(run, file)
  if not any_better(judged) then return plan_worse(policy, run, judged, file, saved) end
  local only_due = type(policy.when) == "table" and policy.when.best == false
  if only_due and not saved and not due(policy, run) then
    return refuse_best(run, "no save is due (when.best = false)")
  end
  return plan_better(policy, run, judged, file, saved)
end

-- ---- what is there ----

---Why each file of the run is kept, for `ckpt list`.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
local function kept(policy, run) return keep.kept(policy, run) end

---The files of the run, the best first, for `ckpt average`.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
local function ranking(policy, run) return keep.ranking(policy, run) end

---What no pool wants as things are, for `ckpt prune`.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.PrunePlan
local function plan_prune(policy, run)
  local retired, why = keep.retired(policy, run)
  return { retire = retired, why = why }
end

---A new policy with all fields at their defaults.
---@return ckpt.Policy
return function()
  return {
    resume = "auto",
    load = {
      weights = { "model", "state_dict", "" },
      strip = { "module.", "_orig_mod." },
      map = "auto",
      maps = { "vgg16_reducedfc" },
      rgb2bgr = false,
      align = { mode = "suffix", boundary = "." },
      require = { matched = 0.5, resume = 1 },
    },
    best = { metric = "acc", mode = "max", tie = "last", min_delta = 0 },
    name = NAME,
    latest = LATEST,
    best_alias = BEST,
    keep = { last = keep.DEFAULT.last, best = keep.DEFAULT.best },
    reuse = true,
    candidates = candidates, plan_load = plan_load, due = due, plan_save = plan_save, plan_best = plan_best,
    kept = kept, ranking = ranking, plan_prune = plan_prune,
  }
end
