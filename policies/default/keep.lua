-- keep.lua: which files stay. Part of policies/default.lua.
--
-- A file stays if any pool wants it. Whatever the pools say: the newest and the bests stay, so does a file that the
-- ledger does not know, and one that a run which went back has overtaken. Aliases are names, not files: they are never
-- counted and never removed here.
-- `ceiling` alone takes away: while what the pools want is larger, the oldest goes that is neither the newest, nor a
-- best, nor pinned. So a pool wins over "no pool wants it", the ceiling over the pools, those four over the ceiling.
local best = require "policies.default.best"
local history = require "policies.default.history"
local names = require "policies.default.names"

local M = {}

local UNITS = { [""] = 1, B = 1, KB = 1e3, MB = 1e6, GB = 1e9, TB = 1e12,
                KIB = 2 ^ 10, MIB = 2 ^ 20, GIB = 2 ^ 30, TIB = 2 ^ 40 }

-- ---- reading `keep` ----

local function count_of(keep, pool)
  local n = keep[pool] or 0
  if math.type(n) ~= "integer" or n < 0 then
    error(("keep.%s must be a whole number, not '%s'"):format(pool, tostring(n)), 0)
  end
  return n
end

local COUNTS, SPANS = { epochs = "epoch", steps = "step" }, { minutes = 60, hours = 3600, days = 86400 }

local function every_of(keep)
  local every = keep.every or {}
  if type(every) ~= "table" then error("keep.every must be a table such as { epochs = 10 }", 0) end
  for unit, n in pairs(every) do
    if not COUNTS[unit] and not SPANS[unit] then
      error(("keep.every has no '%s'; there are epochs, steps, minutes, hours, days"):format(tostring(unit)), 0)
    end
    if COUNTS[unit] and math.type(n) ~= "integer" or type(n) ~= "number" or n <= 0 or n ~= n then
      error(("keep.every.%s must be a %s above 0, not '%s'"):format(unit, COUNTS[unit] and "whole number" or "number",
        tostring(n)), 0)
    end
  end
  return every
end

---Bytes of 20000, "20GB" (10^9) or "20GiB" (2^30).
---@param size number|string
---@param field string? "max_bytes"
---@return number
function M.bytes_of(size, field)
  if type(size) == "number" then return size end
  local digits, unit = tostring(size):match("^%s*([%d%.]+)%s*(%a*)$")
  local number, factor = tonumber(digits), UNITS[(unit or "?"):upper()]
  if not number or not factor then
    error(("keep.%s must be a number or a size such as '20GB', not '%s'"):format(field or "max_bytes",
      tostring(size)), 0)
  end
  return number * factor
end

-- The size of the file being written is not known yet: it is taken to be that of the file before it.
local function size_at(points, i, otherwise)
  return points[i].bytes or (points[i - 1] and points[i - 1].bytes) or otherwise
end

-- ---- pools: each gives its reasons, and the setting they come from ----

---@class ckpt.Choice
---@field keep ckpt.KeepFields
---@field points ckpt.Point[] of the run, in the order of their epochs
---@field here ckpt.Point[] those whose files are there
---@field specs ckpt.BestSpec[]
---@field pins table<string, true>

local pools = {}

function pools.best(choice, give)
  for _, spec in ipairs(choice.specs) do
    local n = math.max(spec.keep or count_of(choice.keep, "best"), 1)
    local label = best.label(spec)
    for place, point in ipairs(best.ranking(spec, choice.points, choice.here, n)) do
      give(point, ("%s #%d"):format(label, place), ("%s = %d"):format(label, n), place == 1)
    end
  end
end

