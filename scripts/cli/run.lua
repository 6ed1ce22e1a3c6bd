-- run.lua: `ckpt run SCRIPT.lua ARGS...`: a script of the user's own, with all of Lua and `require "ckpt"`.
--
-- Everything after the script's name is the script's: it is in `arg` and `...`, as with the stand-alone interpreter.
-- The script is text, never bytecode. The integer that it returns is the exit status.

local status = require "scripts.cli.status"

local M = { summary = "Run a Lua script that uses the module ckpt." }

---@param command table the argparse command
function M.declare(command)
  command:argument("SCRIPT.lua", "Lua file; its integer result is the exit status."):target("script")
  command:argument("ARGS", "The script's own arguments, in `arg`."):args("*"):target("args")
end

local function traceback(err) return debug.traceback(tostring(err), 2) end

local function read(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, message end
  local text
  text, message = file:read("a")
  return text, text and nil or ("%s: %s"):format(path, message)
end

---@param script string
---@param args string[]
---@return integer status
function M.execute(script, args)
  local text, message = read(script)
  if not text then return status.fail(message, "io", script) end
  local chunk
  chunk, message = load(text:gsub("^#[^\n]*", ""), "@" .. script, "t")
  if not chunk then return status.fail(message, "policy", script) end
  _G.arg = table.move(args, 1, #args, 1, { [0] = script })
  local ok, result = xpcall(chunk, traceback, table.unpack(args))
  if not ok then return status.fail(result, "policy") end
  return math.type(result) == "integer" and result or status.OK
end

---@param args table
---@return integer status
function M.run(args) return M.execute(args.script, args.args) end

return M
