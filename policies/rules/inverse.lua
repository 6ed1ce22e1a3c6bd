-- inverse.lua: what undoes a set or a plan.
--
-- Of a plan, whose shapes are known, exactly: it begins with what the results hold and goes down their expressions;
-- the pieces of one split are joined again, the parts of one joint taken apart, until the sources are reached. Of a
-- set, rule by rule, as far as names and operations say it without shapes.
local invert_rules = require "policies.rules.invert_rules"
local operations = require "policies.rules.ops"

local ckpt = ckpt or require "ckpt" -- a global of a policy's environment

local M = {}

-- ---- of a plan ----

local function text_of(expr)
  if type(expr) == "string" then return "'" .. expr end
  local out = { operations.text(expr) }
  for _, item in ipairs(expr.many and expr.of or { expr.of }) do out[#out + 1] = text_of(item) end
  return "(" .. table.concat(out, " ") .. ")"
end

-- Shape and dtype of an expression over the sources, remembered by its text.
local function meta(work, expr, text)
  if type(expr) == "string" then return work.metas[expr] end
  local known = work.known_metas[text]
  if known == nil then
    local shape, dtype = ckpt.infer(expr, work.metas)
    known = shape and { shape = shape, dtype = dtype } or false
    work.known_metas[text] = known
  end
  return known or nil
end

local function lose(work, rule)
  if rule and not work.lost[rule] then
    work.lost[rule] = true
    table.insert(work.lossy, rule)
  end
end

local learn

local function split_parts(work, expr, value, rule)
  local dim, sizes = expr[2], {}
  for i, item in ipairs(expr.of) do
    local m = meta(work, item, text_of(item))
    if not m then return lose(work, rule) end
    sizes[i] = expr[1] == "cat" and m.shape[(dim < 0 and dim + #m.shape or dim) + 1] or 1
  end
  for i, item in ipairs(expr.of) do
    local piece = { "split", dim, sizes, i - 1, of = value }
    if expr[1] == "stack" then piece = { "squeeze", dim, of = piece } end
    learn(work, item, piece)
  end
end

-- Keeps one piece of a split until all are there.
local function join_piece(work, expr, value)
  local base = text_of(expr.of)
  local key = ("%s %s of %s"):format(expr[1], operations.text { expr[1], expr[2], expr[3] }, base)
  local n = expr[1] == "split" and #expr[3] or expr[3]
  local list = work.pieces[key] or { n = 0, rule = expr.rule, values = {} }
  work.pieces[key] = list
  local at = expr[4] + 1
  if not list.values[at] then list.n = list.n + 1 end
  list.values[at] = value
  if list.n == n then
    list.done = true
    learn(work, expr.of, n == 1 and value or { "cat", expr[2], of = list.values, many = true })
  end
end

local function learn_op(work, expr, value)
  if expr[1] == "cat" or expr[1] == "stack" then return split_parts(work, expr, value, expr.rule) end
  if expr[1] == "split" or expr[1] == "chunk" then return join_piece(work, expr, value) end
  if expr.of == nil then return nil end -- zeros and the like come from nothing
  if expr.many then return lose(work, expr.rule) end
  local before = meta(work, expr.of, text_of(expr.of))
  local back = before and operations.invert(expr, before)
  if not back then return lose(work, expr.rule) end
  local node = table.move(back, 1, #back, 1, { of = value })
  return learn(work, expr.of, node)
end

-- What `expr` over the sources is worth is `value` over the results.
learn = function(work, expr, value)
  if type(expr) ~= "string" then return learn_op(work, expr, value) end
  if work.found[expr] == nil then work.found[expr] = value end
end

local function lossy_rules(compiled)
  local set = {}
  for _, stage in ipairs(compiled.stages) do
    for _, rule in ipairs(stage.rules) do set[rule.id] = rule end
  end
  return set
end

local function new_work(plan, sources)
  local work = { metas = {}, known_metas = {}, found = {}, pieces = {}, lost = {}, lossy = {} }
  for _, source in ipairs(sources) do work.metas[source.name] = source end
  work.plan = plan
  return work
end

local function learn_outputs(work, compiled)
  local rules = lossy_rules(compiled)
  for _, output in ipairs(work.plan.outputs) do
    for _, id in ipairs(output.rules) do
      if rules[id] and rules[id].lossy then lose(work, id) end
    end
    learn(work, output.expr, output.to)
  end
end

-- Sources that do not come back: dropped ones, and those of operations that lose something.
local function rest(work, sources)
  local by_source, gone = {}, {}
  for _, item in ipairs(work.plan.dropped) do by_source[item.from] = item.rule or "?" end
  for _, output in ipairs(work.plan.outputs) do
    for _, from in ipairs(output.sources) do by_source[from] = by_source[from] or output.rule end
  end
  for _, source in ipairs(sources) do
    if work.found[source.name] == nil then
      gone[#gone + 1] = source.name
      lose(work, by_source[source.name])
    end
  end
  return gone
end

---@class ckpt.rules.Inverse
---@field outputs { to: string, expr: any }[] sources again, over the names of the results
---@field gone string[] sources that do not come back
---@field lossy string[] ids of the rules that lose them

---What undoes a plan. `gone` and `lossy` are empty if it undoes it whole.
---@param compiled ckpt.rules.Compiled
---@param plan ckpt.rules.Plan
---@param sources ckpt.rules.Source[] those that it was made for
---@return ckpt.rules.Inverse
function M.of_plan(compiled, plan, sources)
  local work = new_work(plan, sources)
  learn_outputs(work, compiled)
  local gone, outputs = rest(work, sources), {}
  for _, source in ipairs(sources) do
    local expr = work.found[source.name]
    if expr ~= nil then outputs[#outputs + 1] = { to = source.name, expr = expr } end
  end
  return { outputs = outputs, gone = gone, lossy = work.lossy }
end

---What undoes a set, or a plan of it: a set, or an inverse plan. nil and the ids of the rules that lose something.
---@param compiled ckpt.rules.Compiled
---@param plan ckpt.rules.Plan?
---@param sources ckpt.rules.Source[]? of the plan
---@return table?, string[]|{ rule: string, message: string }[]
function M.inverse(compiled, plan, sources)
  if not plan then return invert_rules.set(compiled) end
  local inverse = M.of_plan(compiled, plan, sources or {})
  if #inverse.lossy > 0 or #inverse.gone > 0 then return nil, inverse.lossy end
  return inverse, {}
end

return M
