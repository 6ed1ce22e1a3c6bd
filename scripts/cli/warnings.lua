-- warnings.lua: what a person should know before using a checkpoint: one sentence each, for `ckpt inspect`.

local surveys = require "scripts.cli.survey"
local text = require "scripts.cli.text"

local M = {}

local MAX_ALIASES = 100000 -- the library lists no more
local MAX_TIES = 20

local PREFIXES = { { "module.", "DataParallel" }, { "_orig_mod.", "torch.compile" },
                   { "_fsdp_wrapped_module.", "FullyShardedDataParallel" }, { "_forward_module.", "Lightning Fabric" } }

local function label(name) return name == "" and "(top level)" or name end

local function add(list, format, ...) list[#list + 1] = format:format(...) end

-- ---- names ----

local function starts(name, prefix) return name:sub(1, #prefix) == prefix end

-- The wrappers around every name of the list, outermost first: "module._orig_mod." of DataParallel, torch.compile.
local function common_prefix(names)
  local prefix, wrappers = "", {}
  local function wraps_all(row)
    for _, name in ipairs(names) do
      if not starts(name, prefix .. row[1]) then return false end
    end
    return #names > 0
  end
  local found = true
  while found do
    found = false
    for _, row in ipairs(PREFIXES) do
      if wraps_all(row) then
        prefix, found = prefix .. row[1], true
        wrappers[#wrappers + 1] = row[2]
        break
      end
    end
  end
  return prefix, wrappers
end

local function add_inner(list, where, names, outer)
  for _, row in ipairs(PREFIXES) do
    local n = 0
    for _, name in ipairs(names) do
      if row[1]:sub(1, 1) == "_" and name:find(row[1], #outer + 1, true) then n = n + 1 end
    end
    if n > 0 then
      add(list, "%s of %s %s '%s' in the name, as %s names them", text.plural(n, "tensor"), where,
        n == 1 and "has" or "have", row[1], row[2])
    end
  end
end

-- Names below each top-level key, for the warnings and in the order of the file.
local function add_prefixes(list, survey)
  for _, key in ipairs(survey.keys) do
    local names = survey.names[key]
    local where = key == "" and "the file" or "'" .. text.printable(key) .. "'"
    local prefix, wrappers = common_prefix(names)
    if prefix ~= "" then
      add(list, "every tensor of %s begins with '%s', as %s %s them", where, prefix, table.concat(wrappers, " of "),
        #wrappers == 1 and "names" or "name")
    end
    add_inner(list, where, names, prefix)
  end
end

-- ---- objects ----

local function is_numpy(class) return class:find("^numpy%.") ~= nil end

local function count_classes(objects, wanted)
  local count, order = {}, {}
  for _, object in ipairs(objects) do
    if is_numpy(object.class) == wanted then
      if not count[object.class] then order[#order + 1] = object.class end
      count[object.class] = (count[object.class] or 0) + 1
    end
  end
  for i, class in ipairs(order) do order[i] = ("%s (%d)"):format(class, count[class]) end
  return order
end

local function add_objects(list, survey)
  local classes = count_classes(survey.objects, false)
  if #classes > 0 then
    add(list, "objects of unknown classes, kept as inert data, which weights_only refuses: %s", text.some(classes, 3))
  end
  if #count_classes(survey.objects, true) > 0 then
    add(list, "numpy contents, which weights_only refuses (ckpt convert --sanitize makes numbers and tensors of them)")
  end
end

-- ---- what is shared ----

-- Lists of names that are one and the same tensor, in the order of the file.
local function ties(tensors)
  local groups, order = {}, {}
  for _, entry in ipairs(tensors) do
    local key = entry.storage and entry.tensor.numel > 0 and entry.storage .. ":" .. surveys.view_of(entry) or entry
    if not groups[key] then
      groups[key] = {}
      order[#order + 1] = groups[key]
    end
    table.insert(groups[key], entry.name)
    for _, alias in ipairs(entry.aliases) do table.insert(groups[key], alias) end
  end
  local tied = {}
  for _, group in ipairs(order) do
    if #group > 1 then tied[#tied + 1] = group end
  end
  return tied
end

local function add_ties(list, survey)
  local tied, aliases = ties(survey.tensors), 0
  for i = 1, math.min(#tied, MAX_TIES) do
    add(list, "tied: %s = %s", text.printable(tied[i][1]), text.some({ table.unpack(tied[i], 2) }, 3))
  end
  if #tied > MAX_TIES then add(list, "%d more groups of tensors are tied", #tied - MAX_TIES) end
  for _, entry in ipairs(survey.tensors) do aliases = aliases + #entry.aliases end
  if aliases >= MAX_ALIASES then add(list, "only the first %d aliases are listed", MAX_ALIASES) end
end

-- Bytes of a storage that its tensors reach: the union of [first, last] of each.
local function reach(entries)
  local spans, total, till = {}, 0, 0
  for i, entry in ipairs(entries) do
    local t = entry.tensor
    local size, last, stride = t.numel > 0 and t.nbytes // t.numel or 0, t.offset, t:stride()
    for k, n in ipairs(t.shape) do last = last + (n - 1) * stride[k] end
    spans[i] = t.numel > 0 and { t.offset * size, (last + 1) * size } or { 0, 0 }
  end
  table.sort(spans, function(a, b) return a[1] < b[1] end)
  for _, span in ipairs(spans) do
    total = total + math.max(0, span[2] - math.max(span[1], till))
    till = math.max(till, span[2])
  end
  return total
end

-- A saved slice keeps the whole storage that it was cut from.
local function add_waste(list, survey)
  local groups, wasted, total = {}, {}, 0
  for _, entry in ipairs(survey.tensors) do
    if entry.storage then
      groups[entry.storage] = groups[entry.storage] or {}
      table.insert(groups[entry.storage], entry)
    end
  end
  for _, entry in ipairs(survey.tensors) do
    local group = entry.storage and groups[entry.storage]
    local waste = group and group[1] == entry and entry.storage_bytes - reach(group) or 0
    if waste > 1024 and waste > entry.storage_bytes // 2 then
      wasted[#wasted + 1], total = label(entry.name), total + waste
    end
  end
  if #wasted > 0 then
    add(list, "%s of the file belong to no tensor: a saved slice keeps the whole storage that it was cut from (%s)",
      text.size(total), text.some(wasted, 3))
  end
end

-- ---- tensors ----

local function add_counted(list, tensors, fits, format)
  local names, bytes = {}, 0
  for _, entry in ipairs(tensors) do
    if fits(entry) then names[#names + 1], bytes = label(entry.name), bytes + entry.tensor.nbytes end
  end
  if #names > 0 then add(list, format, text.plural(#names, "tensor"), text.some(names, 3), text.size(bytes)) end
end

local function is_double(entry)
  return entry.tensor.dtype == "float64" and entry.tensor.ndim > 0
end

local function add_tensors(list, survey)
  add_counted(list, survey.tensors, is_double, "%s in float64: %s (%s)")
  add_counted(list, survey.tensors, function(entry) return entry.tensor:is_meta() end,
    "%s without data (device meta): %s")
  add_counted(list, survey.tensors, function(entry) return entry.big_endian end, "big-endian file: %s, such as %s")
end

local function add_nonfinite(list, survey)
  for _, entry in ipairs(survey.tensors) do
    local stats = entry.stats
    if stats and stats.nonfinite > 0 then
      add(list, "%s: %d of %s not finite (%d NaN, %d infinite)", text.printable(label(entry.name)), stats.nonfinite,
        text.plural(stats.count, "value") .. (stats.nonfinite == 1 and " is" or " are"), stats.nan, stats.inf)
    end
  end
end

-- ---- the file ----

local function add_file(list, cp)
  if cp.saves > 1 then
    add(list, "%d saves in one file; this is one of them (--save 1 to --save %d)", cp.saves, cp.saves)
  end
  if cp.trailing > 0 then add(list, "%d bytes behind the last save belong to none", cp.trailing) end
  local n, without = 0, 0
  for _, record in ipairs(cp:records()) do
    if record.bytes > 0 then n, without = n + 1, without + (record.crc and 0 or 1) end
  end
  if without > 0 then
    add(list, "%d of %s without a checksum: damage would not be seen", without, text.plural(n, "record"))
  end
end

---What a reader should know before using the file.
---@param cp userdata
---@param survey survey.Survey the entries of its tensors may have `stats`
---@return string[]
function M.list(cp, survey)
  local list = {}
  add_prefixes(list, survey)
  add_objects(list, survey)
  add_ties(list, survey)
  add_nonfinite(list, survey)
  add_tensors(list, survey)
  add_waste(list, survey)
  add_file(list, cp)
  return list
end

return M
