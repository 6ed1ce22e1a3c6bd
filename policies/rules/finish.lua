-- finish.lua: entries -> the plan: outputs, ties, collisions, what is missing and unused, expectations, marks.
local operations = require "policies.rules.ops"
local pattern = require "policies.rules.pattern"

local M = {}

local NONE = {}

-- ---- ties: outputs that are one tensor ----

-- An expression as text, with sources of one view under one name.
local function signature(expr, canonical)
  if type(expr) == "string" then return canonical[expr] or expr end
  local out = { operations.text(expr), "of" }
  local of = expr.of
  if type(of) == "string" or (of and not expr.many) then of = { of } end
  for _, item in ipairs(of or {}) do out[#out + 1] = signature(item, canonical) end
  return "(" .. table.concat(out, " ") .. ")"
end

-- Source name -> the first source of the same view, for those that have one.
local function canonical_names(views)
  local first, names, any = {}, {}, false
  for _, source in ipairs(views) do
    local identity = source.identity
    if first[identity] then
      names[source.name], any = first[identity], true
      names[first[identity]] = first[identity]
    else
      first[identity] = source.name
    end
  end
  return any and names or nil
end

local function find_ties(state, outputs)
  local canonical = canonical_names(state.views)
  if not canonical then return end
  local first = {}
  for _, output in ipairs(outputs) do
    local shared = output.from and canonical[output.from]
    local text = shared and signature(output.expr, canonical)
    if text and not output.tied_to then
      output.tied_to = first[text]
      first[text] = first[text] or output.to
    end
  end
end

-- ---- outputs ----

local function rule_of(state, id)
  for _, stage in ipairs(state.compiled.stages) do
    for _, rule in ipairs(stage.rules) do
      if rule.id == id then return rule end
    end
  end
  return nil
end

local function collide(state, plan, a, b, rule)
  local texts = {}
  for i, output in ipairs { a, b } do
    texts[i] = ("'%s'%s"):format(output.from or "nothing", output.rule and " (rule " .. output.rule .. ")" or "")
  end
  table.insert(plan.collisions, { to = a.to, sources = { a.from, b.from }, rules = { a.rule, b.rule } })
  state.problem(rule or rule_of(state, a.rule), b.from, "two results are named '%s': from %s and from %s", a.to,
    texts[1], texts[2])
end

-- A name that a tie gives may be another result already: then both have the same bytes.
local function meet(state, plan, by_name, output, rule, tied)
  local other = by_name[output.to]
  if not (other.tied_to or tied) then return collide(state, plan, other, output, rule) end
  local owner = by_name[tied and tied.to or other.tied_to]
  if other.tied_to and not tied then -- the tie stood first: what was meant by it is this result
    other.tied_to = nil
    for field, value in pairs(output) do other[field] = value end
  end
  if owner and owner ~= other then owner.tied_to = output.to end
  local a, b = owner and owner.from, other.from
  if a and b and a ~= b then table.insert(state.checks, { a = a, b = b, rule = output.rule }) end
end

-- An entry that is tied, or could not be built, becomes an output where it stands; true: a new one.
local function place(state, plan, by_name, entry)
  local rule, rules, tied, broken = entry.rule, entry.rules, entry.tied, entry.broken
  if tied and broken then return false end
  entry.rule, entry.tied, entry.broken = rules[#rules], nil, nil
  if by_name[entry.to] then return meet(state, plan, by_name, entry, rule, tied) end
  if tied then entry.tied_to = tied.to end
  return true
end

-- Entries become outputs where they stand, and so does their list.
local function add_outputs(state, plan)
  local by_name, outputs, n = {}, state.entries, 0
  local special = state.tying or state.breaking
  for i = 1, #outputs do
    local entry = outputs[i]
    local name, rules = entry.to, entry.rules
    if special or by_name[name] then
      rules = place(state, plan, by_name, entry) and rules
    else
      entry.rule = rules[#rules]
    end
    outputs[i] = nil
    if rules then
      n = n + 1
      outputs[n], by_name[name] = entry, entry
    end
  end
  plan.outputs = outputs
  if state.views[1] then find_ties(state, outputs) end
  return by_name
end

-- ---- what no rule took, what is of use ----

local function check_passed(state, plan)
  if not state.compiled.exact then return end
  for _, name in ipairs(plan.passed) do
    state.problem(nil, name, "no rule takes '%s', and the set is exact", name)
  end
end

-- The sources in `list` are used: those before the place `at` are, and the others by name.
local function add_used(sources, used, at, list)
  for _, name in ipairs(list) do
    while sources[at] and used[sources[at].name] do at = at + 1 end
    if sources[at] and sources[at].name == name then at = at + 1 else used[name] = true end
  end
  return at
end

-- What passed; and the sources that are used, as names and a place, since they come mostly in the order of what is made
-- of them.
local function look_through(state, plan)
  local sources, targets, used, at, none = state.sources, state.targets, {}, 1, state.no_rules
  for _, item in ipairs(plan.dropped) do used[item.from] = true end
  for _, check in ipairs(plan.checks) do used[check.a], used[check.b] = true, true end
  local outputs = plan.outputs
  for i = 1, #outputs do
    local output = outputs[i]
    if output.rules == none then plan.passed[#plan.passed + 1] = output.from end
    if not targets or targets[output.to] then
      local list, source = output.sources, sources[at]
      local next_one = source and source.name == list[1] and #list == 1
      at = next_one and at + 1 or add_used(sources, used, at, list)
    end
  end
  return used, at
end

local function add_unfired(state, plan)
  local all = state.compiled.expect.fired == "all"
  for _, stage in ipairs(state.compiled.stages) do
    for _, rule in ipairs(stage.rules) do
      local off = rule.when and rule.when.off
      if not state.fired[rule] and not off and rule.kind ~= "make" then
        table.insert(plan.unfired, { rule = rule.id, file = rule.file, line = rule.line,
          optional = rule.optional == true })
        if rule.required or (all and not rule.optional) then
          state.problem(rule, nil, "%s matches nothing", rule.patterns[1] and ("'%s'"):format(rule.patterns[1].text)
            or "the rule")
        end
      end
    end
  end
end

-- ---- the target ----

local function matches_any(list, name)
  for _, p in ipairs(list) do
    if pattern.match(p, name) then return true end
  end
  return false
end

local function add_target(state, plan, by_name, used, at)
  for _, target in ipairs(state.options.target or NONE) do
    if not by_name[target.name] then plan.missing[#plan.missing + 1] = target.name end
  end
  for i = at, #state.sources do
    local name = state.sources[i].name
    if not used[name] then plan.unused[#plan.unused + 1] = name end
  end
end

-- ---- expectations, marks ----

local function check_list(state, allowed, list, what)
  if not allowed then return end
  for _, name in ipairs(list) do
    if not matches_any(allowed, name) then state.problem(nil, name, what, name) end
  end
end

local function check_expectations(state, plan)
  local expect = state.compiled.expect
  if expect.n_out and #plan.outputs ~= expect.n_out then
    state.problem(nil, nil, "%d results, %d are expected", #plan.outputs, expect.n_out)
  end
  for _, output in ipairs(expect.forbid and #expect.forbid > 0 and plan.outputs or {}) do
    if matches_any(expect.forbid, output.to) then
      state.problem(nil, output.from, "'%s' is a name that no result may have", output.to)
    end
  end
  if state.options.target then check_list(state, expect.missing, plan.missing, "nothing fills '%s'") end
  check_list(state, expect.unused, plan.unused, "'%s' is not used")
end

local function check_marks(state, plan)
  local names = {}
  for name in pairs(state.compiled.mark or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local text = tostring(state.compiled.mark[name])
    plan.marks[name] = text
    if (state.options.marks or {})[name] == text then
      state.problem(nil, nil, "the file is marked '%s = %s': these rules have been applied to it already", name, text)
    end
  end
end

---@return ckpt.rules.Plan
function M.plan(state)
  local plan = { id = state.compiled.id, outputs = {}, dropped = state.dropped, passed = {}, unfired = {}, unused = {},
    missing = {}, mismatched = state.mismatched or {}, collisions = {}, checks = state.checks, peeled = state.peeled,
    marks = {}, problems = state.problems, lossy = {} }
  local by_name = add_outputs(state, plan)
  local used, at = look_through(state, plan)
  check_passed(state, plan)
  add_unfired(state, plan)
  add_target(state, plan, by_name, used, at)
  check_expectations(state, plan)
  check_marks(state, plan)
  return plan
end

return M
