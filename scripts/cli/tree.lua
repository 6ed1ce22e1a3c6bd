-- tree.lua: everything that is in a checkpoint, indented by where it is: for `ckpt inspect --tree`.

local describe = require "scripts.cli.describe"
local json = require "scripts.cli.json"
local text = require "scripts.cli.text"

local M = {}

local SHOWN_TOP, SHOWN = 50, 12 -- entries of the root, parts of any other container, unless all are asked for
local NAME_COLUMN, KIND_COLUMN = 46, 14

-- The piece of the path that is the entry's own: "weight", "[0]". The dot that joins is the container's, not a key's.
local function label_of(entry)
  local rest = entry.name:sub(entry.parent + 1)
  return entry.parent > 0 and rest:sub(1, 1) == "." and rest:sub(2) or rest
end

-- The entries of a checkpoint, one after the other, with the piece of path that is their own. Parts that are told with
-- the whole (the bytes of a numpy array, the items of a set) come with `hidden` set.
local function walk(cp)
  local next_entry, message, code = cp:entries()
  if not next_entry then return nil, message, code end
  local hidden = math.huge
  return function()
    local entry = next_entry()
    if not entry then return nil end
    entry.label = label_of(entry)
    if entry.depth <= hidden then hidden = math.huge end
    entry.hidden = entry.depth > hidden or entry.again
    if not entry.hidden then
      local whole
      entry.type, entry.detail, whole = describe.entry(entry)
      if whole then hidden = entry.depth end
    end
    return entry
  end
end

-- ---- text ----

local function line_of(entry)
  local label = entry.depth == 0 and "(top level)" or text.printable(entry.label)
  local name = ("  "):rep(entry.depth + 1) .. (label == "" and "''" or label)
  local line = text.pad(name, NAME_COLUMN) .. "  " .. text.pad(entry.type, KIND_COLUMN) .. "  " .. entry.detail
  if entry.aliases[1] then line = line .. "  = " .. text.some(entry.aliases, 1) end
  return (line:gsub("%s+$", ""))
end

-- When the walk leaves a container: how many of its parts were left out.
local function leave(seen, depth, deepest, limit)
  for d = deepest, depth + 1, -1 do
    local more = (seen[d] or 0) - limit(d)
    if more > 0 then text.say(("%s... %d more: --all"):format(("  "):rep(d + 1), more)) end
    seen[d] = nil
  end
end

---Prints the tree; with `fits`, all entries whose path fits.
---@param cp userdata
---@param all boolean every part of every container
---@param fits (fun(name: string): boolean)?
---@return true?, string? message, string? code
function M.print(cp, all, fits)
  local entries, message, code = walk(cp)
  if not entries then return nil, message, code end
  local function limit(depth) return (all or fits) and math.huge or depth <= 1 and SHOWN_TOP or SHOWN end
  local seen, deepest, cut = {}, 0, math.huge -- parts seen of the container at each depth; what is deeper is cut off
  for entry in entries do
    local depth = entry.depth
    leave(seen, depth, deepest, limit)
    deepest = depth
    if depth <= cut and not entry.hidden then
      seen[depth] = (seen[depth] or 0) + 1
      cut = seen[depth] > limit(depth) and depth or math.huge
      if cut == math.huge and (not fits or fits(entry.name)) then text.say(line_of(entry)) end
    end
  end
  leave(seen, -1, deepest, limit)
  return true
end

-- ---- JSON ----

local ORDER = { "path", "depth", "kind", "type", "value", "aliases" }
local SCALARS = { int = true, float = true, bool = true, str = true }

local function value_json(entry)
  if entry.kind == "None" then return json.null end
  if SCALARS[entry.kind] and type(entry.value) ~= "userdata" then return entry.value end
  if entry.kind == "dict" or entry.kind == "list" or entry.kind == "tuple" or entry.kind == "tensor" then return nil end
  return entry.detail
end

---The same as a list of objects; every entry, whatever the length.
---@param cp userdata
---@param fits (fun(name: string): boolean)?
---@return table[]?, string? message, string? code
function M.list(cp, fits)
  local entries, message, code = walk(cp)
  if not entries then return nil, message, code end
  local list = {}
  for entry in entries do
    if not entry.hidden and (not fits or fits(entry.name)) then
      list[#list + 1] = json.object(ORDER, {
        path = entry.name, depth = entry.depth, kind = entry.kind, type = entry.type, value = value_json(entry),
        aliases = entry.aliases[1] and entry.aliases or nil,
      })
    end
  end
  return list
end

return M
