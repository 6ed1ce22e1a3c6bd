-- main.lua: the command line of `ckpt`: finds the command and hands it its arguments.
--
-- Exit status: 0 ok, 1 the check failed, 2 bad usage, 3 bad file. A command is a module of scripts/cli with `summary`,
-- `declare(command)` and `run(args) -> status`.

local argparse = require "argparse"
local ckpt = require "ckpt"
local status = require "scripts.cli.status"

local NAMES = { "inspect", "verify", "diff", "convert", "lint", "plan", "list", "simulate", "prune", "pin", "average",
                "run" }

local commands = {}
for _, name in ipairs(NAMES) do commands[name] = require("scripts.cli." .. name) end

local function new_parser()
  local parser = argparse("ckpt", "Checkpoints of PyTorch and of C trainers: look, convert, plan, list.")
  parser:epilog "Exit status: 0 ok, 1 the check failed, 2 bad usage, 3 bad file."
  parser:command_target "command"
  parser:flag("--version", "Show the version and exit."):action(function() error { version = true } end)
  for _, name in ipairs(NAMES) do
    commands[name].declare(parser:command(name, commands[name].summary))
  end
  function parser.error(_, message) error { usage = message } end
  return parser
end

-- One sentence: argparse puts its proposals on a second line.
local function tell_usage(argv, message)
  local name = commands[argv[1]] and "ckpt " .. argv[1] or "ckpt"
  return status.usage(("%s (see: %s --help)"):format(message:gsub("%s*\nD", "; d"), name))
end

-- A script's arguments are its own: argparse must not look for options among them.
local function is_script_call(argv) return argv[1] == "run" and argv[2] ~= nil and argv[2]:sub(1, 1) ~= "-" end

---@param argv string[]
---@param host table what the executable gives its commands: bindings/host.h
---@return integer status
return function(argv, host)
  if is_script_call(argv) then return commands.run.execute(argv[2], table.move(argv, 3, #argv, 1, {})) end
  local parser = new_parser()
  if #argv == 0 then
    io.stderr:write(parser:get_help(), "\n")
    return status.USAGE
  end
  local ok, result = pcall(parser.parse, parser, argv)
  if ok then return commands[result.command].run(result, host) end
  if type(result) ~= "table" then error(result, 0) end
  if result.usage then return tell_usage(argv, result.usage) end
  io.write("ckpt ", ckpt.version, "\n")
  return status.OK
end
