-- pattern.lua: patterns of whole keys and the templates of new ones.
--
-- A pattern is compiled into elements: { text = } and { capture = k, kind = "i" | "s" | "*" }. Matching tries, for
-- each capture, the least text that lets the rest match; what has failed at a place is remembered once a match takes
-- long, so that the work is bounded by elements x places x length. A back reference makes what is remembered void;
-- such a match is stopped after a number of steps instead.
local arith = require "policies.rules.arith"

local M = {}

local SLOW, LIMIT = 200, 200000 -- steps of one match: from here on remember; give up

---@class ckpt.rules.Pattern
---@field text string as it was written
---@field captures { name: string, kind: string }[]
---@field by_name table<string, integer>
---@field literal string? the one key that it matches
---@field elements table[]?
---@field lua string? a Lua pattern
---@field chunks string[] literal parts in order, digits as "0": what a key must hold

-- ---- compiling ----

-- Name and kind of what stands in braces: "i", "s1", "name:s", "*".
local function read_capture(inside)
  if inside == "*" then return "*", "*" end
  local name, kind = inside:match("^([%a_][%w_]*):([is*])$")
  if name then return name, kind end
  name = inside:match("^[%a_][%w_]*$")
  if not name then return nil, ("'{%s}' is no capture"):format(inside) end
  return name, name:find("^s%d*$") and "s" or "i"
end

local function add_text(p, text)
  if text ~= "" then table.insert(p.elements, { text = text }) end
end

