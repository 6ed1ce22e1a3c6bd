-- invert_rules.lua: the set that undoes a set: stages backwards, each rule turned round. What a rule's `inverse` says
-- goes before what is derived; a dropped key does not come back, and has no rule in the inverse.
--
-- A name is turned round where each capture stands in the template once, as it is, moved by a number ({i+1}), or
-- looked up in a table of distinct texts. Conditions on a capture move with it.
local operations = require "policies.rules.ops"

local M = {}

-- ---- names ----

-- { capture =, shift = } or { capture =, lookup = } of a hole of a template; nil if it cannot be turned round.
local function read_hole(part, p)
  if part.star or part.capture then
    local n = part.capture
    for k, capture in ipairs(part.star and p.captures or {}) do
      if capture.name == "*" then
        part.star_left = (part.star_left or part.star) - 1
        if part.star_left == 0 then n = k end
      end
    end
    part.star_left = nil
    return { capture = n, shift = 0 }
  end
  local node = part.node
  if node.name then return p.by_name[node.name] and { capture = p.by_name[node.name], shift = 0 } end
  if node.lookup and node.index.name then
    return p.by_name[node.index.name] and { capture = p.by_name[node.index.name], lookup = node.lookup }
  end
  local left, right = node.left, node.right
  if node.op == "+" and left.number then left, right = right, left end
  local k = left and left.name and p.by_name[left.name]
  if not k or not right.number or (node.op ~= "+" and node.op ~= "-") then return nil end
  return { capture = k, shift = node.op == "+" and right.number or -right.number }
end

local function capture_name(k) return ("c%d"):format(k) end

-- The text of a pattern for one hole: {c1}, {c2:s}, {c3:*}.
local function pattern_piece(p, hole)
  local kind = p.captures[hole.capture].kind
  if hole.lookup then kind = "s" end
  return ("{%s:%s}"):format(capture_name(hole.capture), kind)
end

