-- rules.lua: the mapping rules of a load: which set, and what it makes of the file's tensors. Part of
-- policies/default.lua; the language is policies/maps/README.md, its engine policies/rules.lua.
local engine = require "policies.rules"

local M = {}

-- ---- which set ----

local function by_name(name)
  local ok, map = pcall(require, "policies.maps." .. name)
  if ok then return map end
  error(("there is no rule set '%s': %s"):format(name, tostring(map):match("[^\n]*")), 0)
end

-- The set that the load asks for, whatever the file holds: it and how it was chosen; nil for none.
local function asked(set, run)
  local map = set.map
  if type(map) == "string" and run.rules and run.options.map == map then return run.rules, "by its file" end
  if type(map) == "function" then return { id = "function", rename = map }, "by the policy" end
  if type(map) == "table" then return map, "by the policy" end
  return by_name(map), "by name"
end

local function is_none(map) return not map or map == "none" end

---The trees to look for a state dict in: a set may say where its tensors are.
---@param set ckpt.default.LoadSettings
---@param run ckpt.Run
---@return string[]
function M.trees(set, run)
  if is_none(set.map) or set.map == "auto" then return set.trees end
  local map = asked(set, run)
  if type(map.select) == "string" then return { map.select } end
  return map.select or set.trees
end

local function sources_of(entries)
  local list = {}
  for i, entry in ipairs(entries) do
    list[i] = { name = entry.name, shape = entry.shape, dtype = entry.dtype }
  end
  return list
end

local function index(entries)
  local by_key = {}
  for _, entry in ipairs(entries) do by_key[entry.name] = true end
  return by_key
end

-- Whether a set is out of the question: a key that it must have, said wholly, is not there. Spares large files work.
local function lacks_key(map, by_key)
  local keys = type(map.detect) == "table" and not map.peel and map.detect.keys or {}
  for _, key in ipairs(keys) do
    if not key:find("[{:]") and not by_key[key] then return true end
  end
  return false
end

-- Sets that cannot be compiled fit nothing here: who names such a set is told what is wrong with it.
local function fits(map, entries, by_key)
  return not lacks_key(map, by_key) and engine.detect({ map }, sources_of(entries)) ~= nil
end

local function detect(maps, entries)
  local by_key = index(entries)
  for _, id in ipairs(maps) do
    local map = type(id) == "table" and id or by_name(id)
    if fits(map, entries, by_key) then return map end
  end
  return nil
end

local function find_map(set, run, entries)
  if is_none(set.map) then return nil end
  if set.map ~= "auto" then return asked(set, run) end
  return detect(set.maps, entries), "found by its keys"
end

-- ---- short forms: a table of rows, a function ----

local SHORT = { id = true, from = true, to = true, version = true, detect = true, table = true, rename = true,
                first_conv = true }

-- Nothing but whole keys and their new names.
local function is_short(map)
  for field in pairs(map) do
    if not SHORT[field] then return false end
  end
  return true
end

local function renamer(map)
  if map.rename then return map.rename end
  local to = {}
  for _, row in ipairs(map.table or {}) do to[row[1]] = row[2] end
  return function(name) return to[name] end
end

