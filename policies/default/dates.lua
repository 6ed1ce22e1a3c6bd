-- dates.lua: seconds since 1970 as a date, in UTC. Part of policies/default.lua: a policy has no clock of its own, the
-- runtime gives it run.time.
local M = {}

-- Days since 1970-01-01 to year, month, day (Howard Hinnant's civil_from_days: years begin in March).
local function civil(days)
  days = days + 719468
  local era = days // 146097
  local of_era = days - era * 146097
  local year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
  local of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
  local month = (5 * of_year + 2) // 153
  local day = of_year - (153 * month + 2) // 5 + 1
  local year = year_of_era + era * 400 + (month >= 10 and 1 or 0)
  return year, month < 10 and month + 3 or month - 9, day
end

---The date with the letters of C's strftime: %Y %y %m %d %H %M %S, %%.
---@param format string
---@param time integer
---@return string
function M.format(format, time)
  local year, month, day = civil(time // 86400)
  local second = time % 86400
  local parts = { Y = ("%04d"):format(year), y = ("%02d"):format(year % 100), m = ("%02d"):format(month),
                  d = ("%02d"):format(day), H = ("%02d"):format(second // 3600), M = ("%02d"):format(second // 60 % 60),
                  S = ("%02d"):format(second % 60), ["%"] = "%" }
  return (format:gsub("%%(.?)", function(letter)
    return parts[letter] or error(("a date has no '%%%s'; there are %%Y %%y %%m %%d %%H %%M %%S"):format(letter), 0)
  end))
end

return M
