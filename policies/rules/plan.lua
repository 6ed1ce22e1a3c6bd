-- plan.lua: a compiled set over the names, shapes and dtypes of one file: what each result is made of. Nothing is
-- read.
--
-- An entry is one tensor on its way and in the end an output: { to = its name now, expr =, shape =, dtype =, from = its
-- (first) source, sources =, ops = text, rules = ids, rule = the last one, in the end its id }. A stage first finds the
-- rule of each entry, then builds what comes out, in the order of the entries; a result of several stands where the
-- first of them stood.
local align = require "policies.rules.align"
local build = require "policies.rules.build"
local finish = require "policies.rules.finish"
local groups = require "policies.rules.groups"
local match = require "policies.rules.match"
local operations = require "policies.rules.ops"
local pattern = require "policies.rules.pattern"
local quick = require "policies.rules.quick"
local variables = require "policies.rules.vars"

local M = {}

local find_quick, operate = match.find_quick, quick.operate

-- ---- the state ----

local function problem(state, rule, key, format, ...)
  rule = rule or { file = state.compiled.file }
  table.insert(state.problems, { rule = rule.id, file = rule.file, line = rule.line, key = key,
    message = format:format(...) })
  return nil
end

-- The ids of rules with one more. Lists are shared by all entries that went the same way.
local function with_rule(state, before, rule)
  local after, list = state.after[before] or {}, before
  if before[#before] ~= rule.id then
    list = table.move(before, 1, #before, 1, {})
    list[#list + 1] = rule.id
  end
  after[rule], state.after[before], state.fired[rule] = list, after, true
  return list
end

local function fire(state, rule, entry)
  local before = entry.rules
  local after = state.after[before]
  entry.rules = after and after[rule] or with_rule(state, before, rule)
end

-- The place of a value among those of a capture that a rule met in this stage.
local function rank(state, rule, name, value)
  local of = state.ranks[rule] or {}
  state.ranks[rule] = of
  if not of[name] then
    local list, seen = {}, {}
    for i, m in pairs(state.matchers) do -- sorted below
      local v = m.rule == rule and state.values[i][name]
      if v and not seen[v] then list[#list + 1], seen[v] = v, true end
    end
    table.sort(list, function(a, b)
      if math.type(a) and math.type(b) then return a < b end
      return tostring(a) < tostring(b)
    end)
    of[name] = {}
    for place, v in ipairs(list) do of[name][v] = place - 1 end
  end
  local place = of[name][value]
  if place then return place end
  return nil, ("rank(%s) has no value here"):format(name)
end

local function new_state(compiled, sources, options)
  local state = { compiled = compiled, options = options, sources = sources, problems = {}, fired = {}, dropped = {},
    checks = {}, var_values = {}, ranks = {}, said = {}, no_rules = {}, after = {}, known = {}, recipes = {},
    views = {}, ops = {} }
  state.env = variables.environment(state, function(rule, name, value)
    if not rule then return nil, "rank has no meaning here" end
    return rank(state, rule, name, value)
  end)
  state.var_env = variables.own_environment(state)
  function state.problem(rule, key, format, ...) return problem(state, rule, key, format, ...) end
  function state.fire(rule, entry) return fire(state, rule, entry) end
  function state.once(rule, message)
    local text = (rule.id or "") .. "\n" .. message
    if not state.said[text] then problem(state, rule, nil, "%s", message) end
    state.said[text] = true
  end
  if options.target then
    state.targets = {}
    for i, target in ipairs(options.target) do state.targets[target.name] = i end
  end
  function state.has_target(rule, p, values)
    if not state.targets then return true end
    state.env.values, state.env.rule = values, nil
    local name = values.made or (rule.to and pattern.fill(rule.to[1], p, values, state.env))
    return name ~= nil and state.targets[name] ~= nil
  end
  return state
end

-- With room for all fields of an output, which spares a table for each key.
local function new_entry(state, i)
  local source, views = state.sources[i], state.views
  local name = source.name
  if source.identity ~= nil then views[#views + 1] = source end
  return { to = state.names[i], expr = name, from = name, sources = { name }, ops = "", shape = source.shape,
    dtype = source.dtype, rule = nil, rules = state.no_rules }
end

-- All of them; a stage makes those that it comes to first.
local function set_entries(state)
  state.entries = {}
  for i = 1, #state.names do state.entries[i] = new_entry(state, i) end
end

-- ---- peel ----

local function begins(key, prefix) return #key > #prefix and key:sub(1, #prefix) == prefix end

local function peel_all(state, prefix)
  for _, name in ipairs(state.names) do
    if not begins(name, prefix) then return false end
  end
  for _, target in ipairs(state.options.target or {}) do
    if not begins(target.name, prefix) then return true end
  end
  return not (state.options.target and state.options.target[1]) and #state.names > 0
end

local function take_prefix(state, prefix)
  for i, name in ipairs(state.names) do state.names[i] = name:sub(#prefix + 1) end
  table.insert(state.peeled, prefix)
end

local function peel_each(state, prefixes)
  local names, seen = state.names, {}
  for place in ipairs(names) do
    local i = 1
    while i <= #prefixes do
      if begins(names[place], prefixes[i]) then
        names[place] = names[place]:sub(#prefixes[i] + 1)
        if not seen[prefixes[i]] then table.insert(state.peeled, prefixes[i]) end
        seen[prefixes[i]] = true
        i = 0
      end
      i = i + 1
    end
  end
end

-- The names of before the first stage. To a fixed point: after each prefix that goes, all are tried again.
local function peel(state)
  local prefixes, names, i = state.compiled.peel, {}, 1
  for place, source in ipairs(state.sources) do names[place] = source.name end
  state.names, state.peeled = names, {}
  if prefixes.mode == "each" then return peel_each(state, prefixes) end
  while i <= #prefixes do
    if peel_all(state, prefixes[i]) then
      take_prefix(state, prefixes[i])
      i = 0
    end
    i = i + 1
  end
end

-- ---- results of one rule ----

-- What an entry was before a rule stays with what it becomes.
local function derive(entry, made, rule, texts)
  return { to = made.to, expr = made.expr, from = entry.from, sources = entry.sources,
    ops = operations.append(entry.ops, texts), shape = made.shape, dtype = made.dtype, rule = rule, rules = entry.rules,
    broken = entry.broken }
end

local function add(out, entry) out[#out + 1] = entry end

local function add_tie(state, rule, p, values, entry, out)
  if not rule.tie then return end
  local name, why = pattern.fill(rule.tie, p, values, state.env)
  if not name then return state.problem(rule, entry.to, "%s", why) end
  local copy = {}
  for field, value in pairs(entry) do copy[field] = value end
  copy.to, copy.tied, state.tying = name, entry, true
  add(out, copy)
end

-- An entry that could not be built keeps its place, so that what follows from its name is found too.
local function broken(state, rule, entry, why, out)
  state.problem(rule, entry.to, "%s", why)
  entry.broken, entry.rule, state.breaking = true, rule, true
  add(out, entry)
end

-- A rule that only gives another name.
local function rename(state, rule, p, values, entry, out)
  local name, why = pattern.fill(rule.to[1], p, values, state.env)
  if not name then return broken(state, rule, entry, why, out) end
  entry.to, entry.rule = name, rule
  out[#out + 1] = entry
end

-- The chain of operations of a rule over an entry, under the rule's names.
local function add_results(state, rule, p, values, entry, out, first)
  state.env.values, state.env.rule = values, rule
  local templates = rule.to
  if #rule.ops == 0 and templates and not rule.tie then return rename(state, rule, p, values, entry, out) end
  local list, texts = build.chain(state, rule, rule.ops, entry, first or 1, templates and #templates or 1)
  if not list then
    broken(state, rule, entry, texts, out)
    entry.to = templates and pattern.fill(templates[1], p, values, state.env) or entry.to
    return
  end
  for i, made in ipairs(list) do
    local name, why = entry.to, nil
    if templates then name, why = pattern.fill(templates[i], p, values, state.env) end
    if not name then return broken(state, rule, entry, why, out) end
    local result = derive(entry, { to = name, expr = made.expr, shape = made.shape, dtype = made.dtype }, rule, texts)
    add(out, result)
    if i == 1 then add_tie(state, rule, p, values, result, out) end
  end
end

local function drop(state, rule, entry)
  for _, from in ipairs(entry.sources) do
    table.insert(state.dropped, { from = from, rule = rule and rule.id })
  end
end

-- What a function of `map` gave: a name (false: drop) and operations.
local function add_mapped(state, rule, values, entry, out)
  if values.made == false then return drop(state, rule, entry) end
  if type(values.made) ~= "string" or values.made == "" then
    return broken(state, rule, entry, "map must return a key, false or nil", out)
  end
  local list, why = groups.prepare_ops(values.ops)
  if not list then return broken(state, rule, entry, why, out) end
  local made, texts = build.chain(state, rule, list, entry, 1, 1)
  if not made then return broken(state, rule, entry, texts, out) end
  made[1] = { to = values.made, expr = made[1].expr, shape = made[1].shape, dtype = made[1].dtype }
  add(out, derive(entry, made[1], rule, texts))
end

local function add_single(state, m, values, entry, out)
  local rule = m.rule
  if rule.drop then return drop(state, rule, entry) end
  if rule.keep then
    entry.rule = rule
    return add(out, entry)
  end
  if rule.kind == "map" then return add_mapped(state, rule, values, entry, out) end
  if rule.kind == "rewrite" then
    entry.to, entry.rule = values.made, rule
    if #rule.ops == 0 then return add(out, entry) end
    values = {}
  end
  return add_results(state, rule, m.pattern, values, entry, out)
end

local function add_group(state, group, out)
  local rule = group.rule
  if group.drop then
    for _, entry in ipairs(group.entries) do drop(state, rule, entry) end
    return
  end
  state.env.values, state.env.rule = group.values, rule
  local entry, first = groups.join(state, group)
  if not entry then return end
  if rule.emit then
    for _, result in ipairs(groups.emit(state, group, entry)) do add(out, result) end
    return
  end
  add_results(state, rule, group.pattern, group.values, entry, out, first)
end

local function add_made(state, rule, out)
  if (rule.when and (rule.when.off or not match.holds(state, rule, { to = "" }, {})))
    or (rule.target and not (state.targets and state.has_target(rule, nil, {}))) then
    return
  end
  local entry = { to = rule.to[1].text, sources = {}, ops = "", rules = state.no_rules }
  fire(state, rule, entry)
  add_results(state, rule, nil, {}, entry, out)
end

-- ---- a stage ----

-- Those of a group that is not whole and need not be go on to the next rule.
local function release(state, cache)
  local matchers, values = state.matchers, state.values
  repeat
    state.groups = groups.collect(state)
    local released = groups.released(state.groups)
    for _, i in ipairs(released) do
      local m, captured = match.find(cache, state.entries[i], matchers[i].order)
      matchers[i], values[i] = m, captured
    end
  until #released == 0
end

-- The short way: at once what the entry becomes. false: it is for the long way.
local function take_quick(state, cache, entry)
  local name, m = find_quick(cache, entry.to)
  local rule = m and m.rule
  if not rule or (rule.ops[1] and not operate(state, rule, entry)) then return false end
  local after = state.after[entry.rules]
  entry.to, entry.rule, entry.rules = name, rule, after and after[rule] or with_rule(state, entry.rules, rule)
  return true
end

-- The rest of the entries that rules take: matcher and captures by place.
local function take_all(state, stage)
  local cache, entries, matchers, values = match.cache(state, stage), state.entries or {}, {}, {}
  local any = false
  for i = 1, state.entries and #entries or #state.names do
    local entry = entries[i]
    if not entry then
      entry = new_entry(state, i)
      entries[i] = entry
    end
    if not take_quick(state, cache, entry) then
      local m, captured = match.find(cache, entry, 0)
      if m then matchers[i], values[i], any = m, captured, true end
    end
  end
  state.entries, state.matchers, state.values = entries, matchers, values
  if stage.grouping then release(state, cache) end
  return any
end

local function add_taken(state, i, entry, out)
  local m = state.matchers[i]
  local group = state.groups and state.groups.of[i]
  if not group then return add_single(state, m, state.values[i], entry, out) end
  if group.first == i then add_group(state, group, out) end
end

-- What comes out of the entries, where rules took any the long way.
local function add_all(state)
  local out, entries, matchers = {}, state.entries, state.matchers
  for i = 1, #entries do
    if matchers[i] then fire(state, matchers[i].rule, entries[i]) end
  end
  for i = 1, #entries do
    if matchers[i] then add_taken(state, i, entries[i], out) else out[#out + 1] = entries[i] end
  end
  return out
end

local function run_stage(state, stage)
  state.ranks, state.groups = {}, nil
  local out = take_all(state, stage) and add_all(state) or state.entries
  for _, rule in ipairs(stage.rules) do
    if rule.kind == "make" then add_made(state, rule, out) end
  end
  state.entries = out
end

-- ---- the plan ----

---@class ckpt.rules.Source
---@field name string
---@field shape integer[]? nil: not known; then operations are not checked
---@field dtype string?
---@field identity any? equal for tensors that are one view

---@class ckpt.rules.Output
---@field to string
---@field expr any a key or { operation, ..., of = }
---@field from string? the first of its sources
---@field sources string[]
---@field ops string the operations as text
---@field shape integer[]?
---@field dtype string?
---@field rule string? id of the last rule
---@field rules string[] ids of all
---@field tied_to string? the output that is the same tensor

---@class ckpt.rules.Plan
---@field outputs ckpt.rules.Output[]
---@field dropped { from: string, rule: string }[]
---@field passed string[] source keys that no rule took
---@field unfired { rule: string, file: string?, line: integer?, optional: boolean }[]
---@field unused string[] source keys that fill nothing (of a target)
---@field missing string[] target keys that nothing fills
---@field mismatched { to: string, from: string, message: string }[] of the alignment
---@field collisions { to: string, sources: string[], rules: string[] }[]
---@field checks { a: string, b: string, rule: string }[] sources that must have the same bytes
---@field peeled string[]
---@field marks table<string, string> for the result
---@field problems ckpt.rules.Problem[] a plan with any must not be applied

---@param compiled ckpt.rules.Compiled
---@param sources ckpt.rules.Source[]
---@param options { target?: ckpt.rules.Source[], vars?: table, config?: table, marks?: table }?
---@return ckpt.rules.Plan
function M.plan(compiled, sources, options)
  local state = new_state(compiled, sources, options or {})
  peel(state)
  for _, stage in ipairs(compiled.stages) do run_stage(state, stage) end
  if not state.entries then set_entries(state) end
  if compiled.align then align.run(state) end
  return finish.plan(state)
end

---The sources under the names that peel leaves them, for detection.
---@return ckpt.rules.Source[]
function M.peeled(compiled, sources)
  local state = new_state(compiled, sources, {})
  peel(state)
  set_entries(state)
  return state.entries
end

return M
