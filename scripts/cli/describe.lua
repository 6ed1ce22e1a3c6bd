-- describe.lua: what an entry of cp:entries() is, in two short texts: its type, and what there is to say of it.

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

local WIDTH = 44

local function entries_text(value)
  return text.plural(#value, "item")
end

local function quantisation(tensor)
  local q = ckpt.quantization(tensor)
  if not q then return "" end
  if q.scale then return (", %s, scale %.4g, zero point %d"):format(q.scheme, q.scale, q.zero_point) end
  return (", %s of dimension %d"):format(q.scheme, q.axis)
end

local function is_quantised(dtype) return dtype:find("^qu?int") ~= nil end

local function tensor_text(tensor)
  local words = text.shape(tensor.shape) .. "  " .. text.size(tensor.nbytes)
  if tensor:is_meta() then words = words .. ", no data" end
  if tensor.requires_grad then words = words .. ", requires_grad" end
  return words .. (is_quantised(tensor.dtype) and quantisation(tensor) or "")
end

-- A numpy array or scalar, a sparse or nested tensor; nil for any other object.
local function special(value)
  local array, shape = ckpt.array(value)
  if ckpt.type(array or 0) == "tensor" then return "numpy " .. array.dtype, text.shape(array.shape) end
  if type(array) == "table" then return "numpy array", text.shape(shape) end
  if array ~= nil then return "numpy scalar", text.value(array, WIDTH) end
  local sparse = ckpt.sparse(value)
  if sparse then return sparse.layout, ("%s, %s"):format(text.shape(sparse.shape), text.plural(sparse.nnz, "value")) end
  local nested = ckpt.nested(value)
  if nested then return "nested tensor", text.plural(#nested, "tensor") end
end

local COUNTED = { dict = true, list = true, tuple = true }

---@param entry table of cp:entries()
---@return string type, string detail, boolean whole its parts are told with it
function M.entry(entry)
  if entry.kind == "tensor" then return entry.value.dtype, tensor_text(entry.value), false end
  if COUNTED[entry.kind] then return entry.kind, entries_text(entry.value), false end
  if entry.kind ~= "object" then
    return entry.kind, text.value(entry.value, WIDTH), entry.kind == "set" or entry.kind == "frozenset"
  end
  local kind, detail = special(entry.value)
  if kind then return kind, detail, true end
  local repr = tostring(entry.value)
  if repr:sub(1, 1) ~= "<" then return text.printable(entry.class), text.value(entry.value, WIDTH), true end
  return text.printable(entry.class), "object", false
end

return M
