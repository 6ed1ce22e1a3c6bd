-- tiny_zip.lua: a checkpoint with a pickle of one's own: what ckpt.save cannot make, such as objects of unknown classes.

local M = {}

local function crc32(bytes)
  local crc = 0xFFFFFFFF
  for i = 1, #bytes do
    crc = crc ~ bytes:byte(i)
    for _ = 1, 8 do crc = crc & 1 == 1 and crc >> 1 ~ 0xEDB88320 or crc >> 1 end
  end
  return ~crc & 0xFFFFFFFF
end

-- The fields that a local header and an entry of the directory share: version, flags, method, time, CRC, sizes, names.
local function fields(name, data)
  return ("<I2I2I2I2I2I4I4I4I2I2"):pack(20, 0, 0, 0, 0x21, crc32(data), #data, #data, #name, 0)
end

---A zip file of stored members { name, data }.
---@param members string[][]
---@return string
function M.zip(members)
  local out, directory = {}, {}
  local at = 0
  for i, member in ipairs(members) do
    local name, data = member[1], member[2]
    out[i] = "PK\3\4" .. fields(name, data) .. name .. data
    directory[i] = "PK\1\2" .. ("<I2"):pack(20) .. fields(name, data) .. ("<I2I2I2I4I4"):pack(0, 0, 0, 0, at) .. name
    at = at + #out[i]
  end
  local entries = table.concat(directory)
  local count = #members
  return table.concat(out) .. entries ..
    "PK\5\6" .. ("<I2I2I2I2I4I4I2"):pack(0, 0, count, count, #entries, at, 0)
end

---A checkpoint whose data.pkl is this pickle.
---@param pickle string
---@return string
function M.checkpoint(pickle)
  return M.zip { { "archive/data.pkl", pickle }, { "archive/byteorder", "little" }, { "archive/version", "3\n" } }
end

return M
