-- quick.lua: the short way for rules that give one key another name and do to it what is the same for each key: without
-- captures as values and without an environment for each key. It decides nothing by itself: what it does not do it
-- leaves to the long way, which does it, or says what is wrong. Both come to the same (rules_property_spec.lua).
local arith = require "policies.rules.arith"
local build = require "policies.rules.build"
local operations = require "policies.rules.ops"
local pattern = require "policies.rules.pattern"
local variables = require "policies.rules.vars"

local M = {}

local match, sub, format, unpack = string.match, string.sub, string.format, table.unpack

-- ---- which rules ----

-- An operation with numbers for its arithmetic, if that is of variables alone.
local function fill_once(state, p, op)
  if operations.KINDS[op[1]].place then return nil end
  local alone = true
  operations.names(op, function(name, use)
    alone = alone and use ~= "rank" and (use == "lookup" or not p.by_name[name])
  end)
  return alone and operations.fill(op, state.var_env) or nil
end

-- The operations of a rule, the same for each key; nil if they are not.
local function ops_of(state, rule, p)
  local list = {}
  for i, op in ipairs(rule.ops) do
    list[i] = fill_once(state, p, op)
    if not list[i] then return nil end
  end
  return list
end

local function is_plain(rule)
  if rule.kind ~= "pattern" or rule.when or rule.drop or rule.target or rule.tie then return false end
  return rule.to == nil or #rule.to == 1
end

-- ---- holes of a template: each made of the text of one capture ----

-- The only capture in a tree of arithmetic; nil for one with several, with none, or with ranks.
local function only_name(node, p)
  local found, one = nil, true
  arith.names(node, function(name, use)
    if use == "lookup" or (use == nil and not p.by_name[name]) then return end
    one = one and use == nil and (found == nil or found == name)
    found = name
  end)
  return one and found or nil
end

-- The capture that a hole is made of, and the name of that in the arithmetic on it, if any.
local function capture_of(part, p)
  if not part.node then return part.capture or pattern.star(p, part.star) end
  local name = only_name(part.node, p)
  return name and p.by_name[name], not part.node.name and name or nil
end

-- What texts come to under one piece of arithmetic on one capture, shared by all rules that have it; integers as they
-- are come to themselves. nil: any text is as it is.
local function known_of(state, kind, name, part)
  if kind ~= "i" and not name then return nil end
  local key = name and ("%s %s %s"):format(kind, name, part.text) or "i"
  state.known[key] = state.known[key] or {}
  return state.known[key]
end

local function value_of(hole, text)
  local value = text
  if hole.kind == "i" then value = pattern.to_integer(text) end
  if value == nil or not hole.name then return value end
  local env = variables.own_environment(hole.state)
  local get = env.get
  function env.get(name)
    if name == hole.name then return value end
    return get(name)
  end
  return (arith.evaluate(hole.node, env))
end

-- Remembers what a text comes to; false where the long way has to say what is wrong with it.
local function learn(hole, text)
  local value = value_of(hole, text)
  if type(value) ~= "string" then
    if math.type(value) ~= "integer" or value < 0 then return false end
    value = format("%d", value)
  end
  hole.known[text] = value
  return value
end

local function new_hole(state, p, k, name, part)
  local kind = p.captures[k].kind
  return { state = state, capture = k, kind = kind, name = name, node = part and part.node,
    known = known_of(state, kind, name, part) }
end

