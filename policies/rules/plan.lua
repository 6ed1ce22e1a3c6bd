-- plan.lua: a compiled set over the names, shapes and dtypes of one file: what each result is made of. Nothing is
-- read.
--
-- An entry is one tensor on its way: { key = its name now, expr =, shape =, dtype =, from = its (first) source,
-- sources =, ops = texts, rules = ids }. A stage first finds the rule of each entry, then builds what comes out, in
-- the order of the entries; a result of several stands where the first of them stood.
local align = require "policies.rules.align"
local build = require "policies.rules.build"
local finish = require "policies.rules.finish"
local groups = require "policies.rules.groups"
local match = require "policies.rules.match"
local pattern = require "policies.rules.pattern"
local variables = require "policies.rules.vars"

local M = {}

-- ---- the state ----

local function problem(state, rule, key, format, ...)
  rule = rule or { file = state.compiled.file }
  table.insert(state.problems, { rule = rule.id, file = rule.file, line = rule.line, key = key,
    message = format:format(...) })
  return nil
end

local function fire(state, rule, entry)
  state.fired[rule] = (state.fired[rule] or 0) + 1
  local before = entry.rules
  if not before then
    rule.alone = rule.alone or { rule.id } -- shared by all entries that it alone took
    entry.rules = rule.alone
  elseif before[#before] ~= rule.id then
    entry.rules = table.move(before, 1, #before, 1, {})
    table.insert(entry.rules, rule.id)
  end
end

-- The place of a value among those of a capture that a rule met in this stage.
local function rank(state, rule, name, value)
  local of = state.ranks[rule] or {}
  state.ranks[rule] = of
  if not of[name] then
    local list, seen = {}, {}
    for i, m in pairs(state.matchers) do -- sorted below
      local v = m and m.rule == rule and state.values[i][name]
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
    checks = {}, var_values = {}, ranks = {}, said = {} }
  state.env = variables.environment(state, function(rule, name, value)
    if not rule then return nil, "rank has no meaning here" end
    return rank(state, rule, name, value)
  end)
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

local function set_entries(state)
  state.entries = {}
  for i, source in ipairs(state.sources) do
    state.entries[i] = { key = source.name, expr = source.name, from = source.name, shape = source.shape,
      dtype = source.dtype, identity = source.identity }
  end
end

-- ---- peel ----

local function begins(key, prefix) return #key > #prefix and key:sub(1, #prefix) == prefix end

local function peel_all(state, prefix)
  for _, entry in ipairs(state.entries) do
    if not begins(entry.key, prefix) then return false end
  end
  for _, target in ipairs(state.options.target or {}) do
    if not begins(target.name, prefix) then return true end
  end
  return not (state.options.target and state.options.target[1]) and #state.entries > 0
end

local function take_prefix(state, prefix)
  for _, entry in ipairs(state.entries) do entry.key = entry.key:sub(#prefix + 1) end
  table.insert(state.peeled, prefix)
end

local function peel_each(state, prefixes)
  local seen = {}
  for _, entry in ipairs(state.entries) do
    local i = 1
    while i <= #prefixes do
      if begins(entry.key, prefixes[i]) then
        entry.key = entry.key:sub(#prefixes[i] + 1)
        if not seen[prefixes[i]] then table.insert(state.peeled, prefixes[i]) end
        seen[prefixes[i]] = true
        i = 0
      end
      i = i + 1
    end
  end
end

-- To a fixed point: after each prefix that goes, all are tried again.
local function peel(state)
  local prefixes, i = state.compiled.peel, 1
  state.peeled = {}
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

local function sources_of(entry) return entry.sources or { entry.from } end

-- What an entry was before a rule stays with what it becomes.
local function derive(entry, made, rule, texts)
  local out = { key = made.key, expr = made.expr, shape = made.shape, dtype = made.dtype, from = entry.from,
    sources = entry.sources, identity = entry.identity, rules = entry.rules, ops = entry.ops, rule = rule,
    broken = entry.broken }
  if #texts > 0 then
    out.ops = table.move(entry.ops or {}, 1, #(entry.ops or {}), 1, {})
    table.move(texts, 1, #texts, #out.ops + 1, out.ops)
  end
  return out
end

local function add(out, entry) out[#out + 1] = entry end

local function add_tie(state, rule, p, values, entry, out)
  if not rule.tie then return end
  local name, why = pattern.fill(rule.tie, p, values, state.env)
  if not name then return state.problem(rule, entry.key, "%s", why) end
  local copy = {}
  for field, value in pairs(entry) do copy[field] = value end
  copy.key, copy.tied = name, entry
  add(out, copy)
end

-- An entry that could not be built keeps its place, so that what follows from its name is found too.
local function broken(state, rule, entry, why, out)
  state.problem(rule, entry.key, "%s", why)
  entry.broken, entry.rule = true, rule
  add(out, entry)
end

-- A rule that only gives another name.
local function rename(state, rule, p, values, entry, out)
  local name, why = pattern.fill(rule.to[1], p, values, state.env)
  if not name then return broken(state, rule, entry, why, out) end
  entry.key, entry.rule = name, rule
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
    entry.key = templates and pattern.fill(templates[1], p, values, state.env) or entry.key
    return
  end
  for i, made in ipairs(list) do
    local name, why = entry.key, nil
    if templates then name, why = pattern.fill(templates[i], p, values, state.env) end
    if not name then return broken(state, rule, entry, why, out) end
    local result = derive(entry, { key = name, expr = made.expr, shape = made.shape, dtype = made.dtype }, rule, texts)
    add(out, result)
    if i == 1 then add_tie(state, rule, p, values, result, out) end
  end
end

local function drop(state, rule, entry)
  for _, from in ipairs(sources_of(entry)) do
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
  made[1] = { key = values.made, expr = made[1].expr, shape = made[1].shape, dtype = made[1].dtype }
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
    entry.key, entry.rule = values.made, rule
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
  if (rule.when and (rule.when.off or not match.holds(state, rule, { key = "" }, {})))
    or (rule.target and not (state.targets and state.has_target(rule, nil, {}))) then
    return
  end
  local entry = { key = rule.to[1].text, sources = {} }
  fire(state, rule, entry)
  add_results(state, rule, nil, {}, entry, out)
end

-- ---- a stage ----

-- The entries that each rule takes: matcher and captures by place. Those of a group that is not whole and need not be
-- go on to the next rule.
local function take_all(state, stage)
  local cache, matchers, values = {}, {}, {}
  local find = match.find
  for i, entry in ipairs(state.entries) do
    local m, captured = find(state, stage, cache, entry, 0)
    matchers[i], values[i] = m or false, captured or false
  end
  state.matchers, state.values = matchers, values
  if not stage.grouping then return end
  local released
  repeat
    state.groups = groups.collect(state)
    released = groups.released(state.groups)
    for _, i in ipairs(released) do
      local m, captured = find(state, stage, cache, state.entries[i], matchers[i].order)
      matchers[i], values[i] = m or false, captured or false
    end
  until #released == 0
end

local function run_stage(state, stage)
  local out = {}
  state.ranks, state.groups = {}, nil
  take_all(state, stage)
  for i, entry in ipairs(state.entries) do
    if state.matchers[i] then fire(state, state.matchers[i].rule, entry) end
  end
  for i, entry in ipairs(state.entries) do
    local m = state.matchers[i]
    local group = m and state.groups and state.groups.of[i]
    if not m then
      out[#out + 1] = entry
    elseif not group then
      add_single(state, m, state.values[i], entry, out)
    elseif group.first == i then
      add_group(state, group, out)
    end
  end
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
  set_entries(state)
  peel(state)
  state.first = state.entries
  for _, stage in ipairs(compiled.stages) do run_stage(state, stage) end
  if compiled.align then align.run(state) end
  return finish.plan(state)
end

---The sources under the names that peel leaves them, for detection.
---@return ckpt.rules.Source[]
function M.peeled(compiled, sources)
  local state = new_state(compiled, sources, {})
  set_entries(state)
  peel(state)
  return state.entries
end

return M
