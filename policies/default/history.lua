-- history.lua: what the ledger says about the run, and which save is the best. Part of policies/default.lua.
--
-- A point is one save: { epoch, step, file, time, bytes, metrics, stale }, in the order of the epochs. The best is
-- found among all of them by their metrics, so that a run killed between save and save_best loses no candidate; a
-- save whose epoch set no metric has none in the ledger.
-- A run that goes back (an older checkpoint was resumed, or the directory is used afresh) overtakes its own later
-- entries: those are no points any more, so that they neither win as the best nor are deleted as old.
local names = require "policies.default.names"

local M = {}

-- ---- points ----

local function is_later(a, b)
  if a.epoch ~= b.epoch then return a.epoch > b.epoch end
  return (a.step or 0) > (b.step or 0)
end

local function is_same(a, b) return a.epoch == b.epoch and (a.step or 0) == (b.step or 0) end

-- The metrics of a save and of the save_best after it are those of one point; the later ones win.
local function merge(point, entry)
  for name, value in pairs(entry.metrics or {}) do point.metrics[name] = value end
  point.time = entry.time or point.time
  if entry.bytes and entry.bytes > 0 then point.bytes = entry.bytes end
end

local function add(points, entry)
  while #points > 0 and is_later(points[#points], entry) do points[#points] = nil end
  local last = points[#points]
  if not (last and is_same(last, entry) and last.file == entry.file) then
    last = { epoch = entry.epoch, step = entry.step, file = entry.file, metrics = {} }
    points[#points + 1] = last
  end
  merge(last, entry)
end

-- A file that a later point wrote anew holds nothing of the earlier one.
local function mark_stale(points)
  local seen = {}
  for i = #points, 1, -1 do
    points[i].stale = seen[points[i].file] or false
    seen[points[i].file] = true
  end
end

---The run's saves by the ledger, and `now` ({ epoch, step, file, metrics }) as the last of them.
---@param run ckpt.Run
---@param now table?
---@return table[]
function M.points(run, now)
  local points = {}
  for _, entry in ipairs(run.ledger) do
    local is_save = entry.event == "save" or entry.event == "best"
    if is_save and entry.file and entry.epoch then add(points, entry) end
  end
  if now then add(points, now) end
  mark_stale(points)
  return points
end

---The saves before this one.
---@param run ckpt.Run
---@return table[]
function M.before(run)
  local points = M.points(run, { epoch = run.epoch, step = run.step, file = "" })
  while #points > 0 and is_same(points[#points], run) do points[#points] = nil end
  return points
end

---Whether `file` is what the last save of this very epoch and step wrote.
---@param run ckpt.Run
---@param file string
---@return boolean
function M.just_saved(run, file)
  local last = run.ledger[#run.ledger]
  if not last or last.file ~= file or last.epoch ~= run.epoch or last.step ~= run.step then return false end
  return (last.event == "save" or last.event == "best") and M.files(run)[file] ~= nil
end

---Name -> file of what is in the directory.
---@param run ckpt.Run
---@return table<string, ckpt.File>
function M.files(run)
  local files = {}
  for _, file in ipairs(run.files) do files[file.name] = file end
  return files
end

-- ---- better ----

local function is_finite(value) return value == value and value ~= math.huge and value ~= -math.huge end

local function rule_of(policy)
  local best = policy.best or {}
  local rule = { metric = best.metric or "acc", mode = best.mode or "max", tie = best.tie or "last",
                 min_delta = best.min_delta or 0 }
  if rule.mode ~= "max" and rule.mode ~= "min" then
    error(("best.mode must be 'max' or 'min', not '%s'"):format(rule.mode), 0)
  end
  if rule.tie ~= "first" and rule.tie ~= "last" then
    error(("best.tie must be 'first' or 'last', not '%s'"):format(rule.tie), 0)
  end
  return rule
end

---@param policy ckpt.Policy
---@return string
function M.metric(policy) return rule_of(policy).metric end

-- A gain must exceed min_delta; an equal value counts only where no gain is asked for.
local function beats(rule, value, old)
  local gain = value - old
  if rule.mode == "min" then gain = old - value end
  if gain == 0 then return rule.tie == "last" and rule.min_delta == 0 end
  return gain > 0 and gain > rule.min_delta
end

---Whether the metrics `now` are better than `best` (nil: there is none yet), and why not.
---@param policy ckpt.Policy
---@param now table<string, number>
---@param best table<string, number>?
---@return boolean better
---@return string? why_not
function M.better(policy, now, best)
  local rule = rule_of(policy)
  local value = now[rule.metric]
  if value ~= nil and not is_finite(value) then
    return false, ("%s is %s, which is never better"):format(rule.metric, names.number(value))
  end
  if value == nil then return false, ("the metric '%s' is not set"):format(rule.metric) end
  if policy.better then return best == nil or policy.better(now, best) == true, "policy.better says no" end
  local old = best and best[rule.metric]
  if old == nil or beats(rule, value, old) then return true end
  return false, ("%s %s does not beat %s"):format(rule.metric, names.number(value), names.number(old))
end

---The point that wins by its metrics, taking them in their order; nil if none has a usable metric.
---@param policy ckpt.Policy
---@param points table[]
---@return table?
function M.top(policy, points)
  local best
  for _, point in ipairs(points) do
    if M.better(policy, point.metrics, best and best.metrics) then best = point end
  end
  return best
end

---The best so far.
---@param policy ckpt.Policy
---@param points table[]
---@return table?
function M.best(policy, points) return M.top(policy, points) end

return M