-- The template's text as a pattern, and what each capture was: captures[k] = hole.
local function template_pattern(t, p)
  local out, holes = {}, {}
  for _, part in ipairs(t.parts) do
    if type(part) == "string" then
      if part:find("[{}]") then return nil end
      out[#out + 1] = part
    else
      local hole = p and read_hole(part, p)
      if not hole then return nil end
      local before = holes[hole.capture]
      if before and (before.shift ~= hole.shift or before.lookup ~= hole.lookup) then return nil end
      holes[hole.capture] = hole
      out[#out + 1] = pattern_piece(p, hole)
    end
  end
  return table.concat(out), holes
end

local function shifted(name, shift)
  if shift == 0 then return name end
  return shift > 0 and ("%s-%d"):format(name, shift) or ("%s+%d"):format(name, -shift)
end

-- The pattern as a template over the captures of the inverse; nil if one of them did not come along.
local function pattern_template(p, holes)
  local out = {}
  for _, element in ipairs(p.elements or {}) do
    local k = element.capture or element.back
    if element.text then
      if element.text:find("[{}]") then return nil end
      out[#out + 1] = element.text
    else
      local hole = holes[k]
      if not hole then return nil end
      local name = capture_name(k)
      out[#out + 1] = hole.lookup and ("{%s_back[%s]}"):format(hole.lookup, name)
        or ("{%s}"):format(shifted(name, hole.shift))
    end
  end
  return p.elements and table.concat(out)
end

-- ---- conditions ----

local function move_range(test, shift)
  if test.low then return { test.low + shift, test.high + shift } end
  if test.set then
    local list = {}
    for i, item in ipairs(test.list) do list[i] = math.type(item) == "integer" and item + shift or item end
    return { one_of = list }
  end
  return math.type(test.equal) == "integer" and test.equal + shift or test.equal
end

-- nil, false if a condition cannot be asked of the result.
local function invert_when(when, p, holes, lookup)
  if not when then return nil, true end
  if when.call or when.ndim then return nil, false end
  if when.off ~= nil then return not when.off, true end
  local out = { var = when.var, dtype = when.dtype }
  for _, condition in ipairs(when.captures) do
    local k = math.type(condition.name) and condition.name or p.by_name[condition.name]
    local hole = holes[k]
    if not hole then return nil, false end
    if hole.lookup then
      if not lookup[hole.lookup] then return nil, false end
    else
      out[capture_name(k)] = move_range(condition.test, hole.shift)
    end
  end
  return out, true
end

-- ---- operations ----

local function plain_argument(value)
  if type(value) ~= "table" then return value end
  if value.node then return value.text end
  local list = {}
  for i, item in ipairs(value) do list[i] = plain_argument(item) end
  return list
end

local function plain(op)
  local out = {}
  for i = 1, #op do out[i] = plain_argument(op[i]) end
  return out
end

-- The operations `first`..`last` undone, backwards, appended to `out`; nil and the one that cannot be.
local function invert_ops(list, first, last, out)
  for i = last, first, -1 do
    local op = plain(list[i])
    local ok, back = pcall(operations.invert, op)
    if not ok or not back then return nil, op[1] end
    out[#out + 1] = back
  end
  return out
end

local function rename_captures(op, p)
  local function swap(value)
    if type(value) == "table" then
      for i, item in ipairs(value) do value[i] = swap(item) end
      return value
    end
    if type(value) ~= "string" or not p then return value end
    return (value:gsub("[%a_][%w_]*", function(name)
      return p.by_name[name] and capture_name(p.by_name[name]) or nil
    end))
  end
  for i = 2, #op do
    if type(op[i]) == "table" or (operations.KINDS[op[1]].arguments:find "^[in]" and type(op[i]) == "string") then
      op[i] = swap(op[i])
    end
  end
  return op
end

-- ---- rules: each gives a list of rules, or nil and why ----

local function invert_rewrite(rule)
  if rule.how == "sub" then return nil, "every occurrence of a text: what was there before is not known" end
  if rule.put == "" then return nil, "it takes a text away" end
  return { { [rule.how] = { rule.put, rule.find }, pass = rule.pass, optional = true } }
end

local function invert_single(rule, lookup)
  local p = rule.patterns[1]
  if p.lua then return nil, "a Lua pattern" end
  if not rule.to then
    local ops, op = invert_ops(rule.ops, 1, #rule.ops, {})
    if not ops then return nil, op end
    for _, back in ipairs(ops) do rename_captures(back, nil) end
    return { { p.text, op = #ops > 0 and ops or nil, when = rule.raw.when, optional = true } }
  end
  local text, holes = template_pattern(rule.to[1], p)
  local back = text and pattern_template(p, holes)
  if not back then return nil, "its names cannot be turned round" end
  local ops, op = invert_ops(rule.ops, 1, #rule.ops, {})
  if not ops then return nil, op end
  for _, one in ipairs(ops) do rename_captures(one, p) end
  local when, ok = invert_when(rule.when, p, holes, lookup)
  if not ok then return nil, "its condition cannot be asked of the result" end
  return { { text, to = back, op = #ops > 0 and ops or nil, when = when, optional = true } }
end

-- A split becomes a gather of its pieces.
local function invert_split(rule)
  local p = rule.patterns[1]
  if p.lua then return nil, "a Lua pattern" end
  local gather, order, first = {}, {}, nil
  for i, t in ipairs(rule.to) do
    local text, holes = template_pattern(t, p)
    if not text then return nil, "its names cannot be turned round" end
    order[i] = ("p%d"):format(i)
    gather[order[i]], first = text, first or holes
  end
  local back = pattern_template(p, first)
  if not back then return nil, "its names cannot be turned round" end
  local last = plain(rule.ops[#rule.ops])
  local ops, op = invert_ops(rule.ops, 1, #rule.ops - 1, { { "cat", last[2] } })
  if not ops then return nil, op end
  for _, one in ipairs(ops) do rename_captures(one, p) end
  local when, ok = invert_when(rule.when, p, first, {})
  if not ok then return nil, "its condition cannot be asked of the result" end
  return { { gather = gather, order = order, to = back, op = ops, when = when, optional = true } }
end

-- A gather becomes a split; how large the parts of a cat are must be said by `sizes`.
local function invert_gather(rule)
  if rule.emit or rule.over then return nil, rule.emit and "emit" or "parts that go over a capture" end
  local p = rule.parts[1].pattern
  local text, holes = template_pattern(rule.to[1], p)
  local tos = {}
  for i, part in ipairs(rule.parts) do
    -- captures go by name: the first part's numbers stand for them
    local named = {}
    for k, capture in ipairs(part.pattern.captures) do named[k] = holes and holes[p.by_name[capture.name]] end
    local back = text and pattern_template(part.pattern, named)
    if not back then return nil, "its names cannot be turned round" end
    if part.pattern ~= p then
      for k, capture in ipairs(part.pattern.captures) do
        if p.by_name[capture.name] ~= k then return nil, "its parts name the captures in different orders" end
      end
    end
    tos[i] = back
  end
  local join = plain(rule.ops[1])
  local ops, op = invert_ops(rule.ops, 2, #rule.ops, {})
  if not ops then return nil, op end
  if join[1] == "cat" and not rule.sizes then return nil, "the sizes of its parts are not said (sizes)" end
  if join[1] == "stack" then return nil, "stack" end
  table.insert(ops, { "split", join[2], plain_argument(rule.sizes) })
  for _, one in ipairs(ops) do rename_captures(one, p) end
  return { { text, to = tos, op = ops, optional = true } }
end

-- `any` that keeps the name it found.
local function invert_any(rule)
  local names = {}
  for i, p in ipairs(rule.patterns) do names[i] = p.text end
  local ops, op = invert_ops(rule.ops, 1, #rule.ops, {})
  if rule.to or not ops then return nil, op or "any" end
  return { { any = names, op = ops, optional = rule.optional, required = rule.required } }
end

-- What was made goes again.
local function invert_make(rule)
  local t = rule.to[1]
  if type(t.parts[1]) ~= "string" or #t.parts > 1 then return nil, "a name that variables are in" end
  return { { t.text, drop = true, optional = true } }
end

local function given(inverse)
  if inverse[1] ~= nil and type(inverse[1]) == "table" then return inverse end
  return { inverse }
end

local function invert_rule(rule, lookup)
  if rule.inverse then return given(rule.inverse) end
  if rule.drop then return {} end
  if rule.kind == "make" then return invert_make(rule) end
  if rule.lossy then return nil, "it says so (lossy)" end
  if rule.keep then return { { rule.patterns[1].text, keep = true, optional = true } } end
  if rule.kind == "rewrite" then return invert_rewrite(rule) end
  if rule.kind == "gather" then return invert_gather(rule) end
  if rule.kind == "any" then return invert_any(rule) end
  if rule.kind ~= "pattern" then return nil, rule.kind end
  if rule.splits then return invert_split(rule) end
  return invert_single(rule, lookup)
end

-- The rules of a stage that only hand on (pass) are undone last, so that they come first.
local function invert_stage(stage, lookup, lossy)
  local list = {}
  for _, rule in ipairs(stage.rules) do
    if not (rule.when and rule.when.off) then
      local made, why = invert_rule(rule, lookup)
      for _, one in ipairs(made or {}) do list[#list + 1] = one end
      if not made then table.insert(lossy, { rule = rule.id, file = rule.file, line = rule.line,
        message = ("has no inverse: %s"):format(why) }) end
    end
  end
  return list
end

-- Tables of distinct texts the other way round, by name with _back.
local function invert_lookups(lookups)
  local out = {}
  for name, list in pairs(lookups) do
    local back, distinct = {}, type(list) == "table"
    for key, value in pairs(distinct and list or {}) do
      distinct = distinct and back[value] == nil
      back[value] = key
    end
    if distinct then out[name .. "_back"], out[name] = back, back end
  end
  return out
end

-- ---- variables ----

local KEEPS_SIZES = { rope_split = true, rope_merge = true }

-- What the one rule of a pattern makes of its keys, if their sizes stay.
local function renamed(compiled, p)
  for _, rule in ipairs(#compiled.stages == 1 and compiled.stages[1].rules or {}) do
    if rule.kind == "pattern" and rule.patterns[1].text == p.text then
      for _, op in ipairs(rule.ops) do
        if not KEEPS_SIZES[op[1]] then return nil end
      end
      return rule.to and #rule.to == 1 and template_pattern(rule.to[1], p) or nil
    end
  end
  return nil
end

-- Sizes are asked of the keys before the first stage: the way back has those under other names.
local function invert_vars(compiled)
  local out = {}
  for name, var in pairs(compiled.vars) do
    local text = var.dim and renamed(compiled, var.dim)
    out[name] = var.raw
    if text then
      out[name] = { config = var.config, option = var.option, default = var.default, dim = { text, var.index } }
    end
  end
  return out
end

---@param compiled ckpt.rules.Compiled
---@return table? set, { rule: string, message: string }[] lossy
function M.set(compiled)
  local lookup, lossy, stages = invert_lookups(compiled.lookup), {}, {}
  for i = #compiled.stages, 1, -1 do
    local stage = invert_stage(compiled.stages[i], lookup, lossy)
    if #stage > 0 then stages[#stages + 1] = stage end
  end
  if #stages == 0 and #lossy == 0 then
    lossy[1] = { file = compiled.file, message = "there is no rule to turn round, and prefixes do not come back" }
  end
  if #lossy > 0 then return nil, lossy end
  return { id = compiled.id .. ":inverse", from = compiled.set.to, to = compiled.set.from, vars = invert_vars(compiled),
    exact = compiled.exact, lookup = lookup, stages = stages, select = compiled.select, peel = compiled.set.peel }, {}
end

return M
