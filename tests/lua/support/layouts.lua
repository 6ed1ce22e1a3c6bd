-- layouts.lua: reads the key lists of tests/data/maps (README.md there says how they are written).
local M = {}

---One key: its name, shape and dtype.
---@class layouts.Key
---@field name string
---@field shape integer[]
---@field dtype string

---@class layouts.Model
---@field name string
---@field small boolean
---@field vars table<string, integer>
---@field config table<string, integer>
---@field source layouts.Key[]
---@field target layouts.Key[]

local function evaluate(text, vars)
  local value = assert(load("return " .. text, "=" .. text, "t", vars))()
  if type(value) == "boolean" then return value end
  return assert(math.tointeger(value), text)
end

-- What one pair of braces runs over, handed on word by word with the variables that then hold.
local function each_word(text, vars, visit)
  local name, first, last = text:match("^(%w+)=(.-)%.%.(.+)$")
  if not name then first, last = text:match("^(.-)%.%.(.+)$") end
  if not first then
    for word in (text .. ","):gmatch("([^,]*),") do visit(word, vars) end
    return
  end
  for value = evaluate(first, vars), evaluate(last, vars) do
    visit(tostring(value), name and setmetatable({ [name] = value }, { __index = vars }) or vars)
  end
end

-- Every name that a pattern stands for, leftmost braces slowest.
local function expand(before, pattern, vars, visit)
  local left, inside, rest = pattern:match("^([^{]*){([^}]*)}(.*)$")
  if not left then return visit(before .. pattern, vars) end
  each_word(inside, vars, function(word, bound) expand(before .. left .. word, rest, bound, visit) end)
end

local function shape_of(text, vars)
  local shape = {}
  if text == "-" then return shape end
  for size in text:gmatch("[^,]+") do shape[#shape + 1] = evaluate(size, vars) end
  return shape
end

local function add_line(model, side, line)
  local condition, rest = line:match("^%?(%S+)%s+(.*)$")
  if condition then
    local holds = evaluate(condition, model.vars)
    if not holds or holds == 0 then return end
    line = rest
  end
  local name, shape, dtype = line:match("^(%S+)%s+(%S+)%s*(%S*)$")
  assert(name, line)
  expand("", name, model.vars, function(key, vars)
    local keys = model[side]
    keys[#keys + 1] = { name = key, shape = shape_of(shape, vars), dtype = dtype ~= "" and dtype or "float32" }
  end)
end

local function new_model(line)
  local kind, name, rest = line:match("^(%a+)%s+(%S+)%s*(.*)$")
  local vars = {}
  for key, value in rest:gmatch("(%w+)=(%d+)") do vars[key] = math.tointeger(value) end
  return { name = name, small = kind == "small", vars = vars, config = {}, source = {}, target = {} }
end

local function add_config(model, line)
  for key, value in line:gmatch("([%w_]+)=(%S+)") do model.config[key] = evaluate(value, model.vars) end
end

---The models of a list, in the file's order.
---@param path string
---@return layouts.Model[]
function M.read(path)
  local models, block, side, open = {}, {}, nil, false
  for line in io.lines(path) do
    line = line:gsub("^#.*", ""):gsub("%s#.*", ""):match("^%s*(.-)%s*$")
    local word = line:match("^(%a+)%s") or line
    if word == "model" or word == "small" then
      if not open then block, side, open = {}, nil, true end
      block[#block + 1] = new_model(line)
      models[#models + 1] = block[#block]
    elseif word == "config" then
      for _, model in ipairs(block) do add_config(model, line) end
    elseif line == "source" or line == "target" then
      side, open = line, false
    elseif line ~= "" then
      for _, model in ipairs(block) do add_line(model, side, line) end
    end
  end
  return models
end

return M
