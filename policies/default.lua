-- default.lua: the policy that is used where a policy file says nothing else.
--
--   local policy = require "policies.default"()
--   policy.best = { metric = "loss", mode = "min" }
--   policy.keep = { last = 2, best = 3, every = { epochs = 10 } }
--   return policy
--
-- The four functions read the fields of the policy that they are called with, at the time of the call; a field (or a
-- field of a field) that is not there has its default. README.md describes each.
--   * A resume takes the newest checkpoint that is valid; the runtime says why each newer one was refused.
--   * Keys match at a '.', each source fills one model key, and a load that matches too little is refused as a whole.
--   * A metric that is not finite is never better; the best so far is found again in the ledger.
--   * A file is retired only after the new one is durable; the newest, the best and foreign files never are.
local names = require "policies.default.names"
local history = require "policies.default.history"
local keep = require "policies.default.keep"
local load = require "policies.default.load"

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
  if source.mode == "scratch" then return load.scratch(policy, run) end
  return load.plan(policy, run, source)
end

-- ---- saving ----

local function alias_of(template, default, run)
  if template == false then return nil end
  return names.expand(template or default, run)
end

-- The names without the file's own and without repetitions; nil entries are left out.
local function aliases_of(file, ...)
  local list = {}
  for i = 1, select("#", ...) do
    local name = select(i, ...)
    if name and name ~= file and not names.contains(list, name) then list[#list + 1] = name end
  end
  return list
end

local function point_of(run, file)
  return { file = file, epoch = run.epoch, step = run.step, metrics = run.metrics }
end

local function saved_line(head, retired)
  if #retired == 0 then return head .. "." end
  return ("%s; retired %s."):format(head, names.list(retired))
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.SavePlan
local function plan_save(policy, run)
  local file = names.expand(policy.name or NAME, run)
  local retired = keep.retired(policy, run, point_of(run, file))
  return {
    file = file,
    aliases = aliases_of(file, alias_of(policy.latest, LATEST, run)),
    retire = retired,
    extra = { epoch = run.epoch, step = run.step },
    log = { saved_line("Saved " .. file, retired) },
  }
end

-- Adds earlier names of the best to what is retired, where the template gives each best a name of its own.
local function retire_names(policy, run, plan)
  if not policy.best_alias or not policy.best_alias:find("{", 1, true) then return end
  local files, latest = history.files(run), alias_of(policy.latest, LATEST, run)
  for _, entry in ipairs(run.ledger) do
    for _, name in ipairs(entry.event == "best" and entry.aliases or {}) do
      local used = name == plan.file or name == latest or names.contains(plan.aliases, name)
      if files[name] and not used and not names.contains(plan.retire, name) then table.insert(plan.retire, name) end
    end
  end
end

local function best_line(policy, run, plan, best)
  local metric = history.metric(policy)
  local line = ("Best so far: %s, %s %s"):format(plan.file, metric, names.number(run.metrics[metric]))
  local old = best and best.metrics[metric]
  if not old then return line end
  return ("%s (before: %s of epoch %d)"):format(line, names.number(old), best.epoch)
end

local function refuse_best(run, why)
  return { result = false, ledger = false, log = { ("Epoch %d is not the best: %s."):format(run.epoch, why) } }
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.SavePlan
local function plan_best(policy, run)
  local best = history.best(policy, history.before(run))
  local better, why = history.better(policy, run.metrics, best and best.metrics)
  if not better then return refuse_best(run, why) end
  local file = names.expand(policy.name or NAME, run)
  local reuse = policy.reuse ~= false and history.just_saved(run, file)
  local latest = not reuse and alias_of(policy.latest, LATEST, run)
  local plan = { file = file, reuse = reuse, result = true, extra = { epoch = run.epoch, step = run.step } }
  plan.aliases = aliases_of(file, latest, alias_of(policy.best_alias, BEST, run))
  plan.retire = keep.retired(policy, run, point_of(run, file))
  retire_names(policy, run, plan)
  plan.log = { saved_line(best_line(policy, run, plan, best), plan.retire) }
  return plan
end

---Why each file of the run is kept, for `ckpt list`.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
local function kept(policy, run) return keep.kept(policy, run) end

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
    candidates = candidates, plan_load = plan_load, plan_save = plan_save, plan_best = plan_best, kept = kept,
  }
end
