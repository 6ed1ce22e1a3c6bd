-- ops.lua: the operations of rules: their arguments, how they are told, and what undoes them.
--
-- Arguments are those of runtime/expression.c: i an integer, l a list of integers, r the rest as integers, n a
-- number, t a dtype, m a mode; what follows ? may be left out. A string where a number is expected is arithmetic.
local arith = require "policies.rules.arith"
local words = require "policies.rules.words"

local M = {}

---@class ckpt.rules.OpKind
---@field arguments string
---@field place "first"|"last"|"make"|nil where in a rule's list it may stand; nil: anywhere
---@field invert? fun(op: table, before: ckpt.rules.Meta?): table? what undoes it, nil: nothing
---@field blind? boolean its inverse does not need the shapes

---@class ckpt.rules.Meta
---@field shape integer[]
---@field dtype string

local function dim_of(dim, shape) return dim < 0 and dim + #shape or dim end

-- The list that puts back what `index` has picked, or nil if it is no permutation of 0..n-1.
local function inverse_permutation(index, n)
  local back, seen = {}, 0
  for at, i in ipairs(index) do
    if i < 0 then i = i + n end
    if back[i + 1] or i < 0 or i >= n then return nil end
    back[i + 1], seen = at - 1, seen + 1
  end
  return seen == n and back or nil
end

-- Without shapes a list is one of a whole dimension if it is a permutation of its own length.
local function invert_select(op, before)
  local n = before and before.shape[dim_of(op[2], before.shape) + 1] or #op[3]
  local back = inverse_permutation(op[3], n)
  return back and { "index_select", op[2], back }
end

local function is_power_of_two(x)
  x = math.abs(x)
  if x == 0 or x ~= x or x == math.huge then return false end
  while x >= 2 do x = x / 2 end
  while x < 1 do x = x * 2 end
  return x == 1
end

local WIDER = {
  float16 = { float32 = true, float64 = true }, bfloat16 = { float32 = true, float64 = true },
  float32 = { float64 = true },
}

local FLOATS = { float16 = true, bfloat16 = true, float32 = true, float64 = true }

-- A power of two loses nothing but in numbers that are too large or too small for the dtype.
local function invert_scale(op, before)
  if (before and not FLOATS[before.dtype]) or not is_power_of_two(op[2]) then return nil end
  return { "scale", 1 / op[2] }
end

local function invert_pad(op, before)
  local stop = op[4] > 0 and -op[4] or nil
  if before then stop = op[3] + before.shape[dim_of(op[2], before.shape) + 1] end
  return { "slice", op[2], op[3], stop }
end

local function itself(op) return op end

