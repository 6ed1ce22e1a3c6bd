-- transfer.lua: which tensor of a file fills which tensor of the model: prefixes, tables, suffix alignment, load contract.
-- Names and shapes only.

local rgb2bgr = require "policies.maps.conv1_rgb2bgr"

local M = {}

-- Built-in tables that "auto" looks for by the file's keys.
local MAPS = { "vgg16_reducedfc" }

local function has(list, wanted)
  for _, item in ipairs(list) do
    if item == wanted then return true end
  end
  return false
end

-- "*" stands for anything, everything else for itself; the whole name must match.
local function matches_any(name, globs)
  for _, glob in ipairs(globs or {}) do
    local pattern = glob:gsub("[%^%$%(%)%%%.%[%]%+%-%?]", "%%%0"):gsub("%*", ".*")
    if name:find("^" .. pattern .. "$") then return true end
  end
  return false
end

local function shape_text(shape)
  return "[" .. table.concat(shape, ",") .. "]"
end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- The first of the named trees that is there and holds tensors. "" is the file itself.
function M.select(source, trees)
  for _, path in ipairs(type(trees) == "string" and { trees } or trees) do
    if path == "" or has(source.keys, path) or path:find(".", 1, true) then
      local state_dict = source.state_dict(path)
      if state_dict and #state_dict > 0 then return path, state_dict end
    end
  end
end

function M.entries(state_dict)
  local entries = {}
  for name, tensor in pairs(state_dict) do
    entries[#entries + 1] = { from = name, name = name, shape = tensor.shape, tensor = tensor }
  end
  return entries
end

-- Takes off prefixes that every key has, again and again until none fits.
function M.strip(entries, prefixes)
  local stripped = {}
  local function strip_one(prefix)
    for _, entry in ipairs(entries) do
      if entry.name:sub(1, #prefix) ~= prefix then return false end
    end
    for _, entry in ipairs(entries) do entry.name = entry.name:sub(#prefix + 1) end
    stripped[#stripped + 1] = prefix
    return #entries > 0
  end
  local again = #entries > 0
  while again do
    again = false
    for _, prefix in ipairs(prefixes or {}) do again = strip_one(prefix) or again end
  end
  return stripped
end

local function load_map(map)
  return type(map) == "table" and map or require("policies.maps." .. map)
end

-- The table that a load names, or with "auto" the first whose marker keys are all there.
function M.find_map(map, entries)
  if not map then return nil end
  if map ~= "auto" then return load_map(map) end
  local names = {}
  for _, entry in ipairs(entries) do names[entry.name] = true end
  for _, id in ipairs(MAPS) do
    local candidate, fits = load_map(id), true
    for _, key in ipairs(candidate.detect.keys) do fits = fits and names[key] end
    if fits then return candidate end
  end
end

-- Renames by a table; keys that it does not list are left out and returned.
function M.apply_map(map, entries)
  local to, mapped, unlisted = {}, {}, {}
  for _, row in ipairs(map.table) do to[row[1]] = row[2] end
  for _, entry in ipairs(entries) do
    if to[entry.name] then
      entry.name = to[entry.name]
      mapped[#mapped + 1] = entry
    else
      unlisted[#unlisted + 1] = entry.name
    end
  end
  return mapped, unlisted
end

-- Reverses the input channels of the first convolution; a sentence if there is none.
function M.swap_channels(entries, key)
  for _, entry in ipairs(entries) do
    if entry.name == key or entry.name:sub(-#key - 1) == "." .. key then
      if not rgb2bgr.fits(entry.tensor) then return ("'%s' has no three input channels to swap"):format(key) end
      entry.ops = { rgb2bgr.op() }
      return nil
    end
  end
  return ("there is no '%s' whose channels could be swapped"):format(key)
end

-- Which entry feeds each model key. An exact name wins; a source that fits several others feeds none of them.
local function choose(names, entries, align)
  local sources = {}
  for i, entry in ipairs(entries) do sources[i] = entry.name end
  local found = ckpt.align(names, sources, align and align.boundary or ".")
  local exact, claims = {}, {}
  for i, index in ipairs(found) do
    if index and names[i] == sources[index] then exact[index] = i end
    if index then claims[index] = (claims[index] or 0) + 1 end
  end
  local chosen, ambiguous = {}, {}
  for i, index in ipairs(found) do
    if index and exact[index] == i then
      chosen[i] = index
    elseif index and align and not exact[index] then
      if claims[index] == 1 or align.fanout then chosen[i] = index else ambiguous[i] = index end
    end
  end
  return chosen, ambiguous
end

local function model_names(model)
  local names = {}
  for name in pairs(model) do names[#names + 1] = name end
  return names
end

-- Fills plan.assign and plan.mismatched; returns the model keys that stay unfilled.
function M.assign(plan, model, entries, align)
  local names, missing = model_names(model), {}
  local chosen, ambiguous = choose(names, entries, align)
  for i, name in ipairs(names) do
    local entry = entries[chosen[i] or ambiguous[i]]
    local shape = model[name].shape
    if chosen[i] and same_shape(shape, entry.shape) then
      plan.assign[#plan.assign + 1] = { to = name, from = entry.from, ops = entry.ops }
    else
      missing[#missing + 1] = name
      if ambiguous[i] then
        plan.mismatched[#plan.mismatched + 1] = ("%s: '%s' fits other keys as well"):format(name, entry.from)
      elseif entry then
        plan.mismatched[#plan.mismatched + 1] = ("%s: file %s, model %s"):format(
          name, shape_text(entry.shape), shape_text(shape))
      end
    end
  end
  return missing, #names
end

local function first_names(names)
  local shown = { table.unpack(names, 1, 3) }
  for i, name in ipairs(shown) do shown[i] = "'" .. name .. "'" end
  return table.concat(shown, ", ") .. (#names > 3 and (" and %d more"):format(#names - 3) or "")
end

-- The load contract: a sentence if it is not met. `matched` is a fraction of the model's keys; `may_miss` keys do not count.
function M.violation(require_, missing, total)
  local counted = {}
  for _, name in ipairs(missing) do
    if matches_any(name, require_.must) then return ("'%s' must be filled and is not"):format(name) end
    if not matches_any(name, require_.may_miss) then counted[#counted + 1] = name end
  end
  local matched = total - #counted
  if total == 0 or matched / total >= require_.matched then return nil end
  return ("%d of %d model keys matched, the contract wants %g %%; unfilled: %s"):format(
    matched, total, 100 * require_.matched, first_names(counted))
end

return M
