-- casting.lua: tensors of one dtype in another, as `ckpt convert --dtype` and --dtype-map ask for it. What was tied
-- stays tied: equal views of one storage become one tensor.

local ckpt = require "ckpt"

local M = {}

-- Largest finite numbers; a cast to a dtype that is not here cannot overflow, or wraps as integers do.
local LARGEST = {
  float32 = 3.4028234663852886e38, bfloat16 = 3.3895313892515355e38, float16 = 65504,
  float8_e5m2 = 57344, float8_e5m2fnuz = 57344, float8_e4m3fn = 448, float8_e4m3fnuz = 240,
}

---The dtypes that --dtype takes and casts.
M.FLOATING = { float64 = true, float32 = true, bfloat16 = true, float16 = true, float8_e4m3fn = true,
               float8_e4m3fnuz = true, float8_e5m2 = true, float8_e5m2fnuz = true }

---@param name string
---@return boolean
function M.is_dtype(name)
  for _, dtype in ipairs(ckpt.dtypes) do
    if dtype == name then return true end
  end
  return false
end

---@class casting.Report
---@field counts table<string, integer> "float32 -> float16": tensors
---@field order string[]
---@field overflow string[] tensors with finite values that the new dtype has no finite value for
---@field untied string[] tensors that shared bytes with another view and no longer do

local function view_of(tensor)
  return ("%s %d %s %s"):format(tensor.dtype, tensor.offset, table.concat(tensor.shape, ","),
    table.concat(tensor:stride(), ","))
end

-- The same elements in the order in which they lie, which is how a file is read fastest.
local function as_it_lies(tensor)
  local stride, order = tensor:stride(), {}
  for i = 1, #stride do order[i] = i end
  table.sort(order, function(a, b)
    if stride[a] ~= stride[b] then return stride[a] > stride[b] end
    return a < b
  end)
  return tensor:permute(order)
end

local function overflows(tensor, dtype)
  local largest = LARGEST[dtype]
  if not largest or not M.FLOATING[tensor.dtype] then return false end
  if (LARGEST[tensor.dtype] or math.huge) <= largest then return false end
  local stats = as_it_lies(tensor):stats()
  return stats ~= nil and stats.min ~= nil and (stats.max > largest or stats.min < -largest)
end

local function count(report, from, to)
  local word = from .. " -> " .. to
  if not report.counts[word] then report.order[#report.order + 1] = word end
  report.counts[word] = (report.counts[word] or 0) + 1
end

---The value with other dtypes.
---@param value any a value or a checkpoint
---@param dtype string? for every floating tensor
---@param map table<string, string> dtype -> dtype, before `dtype`
---@return any value nil, message, code if a tensor cannot be cast
---@return casting.Report|string
---@return string? code
function M.cast(value, dtype, map)
  local report, done, failure = { counts = {}, order = {}, overflow = {}, untied = {} }, {}, nil
  local function convert(path, tensor)
    local target = map[tensor.dtype] or (M.FLOATING[tensor.dtype] and dtype) or tensor.dtype
    if failure or target == tensor.dtype then return nil end
    local storage, view = tensor:storage(), view_of(tensor)
    local views = storage and (done[storage] or {}) or {}
    if views[view] then return views[view] end
    if next(views) then table.insert(report.untied, path) end
    local new, message, code = tensor:to(target)
    if not new then
      failure = { ("tensor '%s': %s"):format(path, message), code }
      return nil
    end
    if overflows(tensor, target) then table.insert(report.overflow, path) end
    count(report, tensor.dtype, target)
    views[view] = new
    if storage then done[storage] = views end
    return new
  end
  local result, message, code = ckpt.map(value, convert)
  if failure then return nil, failure[1], failure[2] end
  if result == nil then return nil, message, code end
  return result, report
end

return M
