-- difference.lua: what two checkpoints differ in, path by path: tensors (keys, shapes, dtypes, values), plain values,
-- classes of opaque objects; on request layout and order.
--
-- Both are joined by the paths of their contents, aliases included: a tensor that is tied in one file and written twice
-- in the other is the same under each of its names.

local ckpt = require "ckpt"

local M = {}

local CONTAINERS = { dict = true, list = true, tuple = true }
local SETS = { set = true, frozenset = true }

---@class difference.Options
---@field select (fun(name: string): boolean)? only paths that fit
---@field tolerance { atol: number, rtol: number, equal_nan: boolean }
---@field layout boolean strides and requires_grad too
---@field order boolean the order of keys too
---@field any_dtype boolean dtypes may differ
---@field metadata boolean what the files say of themselves too

---@class difference.Side
---@field tensors string[] paths, aliases included
---@field plain string[] paths of everything else that says something
---@field at table<string, table> path -> entry of cp:entries()

-- ---- reading one side ----

-- The items of a set have no order of their own.
local function set_text(value)
  local items = {}
  for _, item in pairs(value) do items[#items + 1] = tostring(item) end
  table.sort(items)
  return ("{%s}"):format(table.concat(items, ", "))
end

-- A container says something by itself only while it is empty; what is in it has entries of its own.
local function speaks(entry)
  if not CONTAINERS[entry.kind] then return true end
  return #entry.value == 0
end

-- A numpy array counts as the tensor that it holds, a numpy scalar as its number.
local function without_numpy(entry)
  local value = entry.kind == "object" and ckpt.array(entry.value)
  if value == nil or value == false or type(value) == "table" then return entry, false end
  return { name = entry.name, aliases = entry.aliases, kind = ckpt.type(value), value = value }, true
end

local function add(side, entry, fits)
  local list = entry.kind == "tensor" and side.tensors or speaks(entry) and side.plain
  local function put(path)
    side.at[path] = entry
    if list and fits(path) then list[#list + 1] = path end
  end
  put(entry.name)
  for _, alias in ipairs(entry.aliases) do put(alias) end
end

local function anything() return true end

-- Values that a file says of itself, as if they were a dict's.
local function add_metadata(side, cp, options)
  for key, value in pairs(cp.metadata or {}) do
    local name = "__metadata__." .. tostring(key)
    add(side, { name = name, aliases = {}, kind = ckpt.type(value), value = value }, options.select or anything)
  end
end

local function read(cp, options)
  local side = { tensors = {}, plain = {}, at = {} }
  local hidden = math.huge -- entries deeper than this are told with the one that they are in
  local entries, message, code = cp:entries()
  if not entries then return nil, message, code end
  for entry in entries do
    if entry.depth <= hidden then
      local told, whole = without_numpy(entry)
      hidden = (whole or SETS[entry.kind]) and entry.depth or math.huge
      add(side, told, options.select or anything)
    elseif entry.kind == "tensor" then
      add(side, entry, options.select or anything)
    end
  end
  if options.metadata then add_metadata(side, cp, options) end
  return side
end

-- ---- plain values ----

local function close(a, b, tolerance)
  if a == b then return true end
  if a ~= a or b ~= b then return tolerance.equal_nan and a ~= a and b ~= b end
  local largest = math.max(math.abs(a), math.abs(b))
  return largest < math.huge and math.abs(a - b) <= tolerance.atol + tolerance.rtol * largest
end

local function is_scalar(value) return type(value) ~= "userdata" end

local function same_value(a, b, tolerance)
  if a.kind ~= b.kind or a.class ~= b.class then return false end
  if CONTAINERS[a.kind] or a.opaque then return true end
  if a.kind == "float" then return close(a.value, b.value, tolerance) end
  if SETS[a.kind] then return set_text(a.value) == set_text(b.value) end
  if is_scalar(a.value) then return a.value == b.value end
  return a.value == b.value or M.text(a) == M.text(b)
end

---What a plain value is, in one line.
---@param entry table
---@return string
function M.text(entry)
  if entry.kind == "tensor" then return tostring(entry.value) end
  if entry.opaque then return entry.class end
  if SETS[entry.kind] then return set_text(entry.value) end
  return tostring(entry.value)
end

-- ---- tensors ----

local function same_list(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- The comparison of one pair, which several paths may share. nil, message, code when bytes cannot be read.
local function compare_values(a, b, tolerance)
  if a:is_meta() or b:is_meta() then return { no_data = a:is_meta() ~= b:is_meta(), beyond = 0 } end
  local result, message, code = a:compare(b, tolerance)
  if not result and code == "unsupported" then return { incomparable = message, beyond = 0 } end
  return result, message, code
end

-- What the integers of a quantised tensor stand for, in one line; nil for any other.
local function quantization(tensor)
  if not tensor.dtype:find "^qu?int" then return nil end
  local q = ckpt.quantization(tensor)
  if not q then return nil end
  if q.scale then return ("%s scale %.17g zero point %d"):format(q.scheme, q.scale, q.zero_point) end
  return ("%s axis %d scales %s zero points %s"):format(q.scheme, q.axis, q.scales:sha256(), q.zero_points:sha256())
end

local function layout_of(tensor)
  return { stride = tensor:stride(), requires_grad = tensor.requires_grad }
end

local function same_layout(a, b) return a.requires_grad == b.requires_grad and same_list(a.stride, b.stride) end

-- Adds what differs to the report; true when nothing does.
local function compare_tensor(report, path, a, b, options)
  local found = 0
  local function tell(kind, fields)
    fields.name, found = path, found + 1
    table.insert(report[kind], fields)
  end
  if not same_list(a.shape, b.shape) then tell("shapes", { a = a.shape, b = b.shape }) end
  if a.dtype ~= b.dtype and not options.any_dtype then tell("dtypes", { a = a.dtype, b = b.dtype }) end
  local p, q = quantization(a), quantization(b)
  if p and q and p ~= q then tell("quantization", { a = p, b = q }) end
  local x, y = layout_of(a), layout_of(b)
  if options.layout and #a.shape == #b.shape and not same_layout(x, y) then tell("layouts", { a = x, b = y }) end
  if same_list(a.shape, b.shape) then
    local result, message, code = compare_values(a, b, options.tolerance)
    if not result then return nil, ("%s: %s"):format(path, message), code, a:compare(a) and "b" or "a" end
    local differs = result.beyond > 0 or result.no_data or result.incomparable
    if differs then tell("values", { result = result, count = a.numel }) end
  end
  return found == 0
end

local function compare_tensors(report, a, b, options)
  for _, path in ipairs(a.tensors) do
    local other = b.at[path]
    if not other or other.kind ~= "tensor" then
      table.insert(report.missing, { name = path, tensor = a.at[path].value })
    else
      local same, message, code, side = compare_tensor(report, path, a.at[path].value, other.value, options)
      if same == nil then return nil, message, code, side end
      report.tensors = report.tensors + 1
      if same then report.same_tensors = report.same_tensors + 1 end
    end
  end
  return true
end

-- ---- the rest ----

local function find_extra(report, a, b)
  for _, path in ipairs(b.tensors) do
    local other = a.at[path]
    if not other or other.kind ~= "tensor" then
      table.insert(report.extra, { name = path, tensor = b.at[path].value })
    end
  end
  for _, path in ipairs(b.plain) do
    local mine, other = a.at[path], b.at[path]
    local was_compared = mine and mine.kind ~= "tensor" and (speaks(mine) or mine.kind == other.kind)
    if not was_compared then table.insert(report.plain, { name = path, b = other }) end
  end
end

local function compare_plain(report, a, b, options)
  for _, path in ipairs(a.plain) do
    local mine, other = a.at[path], b.at[path]
    if other then report.plain_compared = report.plain_compared + 1 end
    if not (other and same_value(mine, other, options.tolerance)) then
      table.insert(report.plain, { name = path, a = mine, b = other })
    end
  end
end

-- Paths of tensors that both have, in each one's order: the first place where the orders part.
local function compare_order(report, a, b)
  local in_b, place = {}, 0
  for _, path in ipairs(b.tensors) do
    if a.at[path] then in_b[#in_b + 1] = path end
  end
  for _, path in ipairs(a.tensors) do
    if b.at[path] then
      place = place + 1
      if in_b[place] ~= path then
        report.order = { place = place, a = path, b = in_b[place] }
        return
      end
    end
  end
end

---@class difference.Report
---@field same boolean
---@field tensors integer paths that both have
---@field same_tensors integer
---@field missing table[] { name, tensor } of A that B lacks
---@field extra table[] { name, tensor } of B that A lacks
---@field shapes table[] { name, a, b }
---@field dtypes table[]
---@field layouts table[]
---@field quantization table[]
---@field values table[] { name, result, count }
---@field plain table[] { name, a, b }: entries, nil on the side that lacks it
---@field plain_compared integer
---@field order table? { place, a, b }

local function is_same(report)
  for _, kind in ipairs { "missing", "extra", "shapes", "dtypes", "quantization", "layouts", "values",
                         "plain" } do
    if #report[kind] > 0 then return false end
  end
  return report.order == nil
end

---@param a userdata an open checkpoint
---@param b userdata
---@param options difference.Options
---@return difference.Report?, string? message, string? code, string? side "a" or "b": which file cannot be read
function M.find(a, b, options)
  local report = { tensors = 0, same_tensors = 0, plain_compared = 0, missing = {}, extra = {}, shapes = {},
                   dtypes = {}, quantization = {}, layouts = {}, values = {}, plain = {} }
  local left, right, ok, message, code, bad
  left, message, code = read(a, options)
  if not left then return nil, message, code, "a" end
  right, message, code = read(b, options)
  if not right then return nil, message, code, "b" end
  ok, message, code, bad = compare_tensors(report, left, right, options)
  if not ok then return nil, message, code, bad end
  compare_plain(report, left, right, options)
  find_extra(report, left, right)
  if options.order then compare_order(report, left, right) end
  report.same = is_same(report)
  return report
end

return M
