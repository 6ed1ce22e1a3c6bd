-- default.lua: the policy that a run has when it names none, and the ground for policies of one's own.
--
--   local policy = require "policies.default"()
--   policy.best = { metric = "loss", mode = "min" }
--   policy.keep = { last = 2, best = 3 }
--   return policy
--
-- A policy may also be a plain table of some of these fields; what it lacks is as here. Fields: policies/README.md.

local best_of = require "policies.lib.best"
local keep_of = require "policies.lib.keep"
local transfer = require "policies.lib.transfer"

local DEFAULTS = {
  resume = "auto",
  on_none = "error",
  latest = "model_latest.pth",
  name = "model_{infix}{epoch}.pth",
  infix = "epoch",
  keep = { last = 3, best = 1 },
  best = { metric = "acc", mode = "max", tie = "last", min_delta = 0, alias = "model_best.pth" },
  load = {
    weights = { "model", "state_dict", "model_state_dict", "" },
    strip = { "module.", "_orig_mod." },
    map = "auto",
    rgb2bgr = false,
    first_conv = "conv1.weight",
    align = { mode = "suffix", boundary = ".", fanout = false },
    require = { must = {}, may_miss = {} },
  },
}

-- A field of the policy; tables are completed key by key. `keep = false` and the like stay as they are.
local function field(policy, name)
  local value, default = policy[name], DEFAULTS[name]
  if value == nil then return default end
  if type(value) ~= "table" or type(default) ~= "table" or name == "keep" then return value end
  local merged = {}
  for key, item in pairs(default) do merged[key] = item end
  for key, item in pairs(value) do merged[key] = item end
  return merged
end

local function flag(run, name, otherwise)
  local value = run.options[name]
  if value == nil then return otherwise end
  return value == "true" or value == "1"
end

-- ---- which file ----

local function file_name(policy, run)
  local values = { infix = run.options.infix or field(policy, "infix"), epoch = run.epoch, step = run.step }
  return (field(policy, "name"):gsub("{(%w+)}", function(key)
    local value = values[key] or run.metrics[key]
    if value == nil then error(("the file name template names '%s', which this save does not have"):format(key), 0) end
    return type(value) == "number" and math.type(value) == "float" and ("%.4f"):format(value) or tostring(value)
  end))
end

local function epoch_of(name)
  return tonumber(name:match("(%d+)%.pth$"))
end

local function by_age(a, b)
  if a.epoch ~= b.epoch then return a.epoch > b.epoch end
  return a.place > b.place
end

