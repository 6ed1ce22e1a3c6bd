-- metrics_log.lua: the rows of a CSV as the saves of a training run: epoch, step, time, and any other column a metric.

local csv = require "scripts.cli.csv"

local M = {}

local SPECIAL = { nan = 0 / 0, ["-nan"] = 0 / 0, inf = math.huge, ["+inf"] = math.huge, ["-inf"] = -math.huge,
                  infinity = math.huge, ["-infinity"] = -math.huge }

-- A number; tonumber alone takes hexadecimal too.
local function number(cell)
  local special = SPECIAL[cell:lower()]
  if special then return special end
  return cell:find("^[%d.eE+-]+$") and tonumber(cell) or nil
end

-- Days since 1970-01-01 (Howard Hinnant's days_from_civil: years begin in March).
local function days(year, month, day)
  year = month <= 2 and year - 1 or year
  local era, of_era = year // 400, year % 400
  local of_year = (153 * (month + (month > 2 and -3 or 9)) + 2) // 5 + day - 1
  return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
end

local function offset_of(rest)
  if rest == "" or rest == "Z" then return 0 end
  local sign, hours, minutes = rest:match("^([+-])(%d%d):?(%d%d)$")
  if not sign then return nil end
  return (sign == "+" and 1 or -1) * (tonumber(hours) * 3600 + tonumber(minutes) * 60)
end

-- Seconds since 1970, of a number or of 2026-11-27T10:31:02 (UTC unless it says otherwise).
local function time_of(cell)
  local seconds = number(cell)
  if seconds then return seconds == seconds and math.tointeger(seconds // 1) or nil end
  local y, mo, d, h, mi, rest = cell:match("^(%d%d%d%d)-(%d%d)-(%d%d)[T ](%d%d):(%d%d)(.*)$")
  if not y then return nil end
  local s, zone = rest:match("^:(%d%d)[%d.]*(.*)$")
  local offset = offset_of(zone or rest)
  if not offset then return nil end
  local minutes = math.tointeger(h) * 60 + math.tointeger(mi)
  return days(math.tointeger(y), math.tointeger(mo), math.tointeger(d)) * 86400 + minutes * 60
    + (math.tointeger(s) or 0) - offset
end

local function integer(cell) return math.tointeger(number(cell)) end

---@class metrics_log.Row
---@field epoch integer
---@field step integer?
---@field time integer
---@field metrics table<string, number>

local READERS = { epoch = integer, step = integer, time = time_of }
local WORDS = { epoch = "a whole number", step = "a whole number",
                time = "seconds, or a date such as 2026-11-27T10:31:02" }

-- Columns of which no cell is a number are notes, not metrics.
local function usable_columns(columns, rows)
  local usable, ignored = {}, {}
  for i, name in ipairs(columns) do
    local some, empty = false, true
    for _, row in ipairs(rows) do
      some = some or number(row.cells[i]) ~= nil
      empty = empty and row.cells[i] == ""
    end
    if READERS[name] or some or empty then usable[i] = true else ignored[#ignored + 1] = name end
  end
  return usable, ignored
end

local function read_row(columns, usable, row)
  local out = { metrics = {} }
  for i, name in ipairs(columns) do
    local cell, reader = row.cells[i], READERS[name] or number
    if usable[i] and cell ~= "" then
      local value = reader(cell)
      if value == nil then
        return nil, ("column '%s': '%s' is not %s"):format(name, cell, WORDS[name] or "a number")
      end
      if READERS[name] then out[name] = value else out.metrics[name] = value + 0.0 end
    end
  end
  return out
end

-- Rows of one epoch and step, as loggers write them that have a row for each metric, are one save.
local function joins(last, row)
  return last and row.epoch and last.epoch == row.epoch and last.step == row.step
end

local function add(list, row, interval)
  local last = list[#list]
  if joins(last, row) then
    for name, value in pairs(row.metrics) do last.metrics[name] = value end
    return
  end
  row.epoch = row.epoch or (last and last.epoch or 0) + 1
  row.time = row.time or (last and last.time or 0) + interval
  list[#list + 1] = row
end

---@class metrics_log.Log
---@field rows metrics_log.Row[]
---@field metrics string[] in the order of the columns
---@field ignored string[] columns that hold no numbers

---@param path string
---@param interval integer seconds from row to row where there is no column `time`
---@return metrics_log.Log?, string? message, string? code
function M.read(path, interval)
  local columns, rows, code = csv.read(path)
  if not columns then return nil, rows, code end
  local usable, ignored = usable_columns(columns, rows)
  local log = { rows = {}, metrics = {}, ignored = ignored }
  for i, name in ipairs(columns) do
    if usable[i] and not READERS[name] then log.metrics[#log.metrics + 1] = name end
  end
  for _, item in ipairs(rows) do
    local row, why = read_row(columns, usable, item)
    if not row then return nil, ("%s:%d: %s"):format(path, item.line, why), "format" end
    add(log.rows, row, interval)
  end
  if #log.rows == 0 then return nil, path .. ": no rows under its column names", "format" end
  return log
end

return M
