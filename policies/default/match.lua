-- match.lua: which tensor of the file fills which of the model's. Part of policies/default.lua.
--
-- The stages, each on names and shapes only: select a state dict, strip prefixes, map, convert, align, compare shapes.
-- An entry is one tensor of the file, or what a rule makes of some: { from = its key, name = its key after the stages,
-- shape =, dtype =, ops = nil, expr = nil, rule = nil }. A target is a tensor of the model.
local names = require "policies.default.names"
local rules = require "policies.default.rules"
local rgb2bgr = require "policies.maps.conv1_rgb2bgr"

local M = {}

-- ---- tensors as entries ----

local SIZES = { bool = 1, complex64 = 8, complex128 = 16 }

-- Bytes of an element, by the number in the dtype's name.
local function element_size(dtype)
  return SIZES[dtype] or math.max((tonumber(dtype:match("%d+")) or 32) // 8, 1)
end

---@param shape integer[]
---@return integer
function M.numel(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end

---@param t { shape: integer[], dtype: string }
---@return integer
function M.bytes(t) return M.numel(t.shape) * element_size(t.dtype) end

---@param sd ckpt.StateDict
---@return table[]
function M.entries(sd)
  local entries = {}
  for name, tensor in pairs(sd) do
    entries[#entries + 1] = { from = name, name = name, shape = tensor.shape, dtype = tensor.dtype }
  end
  return entries
end

---The first tree that holds tensors: its path and entries, or nil.
---@param trees string[]
---@param source ckpt.Source
---@return string? path
---@return table[]? entries
function M.select(trees, source)
  for _, path in ipairs(trees) do
    local sd = source.state_dict(path)
    if sd and #sd > 0 then return path, M.entries(sd) end
  end
  return nil
end

---@param entries table[]
---@return string[]
function M.names(entries)
  local list = {}
  for i, entry in ipairs(entries) do list[i] = entry.name end
  return list
end

-- ---- strip ----

local function begins(name, prefix) return name:sub(1, #prefix) == prefix end

local function all_have(entries, prefix)
  for _, entry in ipairs(entries) do
    if not begins(entry.name, prefix) then return false end
  end
  return #entries > 0
end

local function some_have(entries, prefix)
  for _, entry in ipairs(entries) do
    if begins(entry.name, prefix) and #entry.name > #prefix then return true end
  end
  return false
end

---Takes prefixes off, in any nesting, until nothing is left to take off: those that all keys of the file begin with and
---the model's do not; with mode = "each" from every key that has one.
---@param entries table[]
---@param targets table[]
---@param prefixes string[]
function M.strip(entries, targets, prefixes)
  local each, i = prefixes.mode == "each", 1
  while i <= #prefixes do
    local prefix = prefixes[i]
    i = i + 1
    local goes = prefix and prefix ~= "" and (each and some_have(entries, prefix)
      or not each and all_have(entries, prefix) and not all_have(targets, prefix))
    for _, entry in ipairs(goes and entries or {}) do
      if begins(entry.name, prefix) and #entry.name > #prefix then entry.name = entry.name:sub(#prefix + 1) end
    end
    if goes then i = 1 end
  end
end

-- ---- convert ----

local function find_name(entries, name)
  for _, entry in ipairs(entries) do
    if entry.name == name then return entry end
  end
  return nil
end

-- A sentence if it cannot be.
local function convert(state, set)
  local key = type(set.rgb2bgr) == "string" and set.rgb2bgr or state.first_conv or rgb2bgr.key
  local entry = find_name(state.entries, key)
  if not entry then return ("rgb2bgr is set, but the file has no key '%s'"):format(key) end
  local ops, shape = rgb2bgr.apply(key, entry.shape)
  if not ops then return shape end
  entry.ops, entry.shape = ops, shape
  return nil
end

-- ---- align ----

---For each target the index of its source, or false.
---@param set ckpt.default.LoadSettings
---@param targets table[]
---@param source_names string[]
---@return (integer|false)[]
function M.find_sources(set, targets, source_names)
  if set.mode == "suffix" then return ckpt.align(M.names(targets), source_names, set.boundary or nil) end
  local by_name, found = {}, {}
  for i, name in ipairs(source_names) do by_name[name] = i end
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
local function winner(targets, claim, name)
  if #claim == 1 then return claim[1] end
  for _, target in ipairs(claim) do
    if targets[target].name == name then return target end
  end
  return nil
end

---@param shape integer[]
---@return string
function M.brackets(shape) return "[" .. table.concat(shape, ", ") .. "]" end

---@param a integer[]
---@param b integer[]
---@return boolean
function M.same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

---How many model keys would get a tensor of their shape from these entries.
---@param set ckpt.default.LoadSettings
---@param targets table[]
---@param entries table[]
---@return integer
function M.count(set, targets, entries)
  local n, taken = 0, {}
  for i, source in ipairs(M.find_sources(set, targets, M.names(entries))) do
    local fits = source and entries[source].shape and M.same_shape(targets[i].shape, entries[source].shape)
    if fits and (set.fanout or not taken[source]) then n, taken[source] = n + 1, true end
  end
  return n
end

-- ---- other shapes ----

-- What stays and what is left out when the corners are laid on each other.
local function overlap_note(file, model)
  local parts = {}
  for i, size in ipairs(model) do
    if size > file[i] then
      parts[#parts + 1] = ("%d to %d of dimension %d stay as initialised"):format(file[i], size - 1, i - 1)
    elseif size < file[i] then
      parts[#parts + 1] = ("the file's %d to %d of dimension %d are left out"):format(size, file[i] - 1, i - 1)
    end
  end
  return table.concat(parts, "; ")
end

local function overlap_share(file, model)
  local common, all = 1, M.numel(model)
  for i, size in ipairs(model) do common = common * math.min(size, file[i]) end
  return all == 0 and 1 or common / all
end

---The expression of the entry under its own operations and some more.
---@param entry table
---@param more ckpt.Op[]
function M.under(entry, more)
  local expr = entry.expr or entry.from
  for _, list in ipairs { entry.ops or {}, more } do
    for _, op in ipairs(list) do
      local node = table.move(op, 1, #op, 1, {})
      node.of, expr = expr, node
    end
  end
  return expr
end

local PLAIN = {}

local function fill(state, target, entry, how)
  how = how or PLAIN
  local expr = how.expr or (entry.expr and M.under(entry, {}))
  state.filled[target.name], state.used[entry] = how.share or 1, true
  local a = { to = target.name } -- a constructor would make room for the fields that are nil, 100,000 times
  if expr then a.expr = expr else a.from, a.ops = entry.from, entry.ops end
  a.rule, a.overlap, a.note = entry.rule, how.overlap, how.note
  state.assign[#state.assign + 1] = a
end

local function leave(state, target, entry, status, why)
  table.insert(state.mismatched, target.name .. ": " .. why)
  table.insert(state.unfilled, { to = target.name, from = entry.from, rule = entry.rule, status = status, note = why })
end

local function shapes_text(entry, target)
  return ("file %s, model %s"):format(M.brackets(entry.shape), M.brackets(target.shape))
end

local actions = {}

function actions.skip(state, target, entry) leave(state, target, entry, "mismatched", shapes_text(entry, target)) end

function actions.error(state, target, entry)
  actions.skip(state, target, entry)
  table.insert(state.faults, ("'%s' has another shape (%s), and load.on_mismatch = 'error'"):format(target.name,
    shapes_text(entry, target)))
end

function actions.overlap(state, target, entry)
  if #entry.shape ~= #target.shape or #target.shape == 0 then return actions.skip(state, target, entry) end
  local file, model = entry.shape, target.shape
  fill(state, target, entry, { overlap = true, note = overlap_note(file, model), share = overlap_share(file, model) })
end

-- Operations of the policy's, after those of the rule.
local function with_ops(state, target, entry, more)
  local expr = M.under(entry, more)
  state.source_dict = state.source_dict or state.source.state_dict(state.path)
  local shape, why = ckpt.infer(expr, state.source_dict)
  if shape and M.same_shape(shape, target.shape) then return fill(state, target, entry, { expr = expr }) end
  leave(state, target, entry, "mismatched", shape and ("load.on_mismatch makes %s of it, model %s"):format(
    M.brackets(shape), M.brackets(target.shape)) or why)
end

local function tensor_of(entry) return { shape = entry.shape, dtype = entry.dtype } end

local function other_shape(state, set, target, entry)
  local action = set.on_mismatch
  if type(action) == "function" then
    action = action(target.name, tensor_of(entry), tensor_of(target))
    if type(action) == "table" then return with_ops(state, target, entry, action) end
    if action == nil then action = "skip" end
  end
  if not actions[action] then
    error(("load.on_mismatch returned '%s' for '%s': it must be 'skip', 'error', 'overlap' or a list of operations")
      :format(tostring(action), target.name), 0)
  end
  actions[action](state, target, entry)
end

local function assign(state, set, target, entry)
  if M.same_shape(target.shape, entry.shape) then return fill(state, target, entry) end
  other_shape(state, set, target, entry)
end

-- Targets that load.reset names are none: what the file has for them goes unused.
local function loadable(state, set)
  local list = {}
  for _, target in ipairs(state.targets) do
    target.reset = names.matches_any(set.reset, target.name)
    if target.reset then
      table.insert(state.unfilled, { to = target.name, status = "reset", note = "load.reset" })
    else
      list[#list + 1] = target
    end
  end
  return list
end

local function align(state, set)
  local targets = loadable(state, set)
  local found = M.find_sources(set, targets, M.names(state.entries))
  local claims = claims_of(found)
  for i, target in ipairs(targets) do
    local entry = found[i] and state.entries[found[i]]
    local claim = entry and claims[found[i]]
    if entry and (set.fanout or winner(targets, claim, entry.name) == i) then
      assign(state, set, target, entry)
    elseif entry then
      leave(state, target, entry, "colliding", ("'%s' fits %d model keys"):format(entry.from, #claim))
    end
  end
end

-- ---- all stages ----

---@class ckpt.default.Match
---@field path string where the state dict is in the file
---@field entries table[]
---@field targets table[] of the model
---@field assign table[] of the plan
---@field filled table<string, number> model key -> share of it that is filled
---@field used table<table, boolean> entry -> true
---@field unfilled table[]
---@field mismatched string[]
---@field faults string[] sentences: why it cannot be

---Everything up to the shapes; nil and a sentence if there is nothing to start from.
---@param run ckpt.Run
---@param source ckpt.Source
---@param set ckpt.default.LoadSettings
---@return ckpt.default.Match?
---@return string? why
function M.match(run, source, set)
  local trees = rules.trees(set, run)
  local path, entries = M.select(trees, source)
  if not path then
    return nil, ("there is no state dict in the file (looked at: '%s')"):format(table.concat(trees, "', '"))
  end
  local state = { path = path, entries = entries, file_entries = entries, source = source,
                  targets = M.entries(run.model), checks = {}, unlisted = {}, dropped = {}, unfired = {}, assign = {},
                  mismatched = {}, filled = {}, used = {}, unfilled = {}, faults = {} }
  M.strip(entries, state.targets, set.strip)
  if set.map then rules.apply(state, set, run, source, M.count) end
  if #state.faults == 0 and set.rgb2bgr then state.faults[1] = convert(state, set) end
  if #state.faults == 0 then align(state, set) else state.unmapped = true end
  return state
end

return M
