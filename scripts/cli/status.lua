-- status.lua: exit statuses, and how a failure is told: one sentence on stderr that begins with "ckpt: ".

local text = require "scripts.cli.text"

local M = { OK = 0, FAILED = 1, USAGE = 2, FILE = 3 }

-- The library's codes that are a refusal or a wrong call; every other one is about a file.
local BY_CODE = {
  policy = M.FAILED, contract = M.FAILED, shape = M.FAILED, exists = M.FAILED,
  argument = M.USAGE,
}

---The exit status of a code.
---@param code string?
---@return integer
function M.of(code) return BY_CODE[code] or M.FILE end

---Tells an error of the library and gives the exit status for it.
---@param message string
---@param code string? the library's third result
---@param file string? named in front of the message unless the message names it
---@return integer status
function M.fail(message, code, file)
  if file and not message:find(file, 1, true) then message = file .. ": " .. message end
  io.stdout:flush()
  io.stderr:write("ckpt: ", (message:gsub("[^\n\t]+", text.printable)), "\n")
  return M.of(code)
end

---@param message string
---@return integer status
function M.usage(message) return M.fail(message, "argument") end

return M