-- What the ledger knows, newest first; then files of ours that it does not know.
local function resumable(policy, run)
  local latest, known, inodes, list = field(policy, "latest"), {}, {}, {}
  local files = best_of.files(run)
  table.sort(files, by_age)
  for _, entry in ipairs(files) do
    list[#list + 1] = { file = entry.file, mode = "resume" }
    known[entry.file], inodes[entry.inode] = true, true
  end
  local strays = {}
  for place, file in ipairs(run.files) do
    if file.name:find("^model_.*%.pth$") and not known[file.name] and not inodes[file.inode] then
      if file.name == latest then
        local newer = not run.ledger[1] or file.mtime >= (run.ledger[#run.ledger].time or 0)
        table.insert(list, newer and 1 or #list + 1, { file = latest, mode = "resume" })
        inodes[file.inode] = true
      else
        strays[#strays + 1] = { file = file.name, epoch = epoch_of(file.name) or -1, place = place, inode = file.inode }
      end
    end
  end
  table.sort(strays, by_age)
  for _, stray in ipairs(strays) do
    if not inodes[stray.inode] then list[#list + 1] = { file = stray.file, mode = "resume" } end
    inodes[stray.inode] = true
  end
  return list
end

local function candidates(policy, run)
  local resume, list = field(policy, "resume"), {}
  if run.auto_resume and resume then
    list = type(resume) == "function" and resume(run) or resumable(policy, run)
  end
  local fall_back = #list == 0 or field(policy, "on_none") == "pretrain"
  if run.weights and fall_back then list[#list + 1] = { file = run.weights, mode = "pretrain", must = true } end
  return list
end

-- ---- load ----

local function plan_parts(plan, run, source)
  plan.values = {}
  for _, part in ipairs(run.parts) do
    local there = false
    for _, key in ipairs(source.keys) do there = there or key == part end
    if part == "optimizer" and there then
      plan.optimizer = part
    elseif part ~= "model" and there then
      plan.values[#plan.values + 1] = { group = part, from = part }
    elseif part ~= "model" and (part == "optimizer" or part == "scheduler") then
      plan.refuse = ("the checkpoint was saved without '%s', which this run binds"):format(part)
    end
  end
  local epoch = source.values.epoch or (source.values.scheduler and source.values.scheduler.iteration)
  if math.type(epoch) == "integer" then plan.next_epoch = epoch + 1 end
end

-- Prefixes, table, channels: entries by the names that the model may know them by.
local function prepare(plan, load, run, source, state_dict)
  local entries = transfer.entries(state_dict)
  local stripped = transfer.strip(entries, load.strip)
  if #stripped > 0 then plan.log[#plan.log + 1] = "prefix taken off: " .. table.concat(stripped, " ") end
  if source.mode ~= "pretrain" then return entries end
  local map, unlisted = transfer.find_map(load.map, entries), {}
  if map then
    entries, unlisted = transfer.apply_map(map, entries)
    plan.log[#plan.log + 1] = ("keys mapped by %s"):format(map.id)
  end
  if #unlisted > 0 then plan.log[#plan.log + 1] = "not in the table: " .. table.concat(unlisted, ", ") end
  if flag(run, "convert_conv1", load.rgb2bgr) then
    plan.refuse = transfer.swap_channels(entries, map and map.first_conv or load.first_conv)
  end
  return entries
end

local function contract(load, mode)
  local wanted = load.require
  return {
    matched = wanted.matched or (mode == "resume" and 1 or 0.5),
    must = wanted.must, may_miss = wanted.may_miss,
  }
end

local function plan_load(policy, run, source)
  if source.mode == "scratch" then return { log = { "training from scratch" } } end
  local load = field(policy, "load")
  local plan = { assign = {}, mismatched = {}, log = {} }
  local path, state_dict = transfer.select(source, load.weights)
  if not path then
    plan.refuse = "there is no state dict in it"
    return plan
  end
  plan.select = path
  local entries = prepare(plan, load, run, source, state_dict)
  local missing, total = transfer.assign(plan, run.model, entries, load.align)
  plan.refuse = plan.refuse or transfer.violation(contract(load, source.mode), missing, total)
  plan.log[#plan.log + 1] = ("%s %s: %d of %d model tensors"):format(
    source.mode == "resume" and "resumed from" or "pre-trained on", source.path, total - #missing, total)
  if source.mode == "resume" then plan_parts(plan, run, source) end
  return plan
end

-- ---- save ----

-- The run as it will be when this save is done: its files and the new one.
local function with_new(run, name)
  local files = {}
  for _, entry in ipairs(best_of.files(run)) do
    if entry.file ~= name then files[#files + 1] = entry end
  end
  files[#files + 1] = {
    file = name, epoch = run.epoch, step = run.step, metrics = run.metrics, bytes = 0, place = math.maxinteger,
  }
  return files
end

-- Files of ours that no pool wants. What the ledger does not know is never touched; nor is the best, nor the new one.
local function retired(policy, run, name)
  local files, list = with_new(run, name), {}
  local best = field(policy, "best")
  local reasons = keep_of.reasons(policy, field(policy, "keep"), best, files)
  local champion = best_of.of(policy, best, files)
  for _, entry in ipairs(files) do
    if not reasons[entry.file] and entry.file ~= name and entry ~= champion then list[#list + 1] = entry.file end
  end
  return list
end

local function extra(run)
  return { epoch = run.epoch, step = run.step, metrics = next(run.metrics) and run.metrics or nil }
end

local function plan_save(policy, run)
  local name = file_name(policy, run)
  local plan = { file = name, aliases = {}, retire = retired(policy, run, name), extra = extra(run), log = {} }
  if field(policy, "latest") and flag(run, "copy_latest", true) then plan.aliases[1] = field(policy, "latest") end
  plan.log[1] = ("saved %s"):format(name)
  if #plan.retire > 0 then plan.log[2] = "retired " .. table.concat(plan.retire, ", ") end
  return plan
end

-- The best of all saves before this epoch's.
local function best_before(policy, best, run)
  local list = {}
  for _, entry in ipairs(best_of.history(run)) do
    if entry.epoch ~= run.epoch then list[#list + 1] = entry end
  end
  return best_of.of(policy, best, list)
end

local function saved_already(run, name)
  for _, entry in ipairs(best_of.files(run)) do
    if entry.file == name then return entry.epoch == run.epoch end
  end
  return false
end

local function verdict(best, now, before)
  local value = best_of.value(best, now)
  if not value then return ("not best: %s is not finite"):format(best.metric) end
  local old = before and best_of.value(best, before)
  if not old then return ("best: %s %.4f (first)"):format(best.metric, value) end
  return ("%s %.4f, best so far %.4f of epoch %d"):format(best.metric, value, old, before.epoch)
end

local function plan_best(policy, run)
  local best = field(policy, "best")
  local before = best_before(policy, best, run)
  if run.metrics[best.metric] == nil then
    return { log = { ("no metric '%s' was set: nothing can be best"):format(best.metric) } }
  end
  if not best_of.beats(policy, best, run, before) then
    local finite = best_of.value(best, run)
    return { result = false, log = finite and {} or { verdict(best, run, before) } }
  end
  local name = file_name(policy, run)
  local reuse = saved_already(run, name)
  local plan = reuse and { file = name, reuse = true, aliases = {} } or plan_save(policy, run)
  if best.alias then plan.aliases[#plan.aliases + 1] = best.alias end
  plan.result = true
  plan.log = { "new best, " .. verdict(best, run, before) }
  return plan
end

-- ---- for `ckpt list`: which pool keeps each file ----

local function kept(policy, run)
  local files, list = best_of.files(run), {}
  local reasons = keep_of.reasons(policy, field(policy, "keep"), field(policy, "best"), files)
  for _, entry in ipairs(files) do
    list[#list + 1] = { file = entry.file, reasons = reasons[entry.file] or { "not to be kept at the next save" } }
  end
  return list
end

---@return ckpt.Policy
return function()
  local policy = {
    candidates = candidates, plan_load = plan_load, plan_save = plan_save, plan_best = plan_best, kept = kept,
  }
  for name, value in pairs(DEFAULTS) do
    policy[name] = type(value) == "table" and field({}, name) or value
  end
  return policy
end
