-- groups.lua: rules that take several keys: any and gather.
local build = require "policies.rules.build"
local operations = require "policies.rules.ops"
local pattern = require "policies.rules.pattern"

local M = {}

---Operations that a function gave, prepared; nil and why.
function M.prepare_ops(list)
  local out = {}
  if list == nil then return out end
  if type(list) ~= "table" then return nil, "operations are a list" end
  for i, op in ipairs(type(list[1]) == "string" and { list } or list) do
    local why
    out[i], why = operations.prepare(op)
    if not out[i] then return nil, why end
    if operations.KINDS[op[1]].place then return nil, ("%s is not for a function to give"):format(op[1]) end
  end
  return out
end

-- ---- which entries go together ----

-- What distinguishes the groups of a rule: the captures but `over`.
local function group_key(rule, p, values)
  local parts = {}
  for _, capture in ipairs(p.captures) do
    if capture.name ~= rule.over and capture.name ~= "*" then
      parts[#parts + 1] = capture.name .. "=" .. tostring(values[capture.name])
    end
  end
  table.sort(parts)
  for k, capture in ipairs(p.captures) do
    if capture.name == "*" then parts[#parts + 1] = values[k] end
  end
  return table.concat(parts, "\n")
end

local function group_of(all, taken, i)
  local rule = taken.rule
  local of_rule = all.by_rule[rule] or {}
  all.by_rule[rule] = of_rule
  local key = group_key(rule, taken.matcher.pattern, taken.values)
  if not of_rule[key] then
    of_rule[key] = { rule = rule, first = i, values = taken.values, pattern = taken.matcher.pattern, parts = {},
      entries = {}, indices = {}, places = {} }
    table.insert(all.list, of_rule[key])
  end
  return of_rule[key]
end

-- Two keys that are the same part of the same group: the captures do not tell them apart.
local function twice(state, group, other, taken)
  state.problem(group.rule, taken.entry.to, "'%s' and '%s' are the same part of one group", other.entry.to,
    taken.entry.to)
end

local function add_part(state, group, taken, i)
  local part = taken.matcher.part
  local other = group.parts[part]
  if other and not group.rule.over then twice(state, group, other, taken) end
  table.insert(group.entries, taken.entry)
  table.insert(group.indices, i)
  if not group.rule.over then
    group.parts[part] = group.parts[part] or taken
    return
  end
  group.parts[part] = group.parts[part] or {}
  local value = taken.values[group.rule.over]
  local seen = group.places[part] or {}
  group.places[part] = seen
  if seen[value] then twice(state, group, seen[value], taken) end
  seen[value] = taken
  table.insert(group.parts[part], { value = value, taken = taken })
end

-- The values of `over` that some part has, in order.
local function over_values(group)
  local list, seen = {}, {}
  for _, part in ipairs(group.rule.parts) do
    for _, item in ipairs(group.parts[part.name] or {}) do
      if not seen[item.value] then list[#list + 1], seen[item.value] = item.value, true end
    end
  end
  table.sort(list)
  return list
end

-- Every value from the least to the largest, in every part.
local function missing_over(group)
  local values, lacking = over_values(group), {}
  for _, part in ipairs(group.rule.parts) do
    local has = {}
    for _, item in ipairs(group.parts[part.name] or {}) do has[item.value] = item end
    for value = values[1], values[#values] do
      if not has[value] and #lacking < 8 then
        lacking[#lacking + 1] = ("%s with %s = %d"):format(part.pattern.text, group.rule.over, value)
      end
    end
  end
  return lacking
end

local function missing_parts(group)
  if group.rule.over then return missing_over(group) end
  local lacking = {}
  for _, part in ipairs(group.rule.parts) do
    if not group.parts[part.name] then lacking[#lacking + 1] = part.pattern.text end
  end
  return lacking
end

---The groups of a stage: `of[i]` is that of entry i.
---@return { list: table[], of: table<integer, table>, by_rule: table }
function M.collect(state)
  local all = { list = {}, of = {}, by_rule = {} }
  for i, entry in ipairs(state.entries) do
    local m = state.matchers[i]
    local kind = m and m.rule.kind
    if kind == "gather" or kind == "any" then
      local taken = { matcher = m, rule = m.rule, values = state.values[i], entry = entry }
      local group = group_of(all, taken, i)
      add_part(state, group, taken, i)
      all.of[i] = group
    end
  end
  for _, group in ipairs(all.list) do
    group.drop = group.rule.drop
    group.lacking = group.rule.kind == "gather" and missing_parts(group) or {}
  end
  return all
end

---The entries of groups that lack a part and are optional.
---@return integer[]
function M.released(all)
  local list = {}
  for _, group in ipairs(all.list) do
    if #group.lacking > 0 and group.rule.optional then
      for _, i in ipairs(group.indices) do list[#list + 1] = i end
    end
  end
  return list
end

-- ---- what they become ----

local function all_sources(entries)
  local list = {}
  for _, entry in ipairs(entries) do
    for _, from in ipairs(entry.sources) do list[#list + 1] = from end
  end
  return list
end

-- The rules that the parts went through, then the group's own.
local function all_rules(group)
  local list, seen = {}, {}
  for _, entry in ipairs(group.entries) do
    for _, id in ipairs(entry.rules) do
      if not seen[id] then list[#list + 1], seen[id] = id, true end
    end
  end
  return list
end

local function all_ops(group, texts) return operations.append(group.entries[1].ops, texts) end

-- The first that exists; that the others have the same bytes is checked before anything is written.
local function choose(state, group)
  local best
  for k in ipairs(group.rule.patterns) do
    local taken = group.parts[k]
    if taken and not best then best = taken end
    if taken and best ~= taken then
      table.insert(state.checks, { a = best.entry.from, b = taken.entry.from, rule = group.rule.id })
    end
  end
  group.values, group.pattern = best.values, best.matcher.pattern
  local entry = best.entry
  entry.rules = all_rules(group)
  return entry, 1
end

local function sorted_part(group, part)
  local list = {}
  table.sort(group.parts[part.name], function(a, b) return a.value < b.value end)
  for i, item in ipairs(group.parts[part.name]) do list[i] = item.taken.entry end
  return list
end

-- The parts as entries in order; those that go over a capture are joined first.
local function joined_parts(state, group, texts)
  local rule, list = group.rule, {}
  for i, part in ipairs(rule.parts) do
    if not rule.over then
      list[i] = group.parts[part.name].entry
    else
      local entry, text = build.join(state, rule, rule.ops[1], sorted_part(group, part))
      if not entry then return nil, text end
      list[i], texts[1] = entry, text
    end
  end
  return list
end

local function check_sizes(state, rule, op, list)
  if not rule.sizes then return nil end
  local wanted, why = operations.fill(operations.prepare { "split", 0, rule.sizes } or { "?" }, state.env)
  if not wanted then return why end
  for i, entry in ipairs(list) do
    local dim = entry.shape and (op[2] < 0 and op[2] + #entry.shape or op[2]) + 1
    if dim and entry.shape[dim] ~= wanted[3][i] then
      return ("part '%s' has %s entries in dimension %d, sizes says %s"):format(entry.to, entry.shape[dim], op[2],
        tostring(wanted[3][i]))
    end
  end
  return nil
end

local function join_list(state, group, list, texts)
  local rule = group.rule
  local at = rule.over and 2 or 1
  if rule.over and #rule.parts == 1 then return list[1], at end
  local why = check_sizes(state, rule, rule.ops[at], list)
  if why then return nil, why end
  local entry, text = build.join(state, rule, rule.ops[at], list)
  if not entry then return nil, text end
  texts[#texts + 1] = text
  return entry, at + 1
end

local function fail(state, group, why)
  state.problem(group.rule, group.entries[1].to, "%s", why)
  return nil
end

---What a group becomes before its further operations, and the place of the first of those. nil: a problem was noted.
function M.join(state, group)
  if group.rule.kind == "any" then return choose(state, group) end
  if #group.lacking > 0 then
    return fail(state, group, ("'%s' was found, but not %s"):format(group.entries[1].to,
      table.concat(group.lacking, ", ")))
  end
  if group.rule.emit then return group.parts end
  local texts = {}
  local list, why = joined_parts(state, group, texts)
  if not list then return fail(state, group, why) end
  local made, first = join_list(state, group, list, texts)
  if not made then return fail(state, group, first) end
  return { to = group.entries[1].to, expr = made.expr, shape = made.shape, dtype = made.dtype,
    from = group.entries[1].from, sources = all_sources(group.entries), rules = all_rules(group),
    ops = all_ops(group, texts) }, first
end

local function emit_one(state, group, item, parts)
  local texts = {}
  local name, why = pattern.fill(item.to, group.pattern, group.values, state.env)
  if not name then return nil, why end
  local made
  made, why = build.emitted(state, group.rule, item.expr, parts, texts)
  if not made then return nil, why end
  return { to = name, expr = made.expr, from = group.entries[1].from, sources = all_sources(group.entries),
    ops = operations.append("", texts), shape = made.shape, dtype = made.dtype, rule = group.rule,
    rules = all_rules(group) }
end

---The results of emit.
function M.emit(state, group)
  local parts, out = {}, {}
  for _, part in ipairs(group.rule.parts) do parts[part.name] = group.parts[part.name].entry end
  for _, item in ipairs(group.rule.emit) do
    local result, why = emit_one(state, group, item, parts)
    if result then out[#out + 1] = result else fail(state, group, why) end
  end
  return out
end

return M
