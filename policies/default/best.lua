-- best.lua: which save is better, and which are the best. Part of policies/default.lua.
--
-- A best is a list of criteria, asked in turn: the first whose metric differs by more than its min_delta decides; where
-- none does, the earlier or the later save wins, as `tie` says. The first criterion's metric must be a finite number:
-- what is not is never better, and never poisons what comes after it. In a further criterion a metric that is not set,
-- or not finite, loses against one that is.
-- The best of a run is what is left when its saves meet one after the other in the order of their epochs: with a
-- min_delta the order matters, and it is the order in which the trainer asked.
local names = require "policies.default.names"

local M = {}

-- ---- reading `best` and `bests` ----

local CRITERION = { metric = true, mode = true, tie = true, min_delta = true }
local NAMED = { name = true, keep = true, alias = true, better = true }

local function check_fields(where, fields, more)
  for key in pairs(fields) do
    local known = CRITERION[key] or more and more[key] or math.type(key) == "integer"
    if not known then error(("%s has no field '%s'"):format(where, tostring(key)), 0) end
  end
end

-- 0.01, "1%", or { abs = 0.01, rel = 0.001 }: absolute and relative to the best so far; both must be exceeded.
local function delta_of(where, delta)
  if delta == nil then return 0, 0 end
  if type(delta) == "number" and delta >= 0 then return delta, 0 end
  local percent = type(delta) == "string" and tonumber(delta:match("^%s*([%d.]+)%s*%%%s*$"))
  if percent then return 0, percent / 100 end
  if type(delta) == "table" then
    local abs, rel = delta.abs or 0, delta.rel or 0
    if type(abs) == "number" and type(rel) == "number" and abs >= 0 and rel >= 0 then return abs, rel end
  end
  error(("%s.min_delta must be a number from 0 on, '1%%', or { abs =, rel = }, not '%s'"):format(where,
    tostring(delta)), 0)
end

local function rule_of(where, fields, metric)
  local mode = fields.mode or "max"
  if mode ~= "max" and mode ~= "min" then error(("%s.mode must be 'max' or 'min', not '%s'"):format(where, mode), 0) end
  metric = fields.metric or metric
  if type(metric) ~= "string" then error(("%s.metric must be a name"):format(where), 0) end
  local abs, rel = delta_of(where, fields.min_delta)
  return { metric = metric, sign = mode == "min" and -1 or 1, abs = abs, rel = rel }
end

local add_criterion

local function add_tie(spec, where, tie)
  if type(tie) == "table" then return add_criterion(spec, where .. ".tie", tie) end
  if tie ~= nil and tie ~= "first" and tie ~= "last" then
    error(("%s.tie must be 'first' or 'last', not '%s'; or another criterion: { metric = '%s' }"):format(where,
      tostring(tie), tostring(tie)), 0)
  end
  spec.tie = tie or spec.tie
end