-- The first save at or behind each multiple of n: no save needs to hit it exactly.
local function every_count(choice, give, unit, n)
  local field, label = COUNTS[unit], ("every %d %s"):format(n, unit)
  for _, point in ipairs(choice.here) do
    local value, before = point[field], choice.points[point.at - 1]
    local crossed = value and (value // n > (before and before[field] or 0) // n or point.at == 1 and value == 0)
    if crossed then give(point, label, label) end
  end
end

-- From the oldest on, each that is at least so much later than the one before. A clock that was put back starts anew.
local function every_span(choice, give, unit, n)
  local last
  for _, point in ipairs(choice.here) do
    local time = point.time
    if time and (not last or time - last >= n * SPANS[unit] or time < last) then
      local label = ("every %s %s"):format(tostring(n), unit)
      give(point, label, label)
      last = time
    end
  end
end

function pools.every(choice, give)
  local every = every_of(choice.keep)
  for _, unit in ipairs { "epochs", "steps" } do
    if every[unit] then every_count(choice, give, unit, every[unit]) end
  end
  for _, unit in ipairs { "minutes", "hours", "days" } do
    if every[unit] then every_span(choice, give, unit, every[unit]) end
  end
end

function pools.last(choice, give)
  local n, here = count_of(choice.keep, "last"), choice.here
  for i = 1, math.min(n, #here) do
    give(here[#here - i + 1], ("last %d of %d"):format(i, n), ("last = %d"):format(n))
  end
end

-- The newest file of each of the n latest spans of the clock (UTC) in which something was saved.
local function latest_spans(name, seconds)
  return function(choice, give)
    local n, here = count_of(choice.keep, name), choice.here
    local left, span = n, nil
    for i = #here, 1, -1 do
      local this = here[i].time and here[i].time // seconds
      if left > 0 and this and this ~= span then
        give(here[i], name, ("%s = %d"):format(name, n))
        left, span = left - 1, this
      end
    end
  end
end

pools.hourly = latest_spans("hourly", 3600)
pools.daily = latest_spans("daily", 86400)
pools.weekly = latest_spans("weekly", 7 * 86400)

-- The newest files that fit together.
function pools.max_bytes(choice, give)
  local limit, here, size = choice.keep.max_bytes, choice.here, 0
  if limit == nil then return end
  local left = M.bytes_of(limit)
  for i = #here, 1, -1 do
    size = size_at(here, i, size)
    left = left - size
    if left < 0 then return end
    give(here[i], "within " .. tostring(limit), "max_bytes = " .. tostring(limit))
  end
end

function pools.pin(choice, give)
  local pin = choice.keep.pin
  if type(pin) == "string" then pin = { pin } end
  if pin ~= nil and type(pin) ~= "table" and type(pin) ~= "function" then
    error(("keep.pin must be a list of globs or a function, not %s"):format(type(pin)), 0)
  end
  for _, point in ipairs(choice.here) do
    local wanted = choice.pins[point.file]
    if not wanted and type(pin) == "function" then wanted = pin(point) end
    if not wanted and type(pin) == "table" then wanted = names.matches_any(pin, point.file) end
    if wanted then give(point, "pinned", "pin", true) end
  end
end

local ORDER = { "best", "every", "last", "hourly", "daily", "weekly", "max_bytes", "pin" }

-- A misspelt pool would delete what it was to keep.
local function check_pools(keep)
  local unknown = {}
  for name in pairs(keep) do
    if not pools[name] and name ~= "ceiling" then unknown[#unknown + 1] = tostring(name) end
  end
  if #unknown == 0 then return end
  table.sort(unknown)
  error(("keep has no pool '%s'; there are %s, and ceiling"):format(unknown[1], table.concat(ORDER, ", ")), 0)
end

-- ---- deciding ----

-- Points whose file is there and is not another's alias; the one being written counts as there.
local function present(policy, run, points, written)
  local aliases, list = history.aliases(run), {}
  local latest, best_alias = policy.latest or "model_latest.pth", policy.best_alias or "model_best.pth"
  for _, file in ipairs(run.files) do
    local name = file.name
    local is_alias = aliases[name] or name == latest or name == best_alias
    if name ~= written and not is_alias then list[#list + 1] = history.holder(run, points, name) end
  end
  table.sort(list, function(a, b) return a.at < b.at end)
  if written then list[#list + 1] = points[#points] end
  return list
end

---@class ckpt.Verdict
---@field reasons string[]
---@field labels string[] the settings that keep it
---@field safe boolean the ceiling does not touch it
---@field dropped string? the setting that takes it away

-- The oldest go first; what no pool wants goes anyway and is not counted.
local function apply_ceiling(keep, here, verdicts)
  if keep.ceiling == nil then return end
  local total, limit, sizes = 0, M.bytes_of(keep.ceiling, "ceiling"), {}
  for i, point in ipairs(here) do
    sizes[i] = size_at(here, i, 0)
    if #verdicts[point.file].reasons > 0 then total = total + sizes[i] end
  end
  for i, point in ipairs(here) do
    local verdict = verdicts[point.file]
    if total > limit and #verdict.reasons > 0 and not verdict.safe then
      verdict.reasons, verdict.dropped = {}, "ceiling = " .. tostring(keep.ceiling)
      total = total - sizes[i]
    end
  end
end

-- File -> verdict, for the points that are here.
local function judge(policy, run, points, here)
  local keep, verdicts = policy.keep or M.DEFAULT, {}
  if type(keep) ~= "table" then error(("keep must be a table or false, not %s"):format(type(keep)), 0) end
  check_pools(keep)
  for _, point in ipairs(here) do verdicts[point.file] = { reasons = {}, labels = {}, safe = false } end
  local function give(point, why, label, safe)
    local verdict = verdicts[point.file]
    verdict.reasons[#verdict.reasons + 1], verdict.labels[#verdict.labels + 1] = why, label
    verdict.safe = verdict.safe or safe or false
  end
  local choice = { keep = keep, points = points, here = here, specs = best.specs(policy), pins = history.pins(run) }
  for _, name in ipairs(ORDER) do pools[name](choice, give) end
  local newest = here[#here]
  if newest then
    local verdict = verdicts[newest.file]
    if #verdict.reasons == 0 then give(newest, "newest", "newest") end
    verdict.safe = true
  end
  apply_ceiling(keep, here, verdicts)
  return verdicts
end

M.DEFAULT = { last = 3, best = 1 }

-- What kept a file until now, as the reason why it goes.
local function past(verdict)
  if not verdict or #verdict.labels == 0 then return "no pool wants it" end
  return table.concat(verdict.labels, ", ")
end

---Names that no pool wants once `now` ({ event, epoch, step, time, file, metrics }; nil: as things are) is written, and
---for each the settings that kept it so far.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@param now table?
---@return string[] retired
---@return string[] why
function M.retired(policy, run, now)
  local retired, why = {}, {}
  if policy.keep == false then return retired, why end
  local points, written = history.points(run, now), now and now.file
  local here, before = present(policy, run, points, written), nil
  local verdicts = judge(policy, run, points, here)
  for _, point in ipairs(here) do
    local verdict = verdicts[point.file]
    if point.file ~= written and #verdict.reasons == 0 then
      before = before or M.verdicts(policy, run)
      retired[#retired + 1] = point.file
      why[#why + 1] = verdict.dropped or past(before[point.file])
    end
  end
  return retired, why
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@return table<string, ckpt.Verdict>
---@return ckpt.Point[] here
function M.verdicts(policy, run)
  local points = history.points(run)
  local here = present(policy, run, points)
  return judge(policy, run, points, here), here
end

---Why each file of the ledger that is there is kept, in the order of the epochs. No reason: the next save retires it.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
function M.kept(policy, run)
  local list = {}
  if policy.keep == false then
    for i, point in ipairs(present(policy, run, history.points(run))) do
      list[i] = { file = point.file, reasons = { "keep = false" } }
    end
    return list
  end
  local verdicts, here = M.verdicts(policy, run)
  for i, point in ipairs(here) do list[i] = { file = point.file, reasons = verdicts[point.file].reasons } end
  return list
end

---The files that are there, the best first, for `ckpt average`.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
function M.ranking(policy, run)
  local points, list = history.points(run), {}
  local here = present(policy, run, points)
  for place, point in ipairs(best.ranking(best.specs(policy)[1], points, here, #here)) do
    list[place] = { file = point.file, reasons = { ("best #%d"):format(place) } }
  end
  return list
end

return M
