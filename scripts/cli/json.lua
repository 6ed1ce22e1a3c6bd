-- json.lua: writes JSON with a fixed order of keys, whatever bytes a checkpoint's names hold.
--
-- Names come from foreign files: control characters are escaped, a lone surrogate (as Python writes it) becomes \udxxx,
-- and any other byte that is not UTF-8 becomes \ufffd, so that the output is valid JSON and valid UTF-8.
-- Numbers that JSON cannot hold are the strings "nan", "inf" and "-inf", as in a run's ledger.

local M = {}

---Stands for null in a table, where nil would leave a hole.
M.null = setmetatable({}, { __tostring = function() return "null" end })

local ordered = {} -- the metatable key under which an object keeps its order

---An object whose keys are written in this order; keys without a value are left out, keys not listed are not written.
---@param order string[]
---@param fields table
---@return table fields
function M.object(order, fields) return setmetatable(fields, { [ordered] = order }) end

---An object with keys of any name, written in their alphabetic order.
---@param fields table<string, any>
---@return table
function M.map(fields)
  local order, copy = {}, {}
  for key, value in pairs(fields) do
    order[#order + 1] = key
    copy[key] = value
  end
  table.sort(order)
  return M.object(order, copy)
end

local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function escape(c) return ESCAPES[c] or ("\\u%04x"):format(c:byte()) end

-- utf8.len with `lax` takes surrogates and code points beyond Unicode; both are rewritten here.
local function repair(text)
  local out, at = {}, 1
  while at <= #text do
    local _, bad = utf8.len(text, at)
    out[#out + 1] = text:sub(at, (bad or #text + 1) - 1)
    if not bad then break end
    local high, low = text:match("^\xED([\xA0-\xBF])([\x80-\xBF])", bad)
    out[#out + 1] = high and ("\\u%04x"):format(0xD000 | (high:byte() & 0x3F) << 6 | low:byte() & 0x3F) or "\\ufffd"
    at = bad + (high and 3 or 1)
  end
  return table.concat(out)
end

---@param text string
---@return string with its quotes
function M.quote(text)
  local escaped = text:gsub('[%c"\\\x7F]', escape)
  return '"' .. (utf8.len(escaped) and escaped or repair(escaped)) .. '"'
end

local function number(x)
  if math.type(x) == "integer" then return ("%d"):format(x) end
  if x ~= x then return '"nan"' end
  if x == math.huge or x == -math.huge then return x > 0 and '"inf"' or '"-inf"' end
  for digits = 15, 17 do
    local text = ("%." .. digits .. "g"):format(x)
    if tonumber(text) == x then return text end
  end
end

local write

local function write_list(out, list)
  out[#out + 1] = "["
  for i, item in ipairs(list) do
    if i > 1 then out[#out + 1] = "," end
    write(out, item)
  end
  out[#out + 1] = "]"
end

local function write_object(out, order, fields)
  local comma = "{"
  for _, key in ipairs(order) do
    if fields[key] ~= nil then
      out[#out + 1] = comma .. M.quote(key) .. ":"
      write(out, fields[key])
      comma = ","
    end
  end
  out[#out + 1] = comma == "{" and "{}" or "}"
end

function write(out, value)
  local kind = type(value)
  if value == M.null or kind == "boolean" then
    out[#out + 1] = tostring(value)
  elseif kind == "number" then
    out[#out + 1] = number(value)
  elseif kind == "string" then
    out[#out + 1] = M.quote(value)
  else
    local meta = getmetatable(value)
    if meta and meta[ordered] then write_object(out, meta[ordered], value) else write_list(out, value) end
  end
end

---JSON of booleans, numbers, strings, M.null, lists (plain tables) and M.object or M.map.
---@param value any
---@return string
function M.encode(value)
  local out = {}
  write(out, value)
  return table.concat(out)
end

---One line on stdout.
---@param value any
function M.print(value) io.write(M.encode(value), "\n") end

return M