-- A key that the map does not list keeps its name and is reported.
local function apply_short(state, map)
  local rename, taken = renamer(map), {}
  for _, entry in ipairs(state.entries) do
    local name = rename(entry.name, entry.shape)
    if name == nil then state.unlisted[#state.unlisted + 1] = entry.from end
    entry.name = name or entry.name
    local other = taken[entry.name]
    if other then
      table.insert(state.faults, ("map '%s' gives both '%s' and '%s' the name '%s'"):format(map.id or "?", other,
        entry.from, entry.name))
    end
    taken[entry.name] = entry.from
  end
end

-- ---- rule sets ----

local function add_faults(state, problems)
  for _, problem in ipairs(problems) do table.insert(state.faults, engine.problem_text(problem)) end
end

-- Variables: the run's options before the policy's.
local function variables(set, run)
  local vars = {}
  for name, value in pairs(set.vars or {}) do vars[name] = value end
  for name, value in pairs(run.options) do vars[name] = value end
  return vars
end

-- What the file says of its model, and over it the run's options `config.NAME`.
local function config_of(source, run)
  local config = {}
  for _, name in ipairs { "args", "hyper_parameters", "config" } do
    local values = source.values[name]
    if type(values) == "table" then config = values end
  end
  local copy
  for name, value in pairs(run.options) do
    local key = name:match "^config%.(.+)$"
    if key and not copy then
      copy = {}
      for k, v in pairs(config) do copy[k] = v end
    end
    if key then copy[key] = value end
  end
  return copy or config
end

-- The rules saw names without the prefixes that load.strip takes off; the file has them.
local function relabel(expr, from)
  if type(expr) == "string" then return from[expr] or expr end
  if type(expr) ~= "table" then return expr end
  local copy = table.move(expr, 1, #expr, 1, {})
  local of, many = expr.of, type(expr.of) == "table" and type(expr.of[1]) ~= "string"
  if of == nil then return copy end
  if type(of) == "table" and (many or expr.many) then
    copy.of = {}
    for i, item in ipairs(of) do copy.of[i] = relabel(item, from) end
  else
    copy.of = relabel(of, from)
  end
  return copy
end

local function original_names(entries)
  local from, changed = {}, false
  for _, entry in ipairs(entries) do
    from[entry.name], changed = entry.from, changed or entry.name ~= entry.from
  end
  return from, changed
end

local function relabel_list(list, from)
  local out = {}
  for i, name in ipairs(list) do out[i] = from[name] or name end
  return out
end

local function entry_of(output, from, changed)
  local expr = changed and relabel(output.expr, from) or output.expr
  local plain = type(expr) == "string"
  return { name = output.to, from = plain and expr or from[output.from], expr = not plain and expr or nil,
           sources = relabel_list(output.sources, from), shape = output.shape, dtype = output.dtype,
           rule = output.rule }
end

local function add_unfired(state, list)
  for _, rule in ipairs(list) do
    if not rule.optional then table.insert(state.unfired, rule.rule) end
  end
end

local function take_plan(state, plan)
  local from, changed = original_names(state.entries)
  add_faults(state, plan.problems)
  add_unfired(state, plan.unfired)
  for _, item in ipairs(plan.dropped) do
    table.insert(state.dropped, { from = from[item.from] or item.from, rule = item.rule })
  end
  for _, check in ipairs(plan.checks) do
    table.insert(state.checks, { from[check.a] or check.a, from[check.b] or check.b, rule = check.rule })
  end
  local entries = {}
  for i, output in ipairs(plan.outputs) do entries[i] = entry_of(output, from, changed) end
  state.entries = entries
end

local function apply_set(state, set, run, source, map)
  local compiled, problems = engine.compile(map)
  if not compiled then return add_faults(state, problems) end
  local plan = engine.plan(compiled, sources_of(state.entries), {
    target = sources_of(state.targets), vars = variables(set, run), config = config_of(source, run),
    marks = source.metadata,
  })
  take_plan(state, plan)
end

-- ---- both ----

local function use(state, set, run, source, map)
  if is_short(map) then return apply_short(state, map) end
  apply_set(state, set, run, source, map)
end

-- A state of the same file before any rules.
local function trial_of(state)
  local trial = { entries = {}, targets = state.targets, faults = {}, unlisted = {}, dropped = {}, unfired = {},
                  checks = {} }
  for i, entry in ipairs(state.file_entries) do
    trial.entries[i] = { from = entry.from, name = entry.name, shape = entry.shape, dtype = entry.dtype }
  end
  return trial
end

-- A set that was found by the keys is of no use where more of them fit as they are.
local function is_worse(trial, set, state, count)
  return #trial.faults == 0
    and count(set, state.targets, trial.entries) < count(set, state.targets, state.entries)
end

---Gives the entries new names and contents, as the rules of the load say.
---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
---@param run ckpt.Run
---@param source ckpt.Source
---@param count fun(set: ckpt.default.LoadSettings, targets: table[], entries: table[]): integer
function M.apply(state, set, run, source, count)
  local map, why = find_map(set, run, state.entries)
  if not map then return end
  local trial = trial_of(state)
  use(trial, set, run, source, map)
  if set.map == "auto" and is_worse(trial, set, state, count) then return end
  for field, value in pairs(trial) do state[field] = value end
  state.map, state.first_conv = ("%s (%s)"):format(map.id or "?", why), map.first_conv
end

---How many model keys a rule set of that name would match, were it used; nil where it does not fit the file. Nothing of
---the state changes.
---@param id string
---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
---@param run ckpt.Run
---@param source ckpt.Source
---@param count fun(set: ckpt.default.LoadSettings, targets: table[], entries: table[]): integer
---@return integer?
function M.try(id, state, set, run, source, count)
  local ok, map = pcall(by_name, id)
  state.by_key = state.by_key or index(state.file_entries)
  if not ok or not fits(map, state.file_entries, state.by_key) then return nil end
  local trial = trial_of(state)
  use(trial, set, run, source, map)
  if #trial.faults > 0 then return nil end
  return count(set, trial.targets, trial.entries)
end

return M
