-- keep.lua: retention pools. A file lives if any pool wants it; each says why.

local best_of = require "policies.lib.best"

local M = {}

local UNITS = { [""] = 1, K = 1e3, M = 1e6, G = 1e9, T = 1e12 }

-- "20GB", "512M", or a number of bytes.
function M.bytes(text)
  if type(text) == "number" then return text end
  local number, unit = tostring(text):upper():match("^%s*([%d.]+)%s*([KMGT]?)I?B?%s*$")
  if not number then error("max_bytes: '" .. tostring(text) .. "' is no size such as \"20GB\"") end
  return tonumber(number) * UNITS[unit]
end

local function newest_first(files)
  local list = { table.unpack(files) }
  table.sort(list, function(a, b)
    if a.epoch ~= b.epoch then return a.epoch > b.epoch end
    return a.place > b.place
  end)
  return list
end

local function add(reasons, entry, why)
  local list = reasons[entry.file] or {}
  list[#list + 1] = why
  reasons[entry.file] = list
end

local pools = {}

function pools.last(reasons, n, files)
  for i, entry in ipairs(newest_first(files)) do
    if i > n then break end
    add(reasons, entry, ("last %d of %d"):format(i, n))
  end
end

function pools.best(reasons, k, files, policy, best)
  for i, entry in ipairs(best_of.ranked(policy, best, files, k)) do
    add(reasons, entry, "best #" .. i)
  end
end

function pools.every(reasons, every, files)
  local n = every.epochs
  for _, entry in ipairs(files) do
    if n and entry.epoch % n == 0 then add(reasons, entry, ("every %d epochs"):format(n)) end
  end
end

-- The newest of each of the last n hours in which something was saved.
function pools.hourly(reasons, n, files)
  local seen, hours = {}, 0
  for _, entry in ipairs(newest_first(files)) do
    local hour = entry.time and entry.time // 3600
    if hour and not seen[hour] then
      seen[hour], hours = true, hours + 1
      if hours > n then break end
      add(reasons, entry, "hourly")
    end
  end
end

-- As many of the newest as fit.
function pools.max_bytes(reasons, limit, files)
  local left = M.bytes(limit)
  for _, entry in ipairs(newest_first(files)) do
    left = left - entry.bytes
    if left < 0 then break end
    add(reasons, entry, "within " .. tostring(limit))
  end
end

local ORDER = { "best", "every", "hourly", "last", "max_bytes" }

-- Reasons by file name, for files = { file, epoch, time, metrics, bytes, place }. No `keep`: everything is kept.
function M.reasons(policy, keep, best, files)
  local reasons = {}
  if not keep then
    for _, entry in ipairs(files) do add(reasons, entry, "everything is kept") end
    return reasons
  end
  for _, name in ipairs(ORDER) do
    if keep[name] then pools[name](reasons, keep[name], files, policy, best) end
  end
  return reasons
end

return M
