-- convert.lua: `ckpt convert IN OUT`: the same values, tensors and objects in a file that we wrote.
--
-- IN is verified first: the new file's checksums must not vouch for bytes that the old ones had given up.
-- OUT may be IN; it is replaced as a whole, or left as it was.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Write a checkpoint anew, as PyTorch 2.7+ would, without changing what is in it." }

local ORDER = { "in", "out", "format", "tensors", "bytes" }

---@param command table the argparse command
function M.declare(command)
  command:argument("IN", "Checkpoint to read."):target("input")
  command:argument("OUT", "File to write; it is replaced as a whole."):target("output")
  command:flag("--json", "One line of JSON.")
end

local function file_size(path)
  local file <close> = assert(io.open(path, "rb"))
  return file:seek("end")
end

local function tell(args, format, tensors)
  local bytes = file_size(args.output)
  if args.json then
    json.print(json.object(ORDER, {
      ["in"] = args.input, out = args.output, format = format, tensors = tensors, bytes = bytes,
    }))
  else
    text.say(("%s -> %s: %s, %s"):format(text.printable(args.input), text.printable(args.output),
      text.plural(tensors, "tensor"), text.size(bytes)))
  end
end

---@param args table
---@return integer status
function M.run(args)
  local cp, message, code = ckpt.open(args.input, { verify = true })
  if not cp then return status.fail(message, code, args.input) end
  local tensors, saved
  tensors, message, code = cp:list()
  if not tensors then return status.fail(message, code, args.input) end
  saved, message, code = ckpt.save(args.output, cp)
  if not saved then return status.fail(message, code, code == "unsupported" and args.input or args.output) end
  tell(args, cp.format, #tensors)
  return status.OK
end

return M
