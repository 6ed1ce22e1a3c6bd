-- rules.lua: the mapping rules of a load: which set, and what it makes of the file's tensors. Part of
-- policies/default.lua.
local M = {}

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
local function apply_table(state, map)
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

---Gives the entries new names and contents, as the rules of the load say.
---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
function M.apply(state, set)
  local map, why = find_map(set, state.entries)
  if not map then return end
  state.map, state.first_conv = ("%s (%s)"):format(map.id or "?", why), map.first_conv
  apply_table(state, map)
end

return M
