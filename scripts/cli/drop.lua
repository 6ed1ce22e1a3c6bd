-- drop.lua: takes what the user names out of an opened checkpoint, in memory: tensors, plain values, whole containers.
--
-- What is named goes from the dict or object that holds it; an item of a list becomes None, so that the others keep
-- their places. A dict that nothing is left of goes too. What is part of a call or a tuple cannot go alone.

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

-- ---- slots: where an entry hangs ----

---@class drop.Slot
---@field name string path
---@field label string the last piece of it
---@field value any
---@field up drop.Slot? the container's
---@field gone boolean

local function key_text(key)
  if math.type(key) == "integer" then return ("%d"):format(key) end
  if type(key) == "boolean" then return key and "True" or "False" end
  return tostring(key)
end

-- The key of a container that a piece of path stands for; nil if none does.
local function key_of(container, label)
  if ckpt.type(container) ~= "dict" and ckpt.type(container) ~= "object" then return nil end
  if ckpt.has(container, label) then return label end
  for _, key in ipairs(ckpt.keys(container)) do
    if key_text(key) == label then return key end
  end
end

-- Index from 1 of an item of a list.
local function index_of(container, label)
  local index = label:match("^%[(%d+)%]$")
  return ckpt.type(container) == "list" and index and math.tointeger(index) + 1 or nil
end

local function field_of(container, label)
  local kind = ckpt.type(container)
  local state = (kind == "object" or kind == "dict") and ckpt.state(container) or nil
  if state and ckpt.type(state) == "dict" and ckpt.has(state, label) then return state end
end

-- Takes one slot out of its container; false if the container cannot be without it.
local function take_out(slot)
  local container = slot.up.value
  local key, index = key_of(container, slot.label), index_of(container, slot.label)
  if key ~= nil then
    ckpt.remove(container, key)
  elseif index then
    container[index] = ckpt.none
  else
    local state = field_of(container, slot.label)
    if not state then return false end
    ckpt.remove(state, slot.label)
  end
  slot.gone = true
  return true
end

local function is_empty_dict(slot)
  return slot.up ~= nil and ckpt.type(slot.value) == "dict" and #slot.value == 0
end

-- ---- what fits ----

local function label_of(entry)
  local rest = entry.name:sub(entry.parent + 1)
  return entry.parent > 0 and rest:sub(1, 1) == "." and rest:sub(2) or rest
end

-- The container at a path that is an alias only.
local function container_at(cp, path) return { name = path, label = path, value = cp:at(path) } end

-- Slots of what fits, not of what is inside something that fits.
local function find(cp, fits)
  local above, list, inside = {}, {}, math.huge
  for entry in assert(cp:entries()) do
    if entry.depth <= inside then
      local up = entry.again and container_at(cp, entry.name:sub(1, entry.parent)) or above[entry.depth - 1]
      if entry.depth == 0 then up = nil end
      local slot = { name = entry.name, label = label_of(entry), value = entry.value, up = up }
      above[entry.depth] = slot
      inside = fits(entry.name) and entry.depth or math.huge
      if inside < math.huge then list[#list + 1] = slot end
      for _, alias in ipairs(entry.aliases) do
        if fits(alias) then list[#list + 1] = { name = alias, alias = true } end
      end
    end
  end
  return list
end

-- An alias is another slot of the same thing: its container is found by the longest path that leads to one.
local function resolve_alias(cp, slot)
  local at = #slot.name
  while at >= 1 do
    local c = slot.name:sub(at, at)
    if c == "." or c == "[" then
      local parent = slot.name:sub(1, at - 1)
      local label = c == "." and slot.name:sub(at + 1) or slot.name:sub(at)
      local value = cp:at(parent)
      if type(value) == "userdata" and (key_of(value, label) ~= nil or index_of(value, label)) then
        return { name = slot.name, label = label, value = nil, up = { name = parent, value = value } }
      end
    end
    at = at - 1
  end
  return { name = slot.name, label = slot.name, value = nil, up = { name = "", value = cp:at("") } }
end

---Takes out everything whose path fits.
---@param cp userdata
---@param fits fun(path: string): boolean
---@return string[]? names of what was taken out
---@return string? message
---@return string? code
function M.take(cp, fits)
  local names = {}
  for _, slot in ipairs(find(cp, fits)) do
    if slot.alias then slot = resolve_alias(cp, slot) end
    if not slot.up then return nil, "the whole checkpoint would be dropped", "argument" end
    if not slot.up.gone and not take_out(slot) then
      return nil, ("'%s' cannot be dropped alone: it is part of '%s'"):format(text.printable(slot.name),
        text.printable(slot.up.name == "" and "(top level)" or slot.up.name)), "argument"
    end
    names[#names + 1] = slot.name
    local up = slot.up
    while is_empty_dict(up) and not up.gone and take_out(up) do up = up.up end
  end
  return names
end

return M
