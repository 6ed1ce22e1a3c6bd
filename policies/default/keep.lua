-- keep.lua: which files stay. Part of policies/default.lua.
--
-- A file stays if any pool wants it. Whatever the pools say: the newest and the best stay, so does a file that the
-- ledger does not know, and one that a run which went back has overtaken. Aliases are names, not files: they are never
-- counted and never removed here.
local names = require "policies.default.names"
local history = require "policies.default.history"

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

local function interval_of(keep, unit)
  local n = (keep.every or {})[unit]
  if n ~= nil and (math.type(n) ~= "integer" or n < 1) then
    error(("keep.every.%s must be a whole number above 0, not '%s'"):format(unit, tostring(n)), 0)
  end
  return n
end

---Bytes of 20000, "20GB" (10^9) or "20GiB" (2^30).
---@param size number|string
---@return number
function M.bytes_of(size)
  if type(size) == "number" then return size end
  local digits, unit = tostring(size):match("^%s*([%d%.]+)%s*(%a*)$")
  local number, factor = tonumber(digits), UNITS[(unit or "?"):upper()]
  if not number or not factor then
    error(("keep.max_bytes must be a number or a size such as '20GB', not '%s'"):format(tostring(size)), 0)
  end
  return number * factor
end

-- ---- pools: each adds its reasons; `points` are in the order of their epochs ----

local pools = {}

function pools.last(keep, points, give)
  local n = count_of(keep, "last")
  for i = 1, math.min(n, #points) do give(points[#points - i + 1], ("last %d of %d"):format(i, n)) end
end

function pools.every(keep, points, give)
  for _, unit in ipairs { "epoch", "step" } do
    local n = interval_of(keep, unit .. "s")
    for _, point in ipairs(n and points or {}) do
      if point[unit] and point[unit] % n == 0 then give(point, ("every %d %ss"):format(n, unit)) end
    end
  end
end

-- The newest file of each of the n latest hours (of the clock) in which something was saved.
function pools.hourly(keep, points, give)
  local left, hour = count_of(keep, "hourly"), nil
  for i = #points, 1, -1 do
    local this = points[i].time and points[i].time // 3600
    if left > 0 and this and this ~= hour then
      give(points[i], "hourly")
      left, hour = left - 1, this
    end
  end
end

-- The newest files that fit together. The size of the file being written is not known yet: it is taken to be that of
-- the file before it.
function pools.max_bytes(keep, points, give)
  if keep.max_bytes == nil then return end
  local left, size = M.bytes_of(keep.max_bytes), 0
  for i = #points, 1, -1 do
    size = points[i].bytes or (points[i - 1] and points[i - 1].bytes) or size
    left = left - size
    if left < 0 then return end
    give(points[i], "within " .. tostring(keep.max_bytes))
  end
end

function pools.pin(keep, points, give)
  local pin = keep.pin
  for _, point in ipairs(pin and points or {}) do
    local wanted = type(pin) == "function" and pin(point) or type(pin) == "table" and names.matches_any(pin, point.file)
    if wanted then give(point, "pinned") end
  end
end

-- The first is the best of all saves if its file is there: with min_delta, what wins depends on what came before.
function pools.best(keep, points, give, policy, best)
  local rest, place = table.move(points, 1, #points, 1, {}), 0
  local n = math.max(count_of(keep, "best"), 1)
  while best and place < n do
    place = place + 1
    give(best, ("best #%d"):format(place))
    for i = #rest, 1, -1 do
      if rest[i] == best then table.remove(rest, i) end
    end
    best = history.top(policy, rest)
  end
end

local ORDER = { "best", "every", "last", "hourly", "max_bytes", "pin" }

-- A misspelt pool would delete what it was to keep.
local function check_pools(keep)
  local unknown = {}
  for name in pairs(keep) do
    if not pools[name] then unknown[#unknown + 1] = tostring(name) end
  end
  if #unknown == 0 then return end
  table.sort(unknown)
  error(("keep has no pool '%s'; there are %s"):format(unknown[1], table.concat(ORDER, ", ")), 0)
end

-- ---- deciding ----

-- Names that stand for other files: what the policy uses now, and what any save of this run has used.
local function alias_names(policy, run)
  local aliases = {}
  for _, name in ipairs { policy.latest or "model_latest.pth", policy.best_alias or "model_best.pth" } do
    aliases[name] = true
  end
  for _, entry in ipairs(run.ledger) do
    for _, name in ipairs(entry.aliases or {}) do aliases[name] = true end
  end
  return aliases
end

-- Points whose file is there and is not another's alias; the one being written counts as there.
local function present(policy, run, points, written)
  local files, aliases, list = history.files(run), alias_names(policy, run), {}
  for _, point in ipairs(points) do
    local here = point.file == written or files[point.file] and not aliases[point.file]
    if here and not point.stale then list[#list + 1] = point end
  end
  return list
end

local function best_present(policy, points, here)
  local best = history.best(policy, points)
  for _, point in ipairs(here) do
    if point == best then return best end
  end
  return history.best(policy, here)
end

-- File -> list of reasons, for the points that are here.
local function reasons_of(policy, points, here)
  local keep, reasons = policy.keep or M.DEFAULT, {}
  check_pools(keep)
  for _, point in ipairs(here) do reasons[point.file] = {} end
  local function give(point, why)
    local list = reasons[point.file]
    list[#list + 1] = why
  end
  local best = best_present(policy, points, here)
  for _, name in ipairs(ORDER) do pools[name](keep, here, give, policy, best) end
  local newest = here[#here]
  if newest and #reasons[newest.file] == 0 then give(newest, "newest") end
  return reasons
end

M.DEFAULT = { last = 3, best = 1 }

---Names that no pool wants once `now` ({ epoch, step, file, metrics }) is written.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@param now table
---@return string[]
function M.retired(policy, run, now)
  if policy.keep == false then return {} end
  local points = history.points(run, now)
  local here = present(policy, run, points, now.file)
  local reasons, retired = reasons_of(policy, points, here), {}
  for _, point in ipairs(here) do
    if point.file ~= now.file and #reasons[point.file] == 0 then retired[#retired + 1] = point.file end
  end
  return retired
end

---Why each file of the ledger that is there is kept, in the order of the epochs. No reason: the next save retires it.
---@param policy ckpt.Policy
---@param run ckpt.Run
---@return ckpt.Kept[]
function M.kept(policy, run)
  local points = history.points(run)
  local here, list = present(policy, run, points), {}
  local reasons = policy.keep ~= false and reasons_of(policy, points, here)
  for i, point in ipairs(here) do
    list[i] = { file = point.file, reasons = reasons and reasons[point.file] or { "keep = false" } }
  end
  return list
end

return M
