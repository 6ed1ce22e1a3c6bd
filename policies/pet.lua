-- pet.lua: the behaviour of Pet's CheckPointer, defects included: file names, choices and log lines are the same.
--
-- What its load and save calls took as arguments are options of the run, as strings ("true", "false", "1", "0"):
--   convert_conv1      false    reverse the input channels of the first convolution when pre-training
--   use_weights_once   false    each key of the file feeds only the first model key that chose it
--   copy_latest        true     save also as model_<infix><iteration - 1>.pth
--   remove_old         true     save_best removes the file of the previous best
--   infix              epoch
-- `save_best` compares values.scheduler.info (cur_acc, best_acc, cur_epoch, best_epoch). For a policy without Pet's
-- traps (NaN as the best, suffixes that match within a word, files that pile up) see default.lua.
local vgg16 = require "policies.maps.vgg16_reducedfc"
local rgb2bgr = require "policies.maps.conv1_rgb2bgr"

local LATEST = "model_latest.pth"
local PARTS = { "model", "optimizer", "scheduler" }
local BOOLEANS = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false }

---@class ckpt.PetPolicy: ckpt.Policy
local M = {}

-- ---- small helpers ----

local function flag(run, name, default)
  local text = run.options[name]
  if text == nil then return default end
  local value = BOOLEANS[text]
  if value == nil then error(("option '%s' must be true, false, 1 or 0, not '%s'"):format(name, text), 0) end
  return value
end

local function infix(run) return run.options.infix or "epoch" end

local function contains(list, item)
  for _, other in ipairs(list) do
    if other == item then return true end
  end
  return false
end

local function has_file(run, name)
  for _, file in ipairs(run.files) do
    if file.name == name then return true end
  end
  return false
end

