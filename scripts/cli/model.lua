-- model.lua: the model that a load is planned for: names, dtypes and shapes, from JSON or from another checkpoint.
--
--   { "conv1.weight": { "dtype": "float32", "shape": [64, 3, 7, 7] }, ... }
--
-- The tensors are only looked at. Those of JSON are zeros that nothing reads, so they take no memory worth the name.

local ckpt = require "ckpt"
local dkjson = require "dkjson"

local M = {}

local TREES = { "model", "state_dict", "model_state_dict", "" }

---@class model.Entry
---@field name string
---@field tensor userdata

-- ---- JSON ----

-- The order of the keys in the text: a decoded table has lost it. Only objects are values here, and they are flat.
local function key_order(text, model)
  local order, seen, rest = {}, {}, {}
  for key in text:gmatch('"([^"\\]*)"%s*:%s*{') do
    if model[key] and not seen[key] then order[#order + 1], seen[key] = key, true end
  end
  for key in pairs(model) do
    if not seen[key] then rest[#rest + 1] = key end
  end
  table.sort(rest)
  return table.move(rest, 1, #rest, #order + 1, order)
end

local function tensor_of(entry)
  if type(entry) ~= "table" or type(entry.dtype) ~= "string" or type(entry.shape) ~= "table" then
    return nil, "must be an object with 'dtype' and 'shape'"
  end
  local ok, tensor, message = pcall(ckpt.tensor, entry.dtype, entry.shape)
  if ok and tensor then return tensor end
  return nil, ok and message or tostring(tensor):match("%((.*)%)$") or tensor
end

local function from_json(path, text)
  local model, at, message = dkjson.decode(text)
  if type(model) ~= "table" or #model > 0 then
    return nil, ("%s: not the JSON of a model: %s"):format(path, message or "an object is expected"), "format", at
  end
  local entries = {}
  for i, name in ipairs(key_order(text, model)) do
    local tensor, why = tensor_of(model[name])
    if not tensor then return nil, ("%s: '%s': %s"):format(path, name, why), "format" end
    entries[i] = { name = name, tensor = tensor }
  end
  return entries
end

-- ---- a checkpoint ----

local function state_dict(cp, path)
  if path then return cp:state_dict(path) end
  for _, tree in ipairs(TREES) do
    local found = cp:state_dict(tree)
    if found and #found > 0 then return found end
  end
  return nil, "there is no state dict in it (--model-path says where)", "format"
end

local function from_checkpoint(path, tree)
  local cp, sd, message, code
  cp, message, code = ckpt.open(path)
  if not cp then return nil, message, code end
  sd, message, code = state_dict(cp, tree)
  if not sd then return nil, ("%s: %s"):format(path, message), code end
  local entries = {}
  for name, tensor in pairs(sd) do entries[#entries + 1] = { name = name, tensor = tensor } end
  return entries
end

---@param path string
---@param tree string? path of the state dict in a checkpoint
---@return model.Entry[]?, string? message, string? code
function M.read(path, tree)
  local file <close> = io.open(path, "rb")
  local head = file and file:read(64)
  if not head or not head:find("^%s*{") then return from_checkpoint(path, tree) end
  return from_json(path, head .. file:read("a"))
end

return M