-- A criterion, and those that it names where it is even.
function add_criterion(spec, where, fields, more, metric)
  if #spec.rules >= 16 then error(where .. ": more than 16 criteria", 0) end
  check_fields(where, fields, more)
  if fields[1] ~= nil then
    for i, item in ipairs(fields) do add_criterion(spec, ("%s[%d]"):format(where, i), item) end
  else
    spec.rules[#spec.rules + 1] = rule_of(where, fields, metric)
  end
  add_tie(spec, where, fields.tie)
end

---@class ckpt.BestSpec
---@field name string? nil: the one that save_best reports
---@field rules table[] { metric, sign, abs, rel }
---@field tie "first"|"last"
---@field better function? the user's own
---@field keep integer
---@field alias string|false

local function new_spec(where, fields, more, metric)
  local spec = { rules = {}, tie = "last" }
  if type(fields) ~= "table" then error(("%s must be a table, not %s"):format(where, type(fields)), 0) end
  add_criterion(spec, where, fields, more, metric)
  spec.exact = true
  for _, rule in ipairs(spec.rules) do spec.exact = spec.exact and rule.abs == 0 and rule.rel == 0 end
  return spec
end

local function named_spec(where, fields)
  local spec = new_spec(where, fields, NAMED)
  local name, keep = fields.name, fields.keep or 1
  if type(name) ~= "string" or not name:find("^[%w_-]+$") then
    error(("%s.name must be a word, not '%s'"):format(where, tostring(name)), 0)
  end
  if math.type(keep) ~= "integer" or keep < 1 then
    error(("%s.keep must be a whole number above 0, not '%s'"):format(where, tostring(keep)), 0)
  end
  spec.name, spec.keep, spec.better, spec.alias = name, keep, fields.better, fields.alias
  if spec.alias == nil then spec.alias = ("model_best_%s.pth"):format(name) end
  return spec
end

---The bests of a policy: the one of `best` (and `better`), then those of `bests`.
---@param policy ckpt.Policy
---@return ckpt.BestSpec[]
function M.specs(policy)
  local first = new_spec("best", policy.best or {}, nil, "acc")
  first.better = policy.better
  local list, seen = { first }, {}
  for i, fields in ipairs(policy.bests or {}) do
    local spec = named_spec(("bests[%d]"):format(i), fields)
    if seen[spec.name] then error(("bests has two of the name '%s'"):format(spec.name), 0) end
    seen[spec.name], list[#list + 1] = true, spec
  end
  return list
end

-- ---- better ----

local function is_finite(value)
  return value ~= nil and value == value and value ~= math.huge and value ~= -math.huge
end

-- 1: better, -1: worse, 0: the criterion does not say.
local function verdict(rule, value, old)
  local usable, old_usable = is_finite(value), is_finite(old)
  if not usable or not old_usable then return usable == old_usable and 0 or usable and 1 or -1 end
  local gain, limit = (value - old) * rule.sign, math.max(rule.abs, rule.rel * math.abs(old))
  if gain > limit then return 1 end
  return gain < -limit and -1 or 0
end

-- The rule that decides, if any, and what it says.
local function decide(spec, now, best)
  for _, rule in ipairs(spec.rules) do
    local says = verdict(rule, now[rule.metric], best[rule.metric])
    if says ~= 0 then return says, rule end
  end
  return spec.tie == "last" and spec.exact and 1 or 0, nil
end

-- Why a metric of no use cannot be the best.
local function unusable(metric, value)
  if value == nil then return ("the metric '%s' is not set"):format(metric) end
  return ("%s is %s, which is never better"):format(metric, names.number(value))
end

local function gain_text(spec, rule, now, best)
  if not rule then return "equal, the later wins" end
  local value, old = now[rule.metric], best[rule.metric]
  local gain = is_finite(old) and ("%+.4g"):format(value - old) or "set"
  return rule == spec.rules[1] and gain or rule.metric .. " " .. gain
end

local function loss_text(spec, rule, now, best)
  local metric = rule and rule.metric or spec.rules[1].metric
  local value, old = now[metric], best[metric]
  if not is_finite(value) then return unusable(metric, value) end
  return ("%s %s does not beat %s"):format(metric, names.number(value), names.number(old))
end

---Whether the metrics `now` are better than `best` (nil: there is none yet), and why.
---@param spec ckpt.BestSpec
---@param now table<string, number>
---@param best table<string, number>?
---@return boolean better
---@return string why
function M.better(spec, now, best)
  local metric = spec.rules[1].metric
  if not is_finite(now[metric]) then return false, unusable(metric, now[metric]) end
  if best == nil then return true, "first" end
  if spec.better then
    local yes = spec.better(now, best) == true
    return yes, yes and "policy.better says so" or "policy.better says no"
  end
  local says, rule = decide(spec, now, best)
  if says > 0 then return true, gain_text(spec, rule, now, best) end
  return false, loss_text(spec, rule, now, best)
end

-- The same without a word.
local function beats(spec, now, best)
  if not is_finite(now[spec.rules[1].metric]) then return false end
  if best == nil then return true end
  if spec.better then return spec.better(now, best) == true end
  return decide(spec, now, best) > 0
end

-- ---- the best ----

---The point that wins, taking them in their order; nil if none has a usable metric.
---@param spec ckpt.BestSpec
---@param points ckpt.Point[]
---@return ckpt.Point?
function M.of(spec, points)
  local best
  for _, point in ipairs(points) do
    if beats(spec, point.metrics, best and best.metrics) then best = point end
  end
  return best
end

-- What a spec asks, as text; nil where a function asks.
local function key_of(spec)
  if spec.better then return nil end
  local words = { spec.tie }
  for i, rule in ipairs(spec.rules) do
    words[i + 1] = ("%q %d %a %a"):format(rule.metric, rule.sign, rule.abs, rule.rel)
  end
  return table.concat(words, " ")
end

---The same of all saves of the run up to one: what was found is kept with the points, so that a long run does not
---begin anew at every save.
---@param spec ckpt.BestSpec
---@param points ckpt.Point[] as history.points gives them
---@return ckpt.Point?
function M.of_run(spec, points)
  local key = key_of(spec)
  if not key then return M.of(spec, points) end
  local known, best = #points, nil
  while known > 0 and not (points[known].folds and points[known].folds[key] ~= nil) do known = known - 1 end
  if known > 0 then best = points[known].folds[key] or nil end
  for i = known + 1, #points do
    local point = points[i]
    if beats(spec, point.metrics, best and best.metrics) then best = point end
    point.folds = point.folds or {}
    point.folds[key] = best or false
  end
  return best
end

---The best of `here`, then the best of the others, and so on: at most `n`. Where the best of all `points` is among
---them it comes first: with min_delta, what wins depends on what came before.
---@param spec ckpt.BestSpec
---@param points ckpt.Point[]
---@param here ckpt.Point[]
---@param n integer
---@return ckpt.Point[]
function M.ranking(spec, points, here, n)
  local ranked, rest, first = {}, table.move(here, 1, #here, 1, {}), M.of_run(spec, points)
  local function take(best)
    for i = #rest, 1, -1 do
      if rest[i] == best then
        ranked[#ranked + 1] = table.remove(rest, i)
        return
      end
    end
  end
  if first and n > 0 then take(first) end
  while #ranked < n do
    local best = M.of(spec, rest)
    if not best then break end
    take(best)
  end
  return ranked
end

---"best" or "best loss", as reasons have it.
---@param spec ckpt.BestSpec
---@return string
function M.label(spec) return spec.name and "best " .. spec.name or "best" end

return M