-- The holes in order, then the integers that are in none: they are to be looked at, too. How many are holes.
local function holes_of(state, p, template)
  local holes, seen = {}, {}
  for i, part in ipairs(template and template.holes or {}) do
    local k, name = capture_of(part, p)
    if not k then return nil end
    holes[i] = new_hole(state, p, k, name, part)
    seen[k] = true
  end
  local n = #holes
  for k, capture in ipairs(p.captures) do
    if capture.kind == "i" and not seen[k] then holes[#holes + 1] = new_hole(state, p, k) end
  end
  return holes, n
end

-- ---- names ----

-- The texts before and after the only one of a list that is none.
local function around(first, last)
  return type(first) == "string" and first or "", type(last) == "string" and last or ""
end

-- One integer, in one hole: nearly all rules of large files.
local function rename_by_one(m, template, hole)
  local p = m.pattern
  local known, elements, parts = hole.known, p.elements, template.parts
  local before, after = around(parts[1], parts[#parts])
  local head, tail = around(elements[1].text, elements[#elements].text)
  local first, last = #head, #tail
  return function(key)
    local stop = #key - last
    if sub(key, stop + 1) ~= tail or sub(key, 1, first) ~= head then return nil end
    local text = sub(key, first + 1, stop)
    local made = known[text]
    if not made then
      if not match(text, "^%d+$") then return nil end
      made = learn(hole, text)
    end
    if not made then return made end
    return before .. made .. after, m
  end
end

local function rename_by_several(m, template, holes, n)
  local fast, captures, texts = m.pattern.fast, {}, {}
  return function(key)
    captures[1], captures[2], captures[3], captures[4], captures[5], captures[6] = match(key, fast)
    if not captures[1] then return nil end
    for i = 1, #holes do
      local hole = holes[i]
      local text = captures[hole.capture]
      if hole.known then text = hole.known[text] or learn(hole, text) end
      if not text then return false end
      texts[i] = text
    end
    return template and format(template.format, unpack(texts, 1, n)) or key, m
  end
end

---A function from a key to the name that the rule of a matcher gives it, and the matcher; nil where the pattern does
---not take the key, false where the long way has to look. nil if the rule is not for the short way.
---@param state table the plan in the making
---@param m table
---@param literal table? keys that are not for the short way
---@return (fun(key: string): string|false|nil, table?)?
function M.renamer(state, m, literal)
  local p = m.pattern
  if not (p and p.fast and is_plain(m.rule)) then return nil end
  state.ops[m.rule] = ops_of(state, m.rule, p)
  if not state.ops[m.rule] then return nil end
  local template = m.rule.to and m.rule.to[1]
  local holes, n = holes_of(state, p, template)
  if not holes then return nil end
  local one = #p.captures == 1 and n == 1 and holes[1].kind == "i"
  local rename = one and rename_by_one(m, template, holes[1]) or rename_by_several(m, template, holes, n)
  if not literal then return rename end
  return function(key)
    if literal[key] then return false end
    return rename(key)
  end
end

---The first of several that gives a name.
---@param list (fun(key: string): string|false|nil, table?)[]
---@return fun(key: string): string|false|nil, table?
function M.first_of(list)
  if #list == 1 then return list[1] end
  return function(key)
    for i = 1, #list do
      local name, m = list[i](key)
      if name ~= nil then return name, m end
    end
    return nil
  end
end

-- ---- operations ----

local function child(t, key)
  local found = t[key]
  if not found then
    found = {}
    t[key] = found
  end
  return found
end

-- What the operations of a rule come to for one dtype and shape: found once. false: they cannot be done.
local function recipe_of(state, rule, shape, dtype)
  local at = child(child(state.recipes, rule), dtype)
  for i = 1, #shape do at = at[shape[i]] or child(at, shape[i]) end
  if at.recipe == nil then at.recipe = build.recipe(rule, state.ops[rule], shape, dtype) or false end
  return at.recipe
end

local function node_of(op, rule, of)
  if #op == 2 then return { op[1], op[2], rule = rule.id, of = of } end
  if #op == 3 then return { op[1], op[2], op[3], rule = rule.id, of = of } end
  return table.move(op, 1, #op, 1, { rule = rule.id, of = of })
end

---Does the operations of a rule to an entry, where it stands; false: they are for the long way.
---@return boolean
function M.operate(state, rule, entry)
  if state.tying or not (entry.shape and entry.dtype) then return false end
  local recipe = recipe_of(state, rule, entry.shape, entry.dtype)
  if not recipe then return false end
  local expr = entry.expr
  for i = 1, #recipe do expr = node_of(recipe[i], rule, expr) end
  entry.expr, entry.shape, entry.dtype = expr, recipe.shape, recipe.dtype
  if recipe.text ~= "" then entry.ops = entry.ops == "" and recipe.text or entry.ops .. " | " .. recipe.text end
  return true
end

return M