local function add_capture(p, inside)
  local name, kind = read_capture(inside)
  if not name then return kind end
  local known = name ~= "*" and p.by_name[name]
  if known and p.captures[known].kind ~= kind then return ("'%s' stands for two kinds"):format(name) end
  if known then
    p.has_back = true
    table.insert(p.elements, { back = known })
    return nil
  end
  table.insert(p.captures, { name = name, kind = kind })
  if name ~= "*" then p.by_name[name] = #p.captures end
  table.insert(p.elements, { capture = #p.captures, kind = kind })
  return nil
end

local function compile_braces(p, text)
  local at = 1
  while at <= #text do
    local open = text:find("[{}]", at)
    if not open then break end
    local stop = text:find("}", open, true)
    if text:sub(open, open) == "}" or not stop then return "a brace is not closed, or not opened" end
    add_text(p, text:sub(at, open - 1))
    local why = add_capture(p, text:sub(open + 1, stop - 1))
    if why then return why end
    at = stop + 1
  end
  add_text(p, text:sub(at))
  return nil
end

local function compile_glob(p, text)
  local at = 1
  while true do
    local star = text:find("*", at, true)
    add_text(p, text:sub(at, (star or #text + 1) - 1))
    if not star then return nil end
    add_capture(p, "*")
    p.elements[#p.elements].empty = true
    at = star + 1
  end
end

local function compile_lua(p, text)
  if text:sub(1, 1) ~= "^" or text:sub(-1) ~= "$" then return "a Lua pattern begins with ^ and ends with $" end
  local ok, why = pcall(string.find, "", text)
  if not ok then return tostring(why):gsub("^.-:%d+: ", "") end
  p.lua = text
  return nil
end

-- Digits stand as "0"; those beside a capture go, since the key's digits may run on into it.
local function chunk_of(element, before, after)
  local text = element.text
  if before then text = text:gsub("^%d+", "") end
  if after then text = text:gsub("%d+$", "") end
  return (text:gsub("%d+", "0"))
end

local function set_chunks(p)
  p.chunks = {}
  for i, element in ipairs(p.elements or {}) do
    if element.text then
      local chunk = chunk_of(element, i > 1, i < #p.elements)
      if chunk ~= "" then p.chunks[#p.chunks + 1] = chunk end
    end
  end
end

-- The Lua pattern of an element, if what follows says where its text ends; with it a match cannot be tried twice.
local function fast_piece(element, following)
  if element.text then return (element.text:gsub("[^%w_]", "%%%0")) end
  local first = following and following.text and following.text:sub(1, 1)
  if element.back or element.empty or (following and not first) then return nil end
  if element.kind == "i" then return not (first and first:find("%d")) and "(%d+)" or nil end
  if element.kind == "s" then return (not first or first == ".") and "([^.]+)" or nil end
  return not following and "(.+)" or nil
end

local FAST = 6 -- captures

local function set_fast(p)
  local out = { "^" }
  if p.literal or not p.elements or #p.captures > FAST then return end
  for i, element in ipairs(p.elements) do
    local piece = fast_piece(element, p.elements[i + 1])
    if not piece then return end
    out[#out + 1] = piece
  end
  p.fast = table.concat(out) .. "$"
  p.kinds, p.names = {}, {}
  for k, capture in ipairs(p.captures) do
    p.kinds[k], p.names[k] = capture.kind, capture.name ~= "*" and capture.name or nil
  end
end

---@param text string
---@return ckpt.rules.Pattern? pattern, string? why
function M.compile(text)
  if type(text) ~= "string" or text == "" then return nil, "a pattern is a string that is not empty" end
  local p = { text = text, captures = {}, by_name = {}, elements = {} }
  local why
  if text:sub(1, 5) == "glob:" then
    why = compile_glob(p, text:sub(6))
  elseif text:sub(1, 4) == "lua:" then
    why = compile_lua(p, text:sub(5))
    p.elements = nil
  else
    why = compile_braces(p, text)
  end
  if why then return nil, ("pattern '%s': %s"):format(text, why) end
  if p.elements and #p.captures == 0 then p.literal = p.elements[1] and p.elements[1].text or "" end
  set_chunks(p)
  set_fast(p)
  return p
end

---A pattern that is one key, whatever characters it holds.
---@param key string
---@return ckpt.rules.Pattern
function M.literal(key)
  local p = { text = key, captures = {}, by_name = {}, elements = { { text = key } }, literal = key }
  set_chunks(p)
  return p
end

-- ---- matching ----

local match_from

-- The rest of the elements after a capture that ends before `stop`.
local function take(m, e, at, stop)
  m.found[m.elements[e].capture] = m.key:sub(at, stop - 1)
  return match_from(m, e + 1, stop)
end

-- Where the text of element e next begins, from `from` on; for the end of the pattern the end of the key.
local function next_stop(m, e, from)
  local element = m.elements[e]
  if not element then return from <= #m.key + 1 and #m.key + 1 or nil end
  if element.text then return (m.key:find(element.text, from, true)) end
  return from <= #m.key + 1 and from or nil
end

-- The last place at which a capture that begins at `at` may end (exclusive).
local function last_stop(m, element, at)
  if element.kind == "*" then return #m.key + 1 end
  if element.kind == "s" then return m.key:find(".", at, true) or #m.key + 1 end
  if m.key:byte(at) == 48 then return at + 1 end -- no leading zeros
  return (m.key:find("%D", at) or #m.key + 1)
end

local function fits_kind(m, element, at, stop)
  if element.kind ~= "i" then return true end
  return stop - at <= 18 or math.tointeger(tonumber(m.key:sub(at, stop - 1))) ~= nil
end

local function match_capture(m, e, at)
  local element = m.elements[e]
  local last = last_stop(m, element, at)
  local stop = next_stop(m, e + 1, element.empty and at or at + 1)
  while stop and stop <= last do
    if fits_kind(m, element, at, stop) and take(m, e, at, stop) then return true end
    if not m.elements[e + 1] then return false end
    stop = next_stop(m, e + 1, stop + 1)
  end
  return false
end

local function remember(m)
  if m.steps > LIMIT then error { costly = true } end
  if not m.pattern.has_back then m.failed = m.failed or {} end
end

match_from = function(m, e, at)
  local element = m.elements[e]
  if not element then return at == #m.key + 1 end
  m.steps = m.steps + 1
  if m.steps > SLOW then remember(m) end
  local text = element.text or (element.back and m.found[element.back])
  if text then
    return m.key:sub(at, at + #text - 1) == text and match_from(m, e + 1, at + #text)
  end
  local place = m.failed and e * (#m.key + 2) + at
  if place and m.failed[place] then return false end
  local ok = match_capture(m, e, at)
  if not ok and place then m.failed[place] = true end
  return ok
end

local function match_lua(p, key)
  local found = { key:match(p.lua) }
  if found[1] == nil then return nil end
  if not p.lua:gsub("%%.", ""):find("(", 1, true) then return {} end
  for i, text in ipairs(found) do found[i] = tostring(text) end
  return found
end

---The captures by number, as text; nil if the pattern does not match the whole key. Raises { costly = true }.
---@param p ckpt.rules.Pattern
---@param key string
---@return string[]?
function M.match(p, key)
  if p.literal then return p.literal == key and {} or nil end
  if p.lua then return match_lua(p, key) end
  local m = { pattern = p, elements = p.elements, key = key, found = {}, steps = 0 }
  return match_from(m, 1, 1) and m.found or nil
end

---Whether a key of that skeleton (digits as "0") may match: cheap, and never wrong in saying no.
---@param p ckpt.rules.Pattern
---@param skeleton string
---@return boolean
function M.may_match(p, skeleton)
  local at = 1
  for _, chunk in ipairs(p.chunks) do
    local _, stop = skeleton:find(chunk, at, true)
    if not stop then return false end
    at = stop + 1
  end
  return true
end

---The skeleton of all keys that a pattern takes, if they have one: if nothing but integers differs.
---@param p ckpt.rules.Pattern
---@return string?
function M.skeleton(p)
  local out = {}
  for i, element in ipairs(p.elements or {}) do
    if not element.text and element.kind ~= "i" then return nil end
    out[i] = element.text or "0"
  end
  return out[1] and (table.concat(out):gsub("%d+", "0"))
end

-- ---- captures as values ----

---An integer without leading zeros that fits, or nil.
---@param text string of digits
---@return integer?
function M.to_integer(text)
  if #text > 1 and text:byte(1) == 48 then return nil end
  return math.tointeger(tonumber(text))
end

-- values[k] and values[name] = the k-th capture; false if it is none.
local function set_value(p, values, k, text)
  local value = text
  if p.kinds[k] == "i" then value = M.to_integer(text) end
  if value == nil then return false end
  values[k] = value
  local name = p.names[k]
  if name then values[name] = value end
  return true
end

---The captures of a match by number and by name, integers as such; nil if the pattern does not match the whole key.
---Raises { costly = true }.
---@param p ckpt.rules.Pattern
---@param key string
---@return table<string|integer, string|integer>?
function M.capture(p, key)
  if not p.fast then
    local found = M.match(p, key)
    return found and M.values(p, found)
  end
  local values = {}
  local a, b, c, d, e, f = key:match(p.fast)
  if not a or not set_value(p, values, 1, a) then return nil end
  local ok = (b == nil or set_value(p, values, 2, b)) and (c == nil or set_value(p, values, 3, c))
    and (d == nil or set_value(p, values, 4, d)) and (e == nil or set_value(p, values, 5, e))
    and (f == nil or set_value(p, values, 6, f))
  return ok and values or nil
end

---@param p ckpt.rules.Pattern
---@param found string[]
---@return table<string|integer, string|integer> by name and by number; integers as such
function M.values(p, found)
  local values = {}
  for k, text in ipairs(found) do
    local capture = p.captures[k]
    local value = capture and capture.kind == "i" and math.tointeger(tonumber(text)) or text
    values[k] = value
    if capture and capture.name ~= "*" then values[capture.name] = value end
  end
  return values
end

-- ---- templates ----

---@class ckpt.rules.Template
---@field text string
---@field parts (string|table)[] text, or { capture = k }, { star = n } or { node = arithmetic, text = }

-- What {inside} is: `stars` counts the {*} so far, which go by their order.
local function read_part(t, inside)
  if inside == "*" then
    t.stars = t.stars + 1
    return { star = t.stars }
  end
  local number = inside:match("^%s*(%d+)%s*$")
  if number then return { capture = math.tointeger(tonumber(number)) } end
  local name = inside:match("^([%a_][%w_]*):[is*]$") -- as in the pattern
  local node, why = arith.parse(name or inside)
  if not node then return nil, why end
  return { node = node, text = name or inside }
end

-- The template as a format of string.format, and what goes into it.
local function set_format(t)
  local out = {}
  t.holes = {}
  for i, part in ipairs(t.parts) do
    out[i] = type(part) == "string" and part:gsub("%%", "%%%%") or "%s"
    if type(part) == "table" then table.insert(t.holes, part) end
  end
  t.format = table.concat(out)
  return t
end

---@param text string
---@return ckpt.rules.Template? template, string? why
function M.template(text)
  if type(text) ~= "string" or text == "" then return nil, "a template is a string that is not empty" end
  local t, at = { text = text, parts = {}, stars = 0 }, 1
  while true do
    local open = text:find("[{}]", at)
    if not open then break end
    local stop = text:find("}", open, true)
    if text:sub(open, open) == "}" or not stop then
      return nil, ("template '%s': a brace is not closed, or not opened"):format(text)
    end
    if open > at then table.insert(t.parts, text:sub(at, open - 1)) end
    local part, why = read_part(t, text:sub(open + 1, stop - 1))
    if not part then return nil, ("template '%s': %s"):format(text, why) end
    table.insert(t.parts, part)
    at = stop + 1
  end
  if at <= #text then table.insert(t.parts, text:sub(at)) end
  return set_format(t)
end

---A template that is one key, whatever characters it holds.
function M.literal_template(key) return set_format { text = key, parts = { key }, stars = 0 } end

---The number of the n-th {*} of a pattern.
---@return integer?
function M.star(p, n)
  for k, capture in ipairs(p.captures) do
    if capture.name == "*" then
      n = n - 1
      if n == 0 then return k end
    end
  end
  return nil
end

---What is wrong with a template for a pattern, or nil. `known(name, use)`: whether a name is one beside the captures.
---@param t ckpt.rules.Template
---@param p ckpt.rules.Pattern? nil: no captures
---@return string?
function M.check(t, p, known)
  for _, part in ipairs(t.parts) do
    if type(part) == "table" then
      local why
      if part.star and not (p and M.star(p, part.star)) then why = "there is no such {*} in the pattern" end
      if part.capture and not (p and (p.lua or p.captures[part.capture])) then
        why = ("there is no capture %d"):format(part.capture)
      end
      if part.node then
        arith.names(part.node, function(name, use)
          local captured = use ~= "lookup" and p and p.by_name[name]
          if not captured and not known(name, use) then why = ("there is no '%s'"):format(name) end
        end)
      end
      if why then return ("template '%s': %s"):format(t.text, why) end
    end
  end
  return nil
end

local function part_value(part, p, values, env)
  if part.star then return values[M.star(p, part.star)] end
  if part.capture then return values[part.capture] end
  return arith.evaluate(part.node, env)
end

-- The value of a hole; nil and why.
local function hole(t, part, p, values, env)
  local value, why = part_value(part, p, values, env)
  if value == nil then return nil, ("template '%s': %s"):format(t.text, why or "no value") end
  if math.type(value) == "float" then return nil, ("template '%s': %s is not whole"):format(t.text, value) end
  if math.type(value) == "integer" and value < 0 then
    return nil, ("template '%s': %d is negative"):format(t.text, value)
  end
  return value
end

---The key that a template gives; nil and why.
---@param t ckpt.rules.Template
---@param p ckpt.rules.Pattern?
---@param values table captures
---@param env ckpt.rules.Env
---@return string?, string?
function M.fill(t, p, values, env)
  local holes = t.holes
  if #holes == 0 then return t.parts[1] end
  if #holes == 1 then
    local value, why = hole(t, holes[1], p, values, env)
    if value == nil then return nil, why end
    return t.format:format(value)
  end
  local out = {}
  for i, part in ipairs(holes) do
    local value, why = hole(t, part, p, values, env)
    if value == nil then return nil, why end
    out[i] = value
  end
  return t.format:format(table.unpack(out))
end

return M
