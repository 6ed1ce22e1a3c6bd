-- arith.lua: the arithmetic of templates, sizes and variables: integers with + - * // %, checked for overflow; `/`
-- gives a float; names, name[index] for lookups, rank(name). Parsed once into a tree, evaluated with an environment.
--
--   sum = product { (+|-) product };  product = unary { (*|/|//|%) unary };  unary = [-] atom
--   atom = integer | name | name [ sum ] | rank ( name ) | ( sum )
local M = {}

local MAX_DEPTH = 50

-- ---- checked integers ----

local function check_add(a, b)
  local sum = a + b
  if (a >= 0) == (b >= 0) and (sum >= 0) ~= (a >= 0) then return nil end
  return sum
end

local function check_mul(a, b)
  if a == 0 or b == 0 then return 0 end
  local product = a * b
  if (a == -1 and b == math.mininteger) or (b == -1 and a == math.mininteger) then return nil end
  if product // b ~= a or product % b ~= 0 then return nil end
  return product
end

local function check_sub(a, b)
  local difference = a - b
  if (a >= 0) ~= (b >= 0) and (difference >= 0) ~= (a >= 0) then return nil end
  return difference
end

local INTEGER = {
  ["+"] = check_add, ["-"] = check_sub, ["*"] = check_mul,
  ["//"] = function(a, b)
    if a == math.mininteger and b == -1 then return nil end
    return a // b
  end,
  ["%"] = function(a, b) return a % b end,
}
local FLOAT = {
  ["+"] = function(a, b) return a + b end, ["-"] = function(a, b) return a - b end,
  ["*"] = function(a, b) return a * b end, ["//"] = function(a, b) return a // b end,
  ["%"] = function(a, b) return a % b end,
}

-- A number, or nil and why.
local function combine(op, a, b)
  if type(a) ~= "number" or type(b) ~= "number" then
    return nil, ("'%s' is no number"):format(tostring(type(a) ~= "number" and a or b))
  end
  if b == 0 and (op == "//" or op == "%" or op == "/") then return nil, ("%s %s 0"):format(a, op) end
  if op == "/" then return a / b end
  if math.type(a) ~= "integer" or math.type(b) ~= "integer" then return FLOAT[op](a, b) end
  local value = INTEGER[op](a, b)
  if value == nil then return nil, ("%d %s %d overflows"):format(a, op, b) end
  return value
end

-- ---- parsing: each function takes a state { text =, at =, depth = } and gives a node, or nil and why ----

local sum

local function skip(state) state.at = state.text:find("%S", state.at) or #state.text + 1 end

local function take(state, word)
  skip(state)
  if state.text:sub(state.at, state.at + #word - 1) ~= word then return false end
  state.at = state.at + #word
  return true
end

local function fail(state, expected)
  skip(state)
  local rest = state.text:sub(state.at)
  return nil, ("%s expected before '%s'"):format(expected, rest ~= "" and rest or "the end")
end

local function close(state, node, why, bracket)
  if node == nil then return nil, why end
  if not take(state, bracket) then return fail(state, "'" .. bracket .. "'") end
  return node
end

local function integer(state, digits)
  local value = math.tointeger(tonumber(digits))
  state.at = state.at + #digits
  if not value or #digits > 19 then return nil, digits .. " does not fit in 63 bits" end
  return { number = value }
end

local function named(state, name)
  state.at = state.at + #name
  if name == "rank" and take(state, "(") then
    skip(state)
    local of = state.text:match("^[%w_]+", state.at)
    if not of then return fail(state, "a capture") end
    state.at = state.at + #of
    return close(state, { rank = of }, nil, ")")
  end
  if not take(state, "[") then return { name = name } end
  local index, why = sum(state)
  return close(state, index and { lookup = name, index = index }, why, "]")
end

local function atom(state)
  skip(state)
  if take(state, "(") then
    local node, why = sum(state)
    return close(state, node, why, ")")
  end
  local digits = state.text:match("^%d+", state.at)
  if digits then return integer(state, digits) end
  local name = state.text:match("^[%a_][%w_]*", state.at)
  if name then return named(state, name) end
  return fail(state, "a number or a name")
end

local function unary(state)
  if take(state, "-") then
    local node, why = atom(state)
    return node and { op = "-", left = { number = 0 }, right = node }, why
  end
  return atom(state)
end

-- left { op right } for the operators of one level.
local function level(state, operators, below)
  local left, why = below(state)
  while left do
    local op
    for _, candidate in ipairs(operators) do
      if take(state, candidate) then
        op = candidate
        break
      end
    end
    if not op then return left end
    local right
    right, why = below(state)
    if not right then return nil, why end
    left = { op = op, left = left, right = right }
  end
  return nil, why
end

local PRODUCTS, SUMS = { "*", "//", "/", "%" }, { "+", "-" }

local function product(state) return level(state, PRODUCTS, unary) end

sum = function(state)
  state.depth = state.depth + 1
  if state.depth > MAX_DEPTH then return nil, "too many parentheses" end
  local node, why = level(state, SUMS, product)
  state.depth = state.depth - 1
  return node, why
end

---@param text string
---@return table? node, string? why
function M.parse(text)
  local state = { text = text, at = 1, depth = 0 }
  local node, why = sum(state)
  if not node then return nil, why end
  skip(state)
  if state.at <= #text then return fail(state, "an operator") end
  return node
end

-- ---- evaluation ----

---@class ckpt.rules.Env what names stand for
---@field get fun(name: string): any, string? value, or nil and why
---@field lookup fun(name: string, index: any): any, string?
---@field rank fun(name: string): integer?, string?

---@param node table
---@param env ckpt.rules.Env
---@return any? value, string? why
function M.evaluate(node, env)
  if node.number then return node.number end
  if node.name then return env.get(node.name) end
  if node.rank then return env.rank(node.rank) end
  if node.lookup then
    local index, why = M.evaluate(node.index, env)
    if index == nil then return nil, why end
    return env.lookup(node.lookup, index)
  end
  local left, why = M.evaluate(node.left, env)
  if left == nil then return nil, why end
  local right
  right, why = M.evaluate(node.right, env)
  if right == nil then return nil, why end
  return combine(node.op, left, right)
end

---Calls f with each name, "rank" or "lookup" where it is one, of a tree.
function M.names(node, f)
  if node.name then f(node.name) end
  if node.rank then f(node.rank, "rank") end
  if node.lookup then
    f(node.lookup, "lookup")
    M.names(node.index, f)
  end
  if node.op then
    M.names(node.left, f)
    M.names(node.right, f)
  end
end

return M
