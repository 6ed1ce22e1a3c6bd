-- survey.lua: what is in a checkpoint, as `ckpt inspect` tells it: sums per top-level key. What is odd
-- about it is warnings.lua's.

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

---@class survey.Sum
---@field tensors integer
---@field numel integer
---@field bytes integer
---@field dtypes string[] in the order of the file
---@field by_dtype table<string, integer> bytes

---@return survey.Sum
local function new_sum() return { tensors = 0, numel = 0, bytes = 0, dtypes = {}, by_dtype = {} } end

local function add_tensor(sum, tensor)
  local dtype, bytes = tensor.dtype, tensor.nbytes
  sum.tensors, sum.numel, sum.bytes = sum.tensors + 1, sum.numel + tensor.numel, sum.bytes + bytes
  if not sum.by_dtype[dtype] then sum.dtypes[#sum.dtypes + 1] = dtype end
  sum.by_dtype[dtype] = (sum.by_dtype[dtype] or 0) + bytes
end

-- The longest top-level key that a path begins with, or nil. Keys may themselves hold dots.
local function top_key(path, known)
  local found = known[path] and path or nil
  for at in path:gmatch("()[.[]") do
    local head = path:sub(1, at - 1)
    if known[head] then found = head end
  end
  return found
end

-- ---- top-level entries ----

local function key_text(key, is_dict)
  if not is_dict then return ("[%d]"):format(key - 1) end
  return tostring(key)
end

local function is_root_dict(kind) return kind == "dict" or kind == "object" end

-- Entries of the root that are no tensors: { name, kind, value }; the tensors among them are one sum.
local function top_entries(root, kind)
  local entries, known = {}, {}
  for key, value in pairs(root) do
    local name, value_kind = key_text(key, is_root_dict(kind)), ckpt.type(value)
    if value_kind ~= "tensor" then
      entries[#entries + 1] = { name = name, kind = value_kind, value = value }
      known[name] = true
    end
  end
  return entries, known
end

local CONTAINERS = { dict = true, list = true, tuple = true, set = true, frozenset = true, object = true }

---@class survey.Survey
---@field entries { name: string, kind: string, value: any }[] top-level entries that are no tensors
---@field sums table<string, survey.Sum> by entry name; "" for tensors directly in the root
---@field all survey.Sum
---@field keys string[] entry names that hold tensors, in the order of the file
---@field names table<string, string[]> by entry name: what the tensors are called below it
---@field tensors table[] as cp:list() gives them
---@field objects table[]

---@param cp userdata an open checkpoint
---@return survey.Survey?, string? message, string? code
function M.read(cp)
  local tensors, objects, code = cp:list()
  if not tensors then return nil, objects, code end
  local root = cp:at("")
  local kind = ckpt.type(root)
  local entries, known = {}, {}
  if CONTAINERS[kind] then entries, known = top_entries(root, kind) end
  local survey = { kind = kind, root = root, entries = entries, sums = {}, all = new_sum(), tensors = tensors,
                   objects = objects, keys = {}, names = {} }
  for _, entry in ipairs(tensors) do
    local key = top_key(entry.name, known) or ""
    if not survey.sums[key] then
      survey.sums[key], survey.names[key] = new_sum(), {}
      table.insert(survey.keys, key)
    end
    add_tensor(survey.sums[key], entry.tensor)
    add_tensor(survey.all, entry.tensor)
    table.insert(survey.names[key], entry.name:sub(key == "" and 1 or #key + 2))
  end
  return survey
end

-- ---- below the table ----

---What makes two tensors of one storage one and the same.
---@param entry table of cp:list()
---@return string
function M.view_of(entry)
  local t = entry.tensor
  return ("%s %d %s %s"):format(t.dtype, t.offset, table.concat(t.shape, ","), table.concat(t:stride(), ","))
end

-- Tensors that are different views of one storage.
local function add_shared(list, survey)
  local groups, order = {}, {}
  for _, entry in ipairs(survey.tensors) do
    local group = entry.storage and (groups[entry.storage] or { views = {} })
    local view = group and M.view_of(entry)
    if group and not group.views[view] then
      if #group == 1 then order[#order + 1] = group end
      group[#group + 1], group.views[view], groups[entry.storage] = entry.name, true, group
    end
  end
  for _, group in ipairs(order) do list[#list + 1] = ("one storage: %s"):format(text.some(group, 3)) end
end

local MAX_SHARED = 3

---What is shared, and the counters of batch norms: no reason to worry.
---@param survey survey.Survey
---@return string[]
function M.notes(survey)
  local notes, counters = {}, 0
  add_shared(notes, survey)
  if #notes > MAX_SHARED then
    notes = { notes[1], notes[2], notes[3], ("%d more storages are shared (--json)"):format(#notes - MAX_SHARED) }
  end
  for _, entry in ipairs(survey.tensors) do
    if entry.name:sub(-19) == "num_batches_tracked" then counters = counters + 1 end
  end
  if counters > 0 then
    notes[#notes + 1] = ("%s in num_batches_tracked"):format(counters == 1 and "1 key ends" or counters .. " keys end")
  end
  return notes
end

return M
