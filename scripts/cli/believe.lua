-- believe.lua: how far a file is believed, as options of a command: --lenient and --limit.

local M = {}

local NAMES = { depth = true, opcodes = true, memo = true, entries = true, header = true }

local function limit(word)
  local name, value = word:match("^(%a+)=(%d+)$")
  local number = value and math.tointeger(tonumber(value))
  if NAMES[name] and number and number > 0 then return { name, number } end
  return nil, ("'%s' is no limit: one of depth, opcodes, memo, entries, header, and a number from 1 on"):format(word)
end

---@param command table the argparse command
function M.declare(command)
  command:flag("--lenient", "Read zip files that other programs may read differently (gaps, comments, odd headers).")
  command:option("--limit", "How much a file may ask for: depth, opcodes, memo, entries or header."):argname("NAME=N")
    :count("*"):convert(limit)
end

---The options of ckpt.open that these say.
---@param args table
---@param options table? further ones, which are kept
---@return table
function M.options(args, options)
  options = options or {}
  options.lenient, options.limits = args.lenient, {}
  for _, item in ipairs(args.limit) do options.limits[item[1]] = item[2] end
  return options
end

return M
