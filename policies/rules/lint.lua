-- lint.lua: what is wrong or odd in a set: by itself, and for the keys of one file.
local compile = require "policies.rules.compile"
local pattern = require "policies.rules.pattern"
local plan = require "policies.rules.plan"
local words = require "policies.rules.words"

local M = {}

---@class ckpt.rules.Finding: ckpt.rules.Problem
---@field level "error"|"warning"

local function add(findings, level, problem, message)
  table.insert(findings, { level = level, rule = problem.rule or problem.id, file = problem.file, line = problem.line,
    key = problem.key, message = message or problem.message })
end

-- ---- without a file: keys made of a pattern ----

local TEXTS = { i = { "0", "12" }, s = { "weight", "qx" }, ["*"] = { "a.b", "z" } }

-- A key that the pattern matches; `n`-th of two.
local function sample(p, n)
  local out, values = {}, {}
  for _, element in ipairs(p.elements or {}) do
    local k = element.capture or element.back
    if k then values[k] = values[k] or TEXTS[p.captures[k].kind][n] end
    out[#out + 1] = element.text or values[k]
  end
  return p.elements and table.concat(out)
end

local function takes(m, keys)
  if not m.pattern or m.rule.when or m.rule.target then return false end
  for _, key in ipairs(keys) do
    local ok, found = pcall(pattern.match, m.pattern, key)
    if not ok or not found then return false end
  end
  return true
end

local function samples_of(p)
  local keys = { sample(p, 1), sample(p, 2) }
  return #keys == 2 and keys or nil
end

-- A pattern all of whose sample keys an earlier rule takes.
local function find_shadows(compiled, findings)
  for _, stage in ipairs(compiled.stages) do
    for i, m in ipairs(stage.matchers) do
      local keys = m.pattern and samples_of(m.pattern)
      for j = 1, keys and i - 1 or 0 do
        local earlier = stage.matchers[j]
        if earlier.rule ~= m.rule and takes(earlier, keys) then
          local same = earlier.pattern.text == m.pattern.text
          add(findings, "warning", m.rule, (same and "'%s' is the pattern of rule %s too, which comes before it"
            or "'%s' is never reached: rule %s comes before it and takes the same keys"):format(m.pattern.text,
              earlier.rule.id))
          break
        end
      end
    end
  end
end

-- ---- with a file ----

-- Rules that took nothing although keys fit: which rule had them.
local function explain(compiled, rule, sources)
  local keys = plan.peeled(compiled, sources)
  local stage = compiled.stages[rule.stage]
  for _, entry in ipairs(rule.stage == 1 and keys or {}) do
    for _, p in ipairs(rule.patterns) do
      local ok, found = pcall(pattern.match, p, entry.to)
      if ok and found then
        for _, m in ipairs(stage.matchers) do
          if m.rule == rule then break end
          if m.pattern and pattern.match(m.pattern, entry.to) then
            return ("takes nothing: rule %s comes before it and takes '%s'"):format(m.rule.id, entry.to)
          end
        end
        return ("takes nothing: '%s' fits its pattern, but not its condition"):format(entry.to)
      end
    end
  end
  local p = rule.patterns[1]
  local names = {}
  for i, entry in ipairs(keys) do names[i] = entry.to end
  local near = p and p.literal and #names <= 5000 and words.nearest(p.literal, names)
  return near and ("matches nothing; did you mean '%s'?"):format(near) or nil
end

local function add_plan(compiled, sources, options, findings)
  local made = plan.plan(compiled, sources, options)
  for _, problem in ipairs(made.problems) do add(findings, "error", problem) end
  local by_id = {}
  for _, stage in ipairs(compiled.stages) do
    for _, rule in ipairs(stage.rules) do by_id[rule.id] = rule end
  end
  local said = {}
  for _, finding in ipairs(findings) do
    if finding.rule and finding.message:find("matches nothing", 1, true) then said[finding.rule] = true end
  end
  for _, item in ipairs(made.unfired) do
    local rule = by_id[item.rule]
    if not item.optional and not said[item.rule] then
      local message = rule and explain(compiled, rule, sources)
      add(findings, "warning", rule or item, message or ("matches nothing%s"):format(
        rule and rule.patterns[1] and ": '" .. rule.patterns[1].text .. "'" or ""))
    end
  end
  return made
end

---@param set table
---@param sources ckpt.rules.Source[]? keys, with shapes where they are known
---@param options table? of compile and of plan
---@return ckpt.rules.Finding[] findings, ckpt.rules.Plan? plan, ckpt.rules.Compiled? compiled
function M.lint(set, sources, options)
  local findings, made = {}, nil
  local compiled, problems = compile.compile(set, options)
  for _, problem in ipairs(problems) do add(findings, "error", problem) end
  if not compiled then return findings end
  find_shadows(compiled, findings)
  if sources then made = add_plan(compiled, sources, options, findings) end
  return findings, made, compiled
end

return M