---@type table<string, ckpt.rules.OpKind>
M.KINDS = {
  index_select = { arguments = "il", invert = invert_select, blind = true },
  slice = { arguments = "ii?ii" },
  flip = { arguments = "r", invert = itself, blind = true },
  roll = { arguments = "ii", invert = function(op) return { "roll", op[2], -op[3] } end, blind = true },
  transpose = { arguments = "ii", invert = itself, blind = true },
  permute = { arguments = "l", blind = true,
    invert = function(op)
      local back = inverse_permutation(op[2], #op[2])
      return back and { "permute", back }
    end },
  reshape = { arguments = "l", invert = function(_, before) return { "reshape", before.shape } end },
  unsqueeze = { arguments = "i", invert = function(op) return { "squeeze", op[2] } end, blind = true },
  squeeze = { arguments = "i", invert = function(op) return { "unsqueeze", op[2] } end, blind = true },
  ["repeat"] = { arguments = "ii" },
  sum = { arguments = "i" },
  mean = { arguments = "i" },
  scale = { arguments = "n", invert = invert_scale, blind = true },
  add = { arguments = "?n" },
  cast = { arguments = "t",
    invert = function(op, before)
      return (WIDER[before.dtype] or {})[op[2]] and { "cast", before.dtype } or nil
    end },
  pad = { arguments = "iii?n", invert = invert_pad, blind = true },
  rope_split = { arguments = "i?i", invert = function(op) return { "rope_merge", op[2], op[3] } end, blind = true },
  rope_merge = { arguments = "i?i", invert = function(op) return { "rope_split", op[2], op[3] } end, blind = true },
  resize = { arguments = "llm" },
  split = { arguments = "il", place = "last" },
  chunk = { arguments = "ii", place = "last" },
  cat = { arguments = "i", place = "first" },
  stack = { arguments = "i", place = "first" },
  zeros = { arguments = "l?t", place = "make" },
  ones = { arguments = "l?t", place = "make" },
  full = { arguments = "nl?t", place = "make" },
}

local MODES = { nearest = true, bilinear = true, bicubic = true }

-- ---- checking and preparing: strings where numbers are expected become { node = arithmetic } ----

local function prepare_number(value, integer)
  if type(value) == "string" then
    local node, why = arith.parse(value)
    if not node then return nil, ("'%s': %s"):format(value, why) end
    return { node = node, text = value }
  end
  if integer and math.type(value) == "integer" or not integer and type(value) == "number" then return value end
  return nil, integer and "an integer is expected" or "a number is expected"
end

local function prepare_list(value)
  if type(value) ~= "table" then return nil, "a list is expected" end
  local list = {}
  for i = 1, #value do
    local item, why = prepare_number(value[i], true)
    if item == nil then return nil, why end
    list[i] = item
  end
  return list
end

local PREPARE = {
  i = function(value) return prepare_number(value, true) end,
  n = function(value) return prepare_number(value, false) end,
  l = prepare_list,
  t = function(value)
    if type(value) == "string" then return value end
    return nil, "the name of a dtype is expected"
  end,
  m = function(value)
    if MODES[value] then return value end
    return nil, "'nearest', 'bilinear' or 'bicubic' is expected"
  end,
}

local function prepare_rest(op, out)
  if #op < 2 then return "an integer is expected" end
  for i = 2, #op do
    local value, why = prepare_number(op[i], true)
    if value == nil then return ("argument %d: %s"):format(i - 1, why) end
    out[i] = value
  end
  return nil
end

local function prepare_arguments(kind, op, out)
  local at, optional, left_out = 1, false, nil
  for letter in kind.arguments:gmatch(".") do
    if letter == "?" then
      optional = true
    elseif letter == "r" then
      return prepare_rest(op, out)
    else
      at = at + 1
      local value, why = op[at], nil
      if value ~= nil or not optional then value, why = PREPARE[letter](value) end
      if value == nil and why then return ("argument %d: %s"):format(at - 1, why) end
      if value ~= nil and left_out then return ("argument %d is left out, but not %d"):format(left_out, at - 1) end
      if value == nil then left_out = left_out or at - 1 end
      out[at] = value
    end
  end
  if op[at + 1] ~= nil then return "too many arguments" end
  return nil
end

-- ---- filling in ----

local function fill(value, env)
  if type(value) ~= "table" then return value end
  if value.node then
    local number, why = arith.evaluate(value.node, env)
    if type(number) == "number" then return number end
    return nil, why or ("'%s' is no number"):format(value.text)
  end
  local list = {}
  for i, item in ipairs(value) do
    local number, why = fill(item, env)
    if number == nil then return nil, why end
    list[i] = number
  end
  return list
end

-- ---- telling ----

local function argument_text(value)
  if type(value) ~= "table" then return tostring(value) end
  if value.text then return value.text end
  local shown = {}
  for i = 1, math.min(#value, 8) do shown[i] = argument_text(value[i]) end
  if #value > 8 then shown[9] = ("... %d in all"):format(#value) end
  return "{" .. table.concat(shown, ", ") .. "}"
end

---"permute({1, 0})"
function M.text(op)
  if op.shown then return op.shown end
  local arguments = {}
  for i = 2, #op do arguments[i - 1] = argument_text(op[i]) end
  return ("%s(%s)"):format(op[1], table.concat(arguments, ", "))
end

---The text of what an entry went through, and further texts.
---@param before string
---@param texts string[]
---@return string
function M.append(before, texts)
  if #texts == 0 then return before end
  if before == "" then return table.concat(texts, " | ") end
  return before .. " | " .. table.concat(texts, " | ")
end

---Calls f(name, use) with every name in the arithmetic of a prepared operation.
function M.names(op, f)
  local function look(value)
    if type(value) ~= "table" then return end
    if value.node then return arith.names(value.node, f) end
    for _, item in ipairs(value) do look(item) end
  end
  for i = 2, #op do look(op[i]) end
end

---An operation with its arithmetic parsed; nil and what is wrong with it.
---@param op any
---@return table?, string?
function M.prepare(op)
  if type(op) ~= "table" or type(op[1]) ~= "string" then return nil, "an operation is { name, ... }" end
  local kind = M.KINDS[op[1]]
  if not kind then return nil, ("'%s' is no operation%s"):format(op[1], words.suggest(op[1], M.KINDS)) end
  local out = { op[1] }
  local why = prepare_arguments(kind, op, out)
  if why then return nil, ("%s: %s"):format(op[1], why) end
  out.fixed = true
  M.names(out, function() out.fixed = false end)
  if out.fixed then
    for i = 2, #out do -- arithmetic of numbers alone
      local value
      value, why = fill(out[i])
      if value == nil then return nil, ("%s: %s"):format(op[1], why) end
      out[i] = value
    end
    out.shown = M.text(out)
  end
  return out
end

---The operation with numbers for its arithmetic; nil and why.
---@return table?, string?
function M.fill(op, env)
  if op.fixed then return op end
  local out = {}
  for i = 1, #op do
    local value, why = fill(op[i], env)
    if value == nil then return nil, ("%s: %s"):format(op[1], why) end
    out[i] = value
  end
  return out
end

-- ---- undoing ----

---What undoes a filled operation between tensors of these shapes; nil if nothing does.
---@param before ckpt.rules.Meta? nil: not known
---@param after ckpt.rules.Meta?
---@return table?
function M.invert(op, before, after)
  local kind = M.KINDS[op[1]]
  if not kind.invert or not (before or kind.blind) then return nil end
  return kind.invert(op, before, after)
end

return M
