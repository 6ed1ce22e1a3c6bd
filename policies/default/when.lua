-- when.lua: whether a save is due. Part of policies/default.lua.
--
-- The trainer may call ckpt_save as often as it likes; this decides which calls write. Everything is measured from the
-- last save that the ledger has before this epoch and step (run.last), so that a restart changes nothing.
local M = {}

local FIELDS = { epochs = true, steps = true, minutes = true, hours = true, signal = true, final = true, best = true }
local SECONDS = { minutes = 60, hours = 3600 }

local function check_fields(when)
  if type(when) ~= "table" then error(("when must be a table or a function, not %s"):format(type(when)), 0) end
  for key in pairs(when) do
    if not FIELDS[key] then
      error(("when has no '%s'; there are epochs, steps, minutes, hours, signal, final, best"):format(tostring(key)), 0)
    end
  end
end

-- Counts must be whole, times need not.
local function interval_of(when, unit, whole)
  local n = when[unit]
  if n ~= nil and (type(n) ~= "number" or n <= 0 or n ~= n or whole and math.type(n) ~= "integer") then
    error(("when.%s must be a %s above 0, not '%s'"):format(unit, whole and "whole number" or "number", tostring(n)), 0)
  end
  return n
end

-- A multiple of n lies behind the last save, up to and with this one: no call needs to hit it exactly.
local function count_due(when, run)
  for _, unit in ipairs { "epoch", "step" } do
    local n, now = interval_of(when, unit .. "s", true), run[unit]
    local before = run.last and run.last[unit] or 0
    if n and now and now // n > before // n then return ("every %d %ss"):format(n, unit) end
  end
  return nil
end

local function time_due(when, run)
  for _, unit in ipairs { "minutes", "hours" } do
    local n = interval_of(when, unit)
    local last = run.last and run.last.time
    if n and not last then return "the first" end
    if n and run.time and (run.time < last or run.time - last >= n * SECONDS[unit]) then
      return ("every %s %s"):format(tostring(n), unit)
    end
  end
  return nil
end

---Whether a save that is asked for now is made, and why.
---@param policy ckpt.Policy
---@param run ckpt.Run of which only dir, options, epoch, step, time, metrics, last, signal and final are there
---@return boolean due
---@return string why
function M.due(policy, run)
  local when = policy.when
  if when == nil then return true, "every call" end
  if type(when) == "function" then
    local yes, why = when(run)
    return yes == true, why or "policy.when"
  end
  check_fields(when)
  local why = count_due(when, run) or time_due(when, run)
  if run.signal and when.signal ~= false then why = "asked for" end
  if run.final and when.final ~= false then why = why or "the last of the run" end
  return why ~= nil, why or "not due"
end

return M