local function ends_with(text, tail) return text:sub(-#tail) == tail end

local function join(dir, name) return ends_with(dir, "/") and dir .. name or dir .. "/" .. name end

-- Python's str of a tuple.
local function tuple(shape)
  return "(" .. table.concat(shape, ", ") .. (#shape == 1 and ",)" or ")")
end

local function brackets(shape) return "[" .. table.concat(shape, ", ") .. "]" end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- Python's len and ljust count characters.
local function width(text) return utf8.len(text) or #text end

local function longest(names)
  local most = 0
  for _, name in ipairs(names) do most = math.max(most, width(name)) end
  return most
end

local function pad(text, to) return text .. (" "):rep(to - width(text)) end

-- `<` follows the locale of the trainer's process; a byte written as three digits sorts alike in all of them.
local CODES = {}
for byte = 0, 255 do CODES[string.char(byte)] = ("%03d"):format(byte) end

local function byte_order(names)
  local code, sorted = {}, {}
  for i, name in ipairs(names) do
    code[name] = name:gsub(".", CODES)
    sorted[i] = name
  end
  table.sort(sorted, function(a, b) return code[a] < code[b] end)
  return sorted
end

-- ---- which file ----

---@param run ckpt.Run
---@return ckpt.Candidate[]
function M.candidates(_, run)
  if run.auto_resume and has_file(run, LATEST) then
    return { { file = LATEST, mode = "resume", must = true } }
  end
  if run.weights and run.weights ~= "" then
    return { { file = run.weights, mode = "pretrain", must = true } }
  end
  return {}
end

---Files to test with, as candidates: the trainer's, or else the run's model_<mode>.pth. The runtime takes the first
---that it can open. (A policy sees no further than the run's directory, so it cannot look for itself.)
---@param _ ckpt.Run
---@param test_weights string?
---@param mode string? "latest" when nil
---@return ckpt.Candidate[]
function M.get_weights(_, test_weights, mode)
  local own = { file = "model_" .. (mode or "latest") .. ".pth", mode = "pretrain", must = true }
  if not test_weights or test_weights == "" then return { own } end
  local path = test_weights:find("/", 1, true) and test_weights or "./" .. test_weights
  return { { file = path, mode = "pretrain" }, own }
end

-- ---- the file's state dict ----

-- The entries of a state dict in order: { from = key in the file, name = key from here on, shape =, ops = nil }.
local function entries_of(sd)
  local entries = {}
  for name, tensor in pairs(sd) do
    entries[#entries + 1] = { from = name, name = name, shape = tensor.shape }
  end
  return entries
end

local function strip_prefix(entries, prefix)
  for _, entry in ipairs(entries) do
    if entry.name:sub(1, #prefix) ~= prefix then return end
  end
  for _, entry in ipairs(entries) do entry.name = entry.name:sub(#prefix + 1) end
end

-- Entries at `path`, or nil and a sentence.
local function read_tree(source, path)
  local sd = source.state_dict(path)
  if sd == nil then return nil, ("there is no state dict at '%s'"):format(path) end
  local entries = entries_of(sd)
  strip_prefix(entries, "module.")
  return entries
end

local function is_vgg16(weights) return weights:find("vgg16_reducedfc", 1, true) ~= nil end

-- A sentence if a key is not listed.
local function map_weights(entries, weights)
  if not is_vgg16(weights) then return nil end
  local to = {}
  for _, row in ipairs(vgg16.table) do to[row[1]] = row[2] end
  for _, entry in ipairs(entries) do
    local name = to[entry.name]
    if name == nil then return ("key '%s' is not in the VGG16 table (vgg16_reducedfc)"):format(entry.name) end
    entry.name = name
  end
  return nil
end

-- A sentence if there is no such convolution.
local function convert_conv1(entries, weights, log)
  local key = is_vgg16(weights) and vgg16.first_conv or rgb2bgr.key
  for _, entry in ipairs(entries) do
    if entry.name == key then
      local ops, shape = rgb2bgr.apply(key, entry.shape)
      if ops == nil then return shape end
      log[#log + 1] = ("Convert %s from RGB to BGR of %s"):format(key, tuple(entry.shape))
      entry.ops, entry.shape = ops, shape
      return nil
    end
  end
  return ("convert_conv1 is set, but the file has no key '%s'"):format(key)
end

-- ---- alignment ----

local function sorted_names(entries)
  local names, by_name = {}, {}
  for i, entry in ipairs(entries) do
    names[i] = entry.name
    by_name[entry.name] = entry
  end
  return byte_order(names), by_name
end

-- { target, source } in the order of the model keys.
local function pair_all(targets, sources)
  local found, pairs_found = ckpt.align(targets, sources), {}
  for i, target in ipairs(targets) do
    if found[i] then pairs_found[#pairs_found + 1] = { target, sources[found[i]] } end
  end
  return pairs_found
end

-- The first target of each source, in the order of the sources.
local function pair_once(all, sources)
  local first, pairs_found = {}, {}
  for _, pair in ipairs(all) do first[pair[2]] = first[pair[2]] or pair[1] end
  for _, source in ipairs(sources) do
    if first[source] then pairs_found[#pairs_found + 1] = { first[source], source } end
  end
  return pairs_found
end

local function take(plan, target, shape, entry, names)
  if not same_shape(shape, entry.shape) then
    plan.mismatched[#plan.mismatched + 1] =
      ("%s: file %s, model %s"):format(target, brackets(entry.shape), brackets(shape))
    return
  end
  plan.assign[#plan.assign + 1] = { to = target, from = entry.from, ops = entry.ops }
  plan.log[#plan.log + 1] = names .. " of shape " .. tuple(shape)
end

local function align(plan, run, entries)
  local sources, by_name = sorted_names(entries)
  local targets = sorted_names(entries_of(run.model))
  local matches = pair_all(targets, sources)
  if flag(run, "use_weights_once", false) then matches = pair_once(matches, sources) end
  local left, right = longest(targets), longest(sources)
  for _, pair in ipairs(matches) do
    local names = pad(pair[1], left) .. " loaded from " .. pad(pair[2], right)
    take(plan, pair[1], run.model[pair[1]].shape, by_name[pair[2]], names)
  end
end

-- ---- plan_load ----

local function new_plan(select) return { select = select, assign = {}, mismatched = {}, log = {} } end

local function refuse(why) return { refuse = why, log = {} } end

local function add_log(plan, line) plan.log[#plan.log + 1] = line end

local function log_start(plan, run)
  for _, part in ipairs { "optimizer", "scheduler" } do
    if contains(run.parts, part) then add_log(plan, ("Initializing %s done."):format(part)) end
  end
  return plan
end

-- Where the weights are: "model" if the file has it, else (where it is not required) the file itself.
local function weights_at(source, required)
  if required or contains(source.keys, "model") then return "model" end
  return ""
end

local function pretrain(run, source)
  local weights = run.weights or source.path
  local plan = new_plan(weights_at(source, ends_with(weights, LATEST)))
  local entries, why = read_tree(source, plan.select)
  if entries == nil then return refuse(why) end
  why = map_weights(entries, weights)
  if why == nil and flag(run, "convert_conv1", false) then why = convert_conv1(entries, weights, plan.log) end
  if why ~= nil then return refuse(why) end
  align(plan, run, entries)
  add_log(plan, ("Pre-training on weights: %s."):format(weights))
  return log_start(plan, run)
end

-- What the file lacks of a bound part, as a sentence.
local function lacking(run, source)
  for _, part in ipairs { "optimizer", "scheduler" } do
    if contains(run.parts, part) and not contains(source.keys, part) then
      return ("was saved without '%s', which the trainer has bound, so it cannot be resumed"):format(part)
    end
  end
  local bound, saved = run.values.scheduler or {}, source.values.scheduler or {}
  for _, key in ipairs { "iteration", "info" } do
    if bound[key] ~= nil and saved[key] == nil then
      return ("its 'scheduler' has no '%s', which the trainer has bound, so it cannot be resumed"):format(key)
    end
  end
  return nil
end

local function load_parts(plan, run)
  if contains(run.parts, "optimizer") then
    plan.optimizer = "optimizer"
    add_log(plan, "Loading optimizer done.")
  end
  if contains(run.parts, "scheduler") then
    plan.values = { { group = "scheduler", from = "scheduler" } }
    add_log(plan, "Loading scheduler done.")
  end
end

local function resume(run, source)
  local plan = new_plan("model")
  local entries, why = read_tree(source, "model")
  why = why or lacking(run, source)
  if why ~= nil then return refuse(why) end
  align(plan, run, entries)
  add_log(plan, ("Resuming from weights: %s."):format(join(run.dir, LATEST)))
  load_parts(plan, run)
  local scheduler = source.values.scheduler
  local finished = scheduler and math.tointeger(scheduler.iteration) -- epochs; the runtime counts them from 1
  plan.next_epoch = finished and finished + 1
  return plan
end

---@param run ckpt.Run
---@param source ckpt.Source
---@return ckpt.LoadPlan
function M.plan_load(_, run, source)
  if source.mode == "resume" then return resume(run, source) end
  if source.mode == "pretrain" then return pretrain(run, source) end
  return log_start({ log = { "Training from scratch." } }, run)
end

---The model alone, for a test: no mapping, no conversion; the keys that were left are logged.
---@param run ckpt.Run
---@param source ckpt.Source
---@return ckpt.LoadPlan
function M.load_weights(_, run, source)
  local plan = new_plan(weights_at(source, false))
  local entries, why = read_tree(source, plan.select)
  if entries == nil then return refuse(why) end
  align(plan, run, entries)
  local filled, left = {}, {}
  for _, assignment in ipairs(plan.assign) do filled[assignment.to] = true end
  for _, name in ipairs((sorted_names(entries_of(run.model)))) do
    if not filled[name] then left[#left + 1] = name end
  end
  add_log(plan, ("Mismatch keys: %s."):format(#left == 0 and "none" or table.concat(left, ", ")))
  return plan
end

-- ---- saving ----

-- Python's "%4.2f": C's, but for the sign that C may give to a NaN.
local function two_digits(value)
  if value ~= value then return " nan" end
  return ("%4.2f"):format(value)
end

local function saved_parts(run)
  local parts = {}
  for _, part in ipairs(PARTS) do
    if contains(run.parts, part) then parts[#parts + 1] = part end
  end
  return parts
end

local function scheduler_value(run, key)
  local value = (run.values.scheduler or {})[key]
  if value == nil then error(("pet: no 'scheduler.%s' is bound, which this save needs"):format(key), 0) end
  return value
end

---@param run ckpt.Run
---@return ckpt.SavePlan
function M.plan_save(_, run)
  local plan = { file = LATEST, aliases = {}, retire = {}, parts = saved_parts(run), ledger = false }
  plan.log = { "Saving checkpoint done." }
  if flag(run, "copy_latest", true) and contains(run.parts, "scheduler") then
    plan.file = ("model_%s%s.pth"):format(infix(run), scheduler_value(run, "iteration") - 1)
    plan.aliases = { LATEST }
    plan.log[1] = plan.log[1] .. (' And copy "%s" to "%s".'):format(LATEST, plan.file)
  end
  return plan
end

local function best_name(run, epoch, acc)
  return ("model_%s%s-%s.pth"):format(infix(run), epoch, two_digits(acc))
end

---@param run ckpt.Run
---@return ckpt.SavePlan
function M.plan_best(_, run)
  local info = scheduler_value(run, "info")
  for _, key in ipairs { "cur_acc", "best_acc", "cur_epoch", "best_epoch" } do
    if info[key] == nil then error(("pet: no 'scheduler.info.%s' is bound, which save_best needs"):format(key), 0) end
  end
  if info.cur_acc < info.best_acc then return { result = false, ledger = false, log = {} } end
  local old = best_name(run, info.best_epoch, info.best_acc)
  local new = best_name(run, info.cur_epoch, info.cur_acc)
  local stale = flag(run, "remove_old", true) and old ~= new and has_file(run, old)
  return {
    file = new, aliases = { LATEST }, retire = stale and { old } or {}, parts = saved_parts(run),
    set = { scheduler = { info = { best_acc = info.cur_acc, best_epoch = info.cur_epoch } } },
    ledger = false, result = true, log = { ("Saving best checkpoint done: %s."):format(new) },
  }
end

---Pet removes nothing but the best before, in save_best.
---@return ckpt.PrunePlan
function M.plan_prune() return { retire = {} } end

return M
