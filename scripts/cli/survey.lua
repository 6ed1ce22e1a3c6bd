-- survey.lua: what is in a checkpoint, as `ckpt inspect` tells it: sums per top-level key, and what is odd about it.

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

local PREFIXES = { { "module.", "DataParallel" }, { "_orig_mod.", "torch.compile" } }
local MAX_ALIASES = 100000 -- the library lists no more

---@class survey.Sum
---@field tensors integer
---@field numel integer
---@field bytes integer
---@field dtypes string[] in the order of the file
---@field by_dtype table<string, integer> bytes
---@field prefixed table<string, integer> tensors below the key whose name begins so

---@return survey.Sum
local function new_sum() return { tensors = 0, numel = 0, bytes = 0, dtypes = {}, by_dtype = {}, prefixed = {} } end

local function add_tensor(sum, tensor, rest)
  local dtype, bytes = tensor.dtype, tensor.nbytes
  sum.tensors, sum.numel, sum.bytes = sum.tensors + 1, sum.numel + tensor.numel, sum.bytes + bytes
  if not sum.by_dtype[dtype] then sum.dtypes[#sum.dtypes + 1] = dtype end
  sum.by_dtype[dtype] = (sum.by_dtype[dtype] or 0) + bytes
  for _, row in ipairs(PREFIXES) do
    local prefix = row[1]
    if rest:sub(1, #prefix) == prefix then sum.prefixed[prefix] = (sum.prefixed[prefix] or 0) + 1 end
  end
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
                   objects = objects }
  for _, entry in ipairs(tensors) do
    local key = top_key(entry.name, known) or ""
    survey.sums[key] = survey.sums[key] or new_sum()
    add_tensor(survey.sums[key], entry.tensor, entry.name:sub(key == "" and 1 or #key + 2))
    add_tensor(survey.all, entry.tensor, "")
  end
  return survey
end

-- ---- what is odd ----

local function add_prefixes(list, survey)
  local names = { "" }
  for _, entry in ipairs(survey.entries) do names[#names + 1] = entry.name end
  for _, name in ipairs(names) do
    local sum = survey.sums[name]
    for _, row in ipairs(PREFIXES) do
      if sum and sum.prefixed[row[1]] == sum.tensors then
        list[#list + 1] = ("every tensor of %s begins with '%s', as %s names them"):format(
          name == "" and "the file" or "'" .. text.printable(name) .. "'", row[1], row[2])
      end
    end
  end
end

local function add_objects(list, survey)
  local count, order = {}, {}
  for _, object in ipairs(survey.objects) do
    if not count[object.class] then order[#order + 1] = object.class end
    count[object.class] = (count[object.class] or 0) + 1
  end
  if #order == 0 then return end
  for i, class in ipairs(order) do order[i] = ("%s (%d)"):format(class, count[class]) end
  list[#list + 1] = "objects of unknown classes, kept as inert data: " .. text.some(order, 3)
end

---What a reader should know before using the file; also the `warnings` of the JSON.
---@param survey survey.Survey
---@return string[]
function M.warnings(survey)
  local list, aliases = {}, 0
  add_prefixes(list, survey)
  add_objects(list, survey)
  for _, entry in ipairs(survey.tensors) do aliases = aliases + #entry.aliases end
  if aliases >= MAX_ALIASES then list[#list + 1] = ("only the first %d aliases are listed"):format(MAX_ALIASES) end
  return list
end

-- Tensors that are one and the same in memory; then tensors that are views of one storage.
local function add_shared(list, survey)
  local groups, order = {}, {}
  for _, entry in ipairs(survey.tensors) do
    if entry.aliases[1] then
      list[#list + 1] = ("tied: %s = %s"):format(text.printable(entry.name), text.some(entry.aliases, 2))
    end
    local group = entry.storage and (groups[entry.storage] or {})
    if group then
      if #group == 1 then order[#order + 1] = group end
      group[#group + 1], groups[entry.storage] = entry.name, group
    end
  end
  for _, group in ipairs(order) do
    list[#list + 1] = ("one storage: %s"):format(text.some(group, 3))
  end
end

---Sentences below the table: what is shared, and the counters of batch norms.
---@param survey survey.Survey
---@return string[]
function M.notes(survey)
  local notes, counters = {}, 0
  add_shared(notes, survey)
  if #notes > 4 then notes = { notes[1], notes[2], notes[3], ("%d more are shared (--json)"):format(#notes - 3) } end
  for _, entry in ipairs(survey.tensors) do
    if entry.name:sub(-19) == "num_batches_tracked" then counters = counters + 1 end
  end
  if counters > 0 then
    notes[#notes + 1] = ("%s in num_batches_tracked"):format(counters == 1 and "1 key ends" or counters .. " keys end")
  end
  for _, warning in ipairs(M.warnings(survey)) do notes[#notes + 1] = warning end
  return notes
end

return M
