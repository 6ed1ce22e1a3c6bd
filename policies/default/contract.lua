-- contract.lua: whether what a load would fill is enough, and every condition that is not met. Part of
-- policies/default.lua.
local names = require "policies.default.names"
local match = require "policies.default.match"

local M = {}

-- ---- counting ----

---@class ckpt.default.Count
---@field needed string[] model keys that nothing fills and that must not be missing
---@field left string[] all that nothing fills
---@field total integer keys that count
---@field bytes integer of those
---@field filled number bytes of those that are filled

---Keys that load.require.may_miss or load.reset names do not count.
---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
---@return ckpt.default.Count
function M.count(state, set)
  local count = { needed = {}, left = {}, total = 0, bytes = 0, filled = 0 }
  for _, target in ipairs(state.targets) do
    local counts = not target.reset and not names.matches_any(set.may_miss, target.name)
    local share, bytes = state.filled[target.name] or 0, match.bytes(target)
    if counts then
      count.total, count.bytes = count.total + 1, count.bytes + bytes
      count.filled = count.filled + share * bytes
    end
    if share == 0 then table.insert(count.left, target.name) end
    if share == 0 and counts then table.insert(count.needed, target.name) end
  end
  return count
end

---Keys of the file that feed nothing and that no rule dropped.
---@param state ckpt.default.Match
---@return string[]
function M.unused(state)
  local used, list = {}, {}
  for _, item in ipairs(state.dropped) do used[item.from] = true end
  for entry in pairs(state.used) do
    for _, key in ipairs(entry.sources or { entry.from }) do used[key] = true end
  end
  for _, entry in ipairs(state.file_entries) do
    if not used[entry.from] then list[#list + 1] = entry.from end
  end
  return list
end

-- ---- conditions: each adds its sentences ----

local function percent(part, whole) return ("%.1f %%"):format(100 * part / whole) end

local function check_keys(add, state, set, count)
  local threshold = set.resuming and set.resume or set.matched
  local matched = count.total - #count.needed
  if count.total == 0 or matched / count.total >= threshold then return end
  local text = ("%d of %d model keys are matched (%s), the contract asks for %s; without a source: %s; "
    .. "the file's keys: %s")
  add(text:format(matched, count.total, percent(matched, count.total), percent(threshold, 1),
                  names.list(count.needed, 3), names.list(match.names(state.entries), 3)))
end

local function check_bytes(add, _, set, count)
  if set.resuming or count.bytes == 0 or count.filled / count.bytes >= set.bytes then return end
  add(("%s of the model's bytes are matched, the contract asks for %s (load.require.bytes)"):format(
    percent(count.filled, count.bytes), percent(set.bytes, 1)))
end

-- The model keys that a glob names, and those of them that nothing fills.
local function named(state, glob)
  local any, empty = false, {}
  for _, target in ipairs(state.targets) do
    if names.matches(glob, target.name) then
      any = true
      if not state.filled[target.name] then empty[#empty + 1] = target.name end
    end
  end
  return any, empty
end

local function check_must(add, state, set)
  for _, glob in ipairs(set.must or {}) do
    local any, empty = named(state, glob)
    if not any then add(("load.require.must names '%s', which no model key matches"):format(glob)) end
    if #empty == 1 then add(("'%s' must be loaded ('%s')"):format(empty[1], glob)) end
    if #empty > 1 then add(("%d keys must be loaded ('%s'): %s"):format(#empty, glob, names.list(empty, 3))) end
  end
end

-- A head that was renamed in the model would be loaded after all.
local function check_reset(add, state, set)
  for _, glob in ipairs(set.reset) do
    if not named(state, glob) then add(("load.reset names '%s', which no model key matches"):format(glob)) end
  end
end

local function check_unexpected(add, state, set)
  if not set.max_unexpected then return end
  local extra = {}
  for _, key in ipairs(M.unused(state)) do
    if not names.matches_any(set.may_ignore, key) then extra[#extra + 1] = key end
  end
  if #extra <= set.max_unexpected then return end
  add(("%d keys of the file are of no use, the contract allows %d (load.require.max_unexpected): %s"):format(#extra,
    set.max_unexpected, names.list(extra, 3)))
end

---What is asked for, in a few words: "matched >= 0.5, must 2".
---@param set ckpt.default.LoadSettings
---@return string
function M.describe(set)
  local parts = { ("matched >= %g"):format(set.resuming and set.resume or set.matched) }
  if not set.resuming and set.bytes > 0 then parts[#parts + 1] = ("bytes >= %g"):format(set.bytes) end
  if set.must then parts[#parts + 1] = "must " .. names.list(set.must, 2) end
  if set.max_unexpected then parts[#parts + 1] = ("unexpected <= %d"):format(set.max_unexpected) end
  return table.concat(parts, ", ")
end

---The conditions that are not met, one sentence each, in a fixed order.
---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
---@param count ckpt.default.Count
---@return string[]
function M.violations(state, set, count)
  local list = table.move(state.faults, 1, #state.faults, 1, {})
  local function add(sentence) list[#list + 1] = sentence end
  if state.unmapped then return list end
  for _, check in ipairs { check_keys, check_bytes, check_must, check_reset, check_unexpected } do
    check(add, state, set, count)
  end
  return list
end

return M
