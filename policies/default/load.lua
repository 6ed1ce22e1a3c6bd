-- load.lua: which tensor of the file fills which of the model's, and whether that is enough. Part of
-- policies/default.lua.
--
-- The stages, each on names and shapes only: select a state dict, strip prefixes, map, convert, align, check shapes,
-- check the contract. A resume is not mapped and not converted: its file is the run's own.
-- An entry is one tensor of the file: { from = its key, name = its key after the stages, shape =, ops = nil }.
local names = require "policies.default.names"
local history = require "policies.default.history"
local rgb2bgr = require "policies.maps.conv1_rgb2bgr"

local M = {}

local TREES = { "model", "state_dict", "" }
local PREFIXES = { "module.", "_orig_mod." }
local MAPS = { "vgg16_reducedfc" }
local BOOLEANS = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false }

-- ---- settings: the run's options before the policy's fields before the defaults ----

local function as_list(value)
  if type(value) == "table" then return value end
  return { value }
end

local function option(run, name)
  local text = run.options[name]
  if BOOLEANS[text] ~= nil then return BOOLEANS[text] end
  return text
end

local function first_set(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then return value end
  end
  return nil
end

local function settings(policy, run)
  local load = policy.load or {}
  local align, need = load.align or {}, load.require or {}
  return {
    trees = as_list(first_set(load.weights, TREES)),
    strip = as_list(first_set(option(run, "strip"), load.strip, PREFIXES)),
    map = first_set(option(run, "map"), load.map, "auto"),
    maps = load.maps or MAPS,
    rgb2bgr = first_set(option(run, "rgb2bgr"), load.rgb2bgr, false),
    mode = align.mode or "suffix", boundary = first_set(align.boundary, "."), fanout = align.fanout,
    matched = need.matched or 0.5, resume = need.resume or 1, must = need.must, may_miss = need.may_miss,
    parts = need.parts ~= false,
    verbose = first_set(option(run, "verbose"), false),
  }
end

-- ---- select, strip ----

local function entries_of(sd)
  local entries = {}
  for name, tensor in pairs(sd) do
    entries[#entries + 1] = { from = name, name = name, shape = tensor.shape }
  end
  return entries
end

-- The first tree that holds tensors: its path and entries, or nil.
local function select_tree(trees, source)
  for _, path in ipairs(trees) do
    local sd = source.state_dict(path)
    if sd and #sd > 0 then return path, entries_of(sd) end
  end
  return nil
end

local function all_have(entries, prefix)
  for _, entry in ipairs(entries) do
    if entry.name:sub(1, #prefix) ~= prefix then return false end
  end
  return #entries > 0
end

-- Takes off what all keys of the file begin with, and the model's do not, until nothing is left to take off.
local function strip(entries, targets, prefixes)
  local i = 1
  while i <= #prefixes do
    local prefix = prefixes[i]
    i = i + 1
    if prefix and prefix ~= "" and all_have(entries, prefix) and not all_have(targets, prefix) then
      for _, entry in ipairs(entries) do entry.name = entry.name:sub(#prefix + 1) end
      i = 1
    end
  end
end

-- ---- map, convert: each returns a sentence if it cannot be ----

local function index_by_name(entries)
  local by_name = {}
  for i, entry in ipairs(entries) do by_name[entry.name] = i end
  return by_name
end

local function is_detected(map, by_name)
  local keys = (map.detect or {}).keys or {}
  for _, key in ipairs(keys) do
    if not by_name[key] then return false end
  end
  return #keys > 0
end

local function detect(maps, entries)
  local by_name = index_by_name(entries)
  for _, id in ipairs(maps) do
    local map = type(id) == "table" and id or require("policies.maps." .. id)
    if is_detected(map, by_name) then return map end
  end
  return nil
end

-- The map and how it was chosen; nil for none.
local function find_map(set, entries)
  local map = set.map
  if not map or map == "none" then return nil end
  if map == "auto" then return detect(set.maps, entries), "found by its keys" end
  if type(map) == "function" then return { id = "function", rename = map }, "by the policy" end
  if type(map) == "table" then return map, "by the policy" end
  return require("policies.maps." .. map), "by name"
end

local function renamer(map)
  if map.rename then return map.rename end
  local to = {}
  for _, row in ipairs(map.table or {}) do to[row[1]] = row[2] end
  return function(name) return to[name] end
end

-- A key that the map does not list keeps its name and is reported.
local function apply_map(state, map)
  local rename, taken = renamer(map), {}
  for _, entry in ipairs(state.entries) do
    local name = rename(entry.name, entry.shape)
    if name == nil then state.unlisted[#state.unlisted + 1] = entry.from end
    entry.name = name or entry.name
    local other = taken[entry.name]
    if other then
      return ("map '%s' gives both '%s' and '%s' the name '%s'"):format(map.id or "?", other, entry.from, entry.name)
    end
    taken[entry.name] = entry.from
  end
  return nil
end

local function convert(state, set)
  local key = type(set.rgb2bgr) == "string" and set.rgb2bgr or state.map and state.map.first_conv or rgb2bgr.key
  local entry = state.entries[index_by_name(state.entries)[key]]
  if not entry then return ("rgb2bgr is set, but the file has no key '%s'"):format(key) end
  local ops, shape = rgb2bgr.apply(key, entry.shape)
  if not ops then return shape end
  entry.ops, entry.shape = ops, shape
  return nil
end

-- ---- align ----

local function names_of(entries)
  local list = {}
  for i, entry in ipairs(entries) do list[i] = entry.name end
  return list
end

-- For each target the index of its source, or false.
local function find_sources(set, targets, entries)
  if set.mode == "suffix" then
    return ckpt.align(names_of(targets), names_of(entries), set.boundary or nil)
  end
  if set.mode ~= "exact" then error(("align.mode must be 'suffix' or 'exact', not '%s'"):format(set.mode), 0) end
  local by_name, found = index_by_name(entries), {}
  for i, target in ipairs(targets) do found[i] = by_name[target.name] or false end
  return found
end

-- Source index -> list of target indices.
local function claims_of(found)
  local claims = {}
  for target, source in ipairs(found) do
    if source then
      claims[source] = claims[source] or {}
      table.insert(claims[source], target)
    end
  end
  return claims
end

-- Of several targets that one source fits, only the one of the very same name gets it; among others none is better.
local function winner(targets, claim, entry)
  if #claim == 1 then return claim[1] end
  for _, target in ipairs(claim) do
    if targets[target].name == entry.name then return target end
  end
  return nil
end

local function brackets(shape) return "[" .. table.concat(shape, ", ") .. "]" end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function mismatch(state, format, ...) table.insert(state.mismatched, format:format(...)) end

local function assign(state, target, source)
  local entry = state.entries[source]
  if not same_shape(target.shape, entry.shape) then
    return mismatch(state, "%s: file %s, model %s", target.name, brackets(entry.shape), brackets(target.shape))
  end
  state.filled[target.name], state.used[source] = true, true
  table.insert(state.assign, { to = target.name, from = entry.from, ops = entry.ops })
end

local function align(state, set)
  local targets = state.targets
  local found = find_sources(set, targets, state.entries)
  local claims = claims_of(found)
  for i, target in ipairs(targets) do
    local source = found[i]
    local claim = source and claims[source]
    if source and (set.fanout or winner(targets, claim, state.entries[source]) == i) then
      assign(state, target, source)
    elseif source then
      mismatch(state, "%s: '%s' fits %d model keys", target.name, state.entries[source].from, #claim)
    end
  end
end

-- ---- contract ----

-- Model keys that nothing fills: those that must not be missing, and all.
local function missing(state, set)
  local needed, all, total = {}, {}, 0
  for _, target in ipairs(state.targets) do
    local may = names.matches_any(set.may_miss, target.name)
    if not may then total = total + 1 end
    if not state.filled[target.name] then
      all[#all + 1] = target.name
      if not may then needed[#needed + 1] = target.name end
    end
  end
  return needed, all, total
end

-- A sentence if what `must` names is not there, or not filled.
local function check_must(state, set)
  for _, glob in ipairs(set.must or {}) do
    local named = false
    for _, target in ipairs(state.targets) do
      if names.matches(glob, target.name) then
        named = true
        if not state.filled[target.name] then return ("'%s' must be loaded ('%s')"):format(target.name, glob) end
      end
    end
    if not named then return ("load.require.must names '%s', which no model key matches"):format(glob) end
  end
  return nil
end

local function percent(part, whole) return ("%.1f %%"):format(100 * part / whole) end

local function check_contract(state, set, mode)
  local needed, _, total = missing(state, set)
  local threshold = mode == "resume" and set.resume or set.matched
  local matched = total - #needed
  if total == 0 or matched / total >= threshold then return check_must(state, set) end
  local text = ("%d of %d model keys are matched (%s), the contract asks for %s; without a source: %s; "
    .. "the file's keys: %s")
  return text:format(matched, total, percent(matched, total), percent(threshold, 1), names.list(needed, 3),
                     names.list(names_of(state.entries), 3))
end

-- ---- log ----

local function unused(state)
  local list = {}
  for i, entry in ipairs(state.entries) do
    if not state.used[i] then list[#list + 1] = entry.from end
  end
  return list
end

local function add_list(log, what, list)
  if #list > 0 then log[#log + 1] = ("  %s: %s"):format(what, names.list(list)) end
end

local function log_keys(log, plan)
  for _, a in ipairs(plan.assign) do
    log[#log + 1] = ("  %s <- %s%s"):format(a.to, a.from, a.ops and "  rgb->bgr" or "")
  end
end

local function log_load(plan, state, set, head)
  local _, left = missing(state, set)
  local map = state.map and (", map %s (%s)"):format(state.map.id or "?", state.map_why) or ""
  plan.log[1] = ("%s: %d of %d model keys%s."):format(head, #plan.assign, #state.targets, map)
  if set.verbose then log_keys(plan.log, plan) end
  add_list(plan.log, "left as initialised", left)
  add_list(plan.log, "unused in the file", unused(state))
  add_list(plan.log, "not in the map", state.unlisted)
  add_list(plan.log, "not matched", plan.mismatched)
end

-- ---- the other parts of a resume ----

-- A sentence if the file lacks what is bound.
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
  if #lacking > 0 and set.parts then
    return ("was saved without '%s', which the trainer has bound (load.require.parts = false to go on without)"):format(
      lacking[1])
  end
  add_list(plan.log, "resumed with it", back)
  add_list(plan.log, "not in the file, left as initialised", lacking)
  return nil
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

-- ---- plans ----

-- Everything up to the alignment: the state, and a sentence if it cannot be done.
local function match(run, source, set)
  local path, entries = select_tree(set.trees, source)
  if not path then
    return nil, ("there is no state dict in the file (looked at: '%s')"):format(table.concat(set.trees, "', '"))
  end
  local state = { path = path, entries = entries, targets = entries_of(run.model), unlisted = {}, assign = {},
                  mismatched = {}, filled = {}, used = {} }
  strip(entries, state.targets, set.strip)
  local why
  if source.mode == "pretrain" then
    state.map, state.map_why = find_map(set, entries)
    if state.map then why = apply_map(state, state.map) end
    if not why and set.rgb2bgr then why = convert(state, set) end
  end
  if not why then align(state, set) end
  return state, why
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@param source ckpt.Source
---@return ckpt.LoadPlan
function M.plan(policy, run, source)
  local set = settings(policy, run)
  local state, why = match(run, source, set)
  if not state then return { refuse = why, log = {} } end
  local resuming = source.mode == "resume"
  local plan = { select = state.path, assign = state.assign, mismatched = state.mismatched, log = {} }
  log_load(plan, state, set, (resuming and "Resuming from " or "Pre-training on ") .. source.path)
  why = why or check_contract(state, set, source.mode)
  if resuming then
    why = why or plan_parts(plan, run, source, set)
    plan.next_epoch = next_epoch(run, source)
  end
  plan.refuse = why
  return plan
end

return M
