-- pin.lua: `ckpt pin DIR FILE|EPOCH`: a checkpoint that no retention removes, until `--unpin`.
--
-- A pin is a line in the run's ledger, so it goes along where the directory goes. It may be set while a trainer saves.

local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Pin a checkpoint of a run, so that no policy removes it." }

---@param command table the argparse command
function M.declare(command)
  command:argument("DIR", "Run directory."):target("dir")
  command:argument("FILE|EPOCH", "A file of the directory (an alias stands for its file), or an epoch."):target("what")
  command:flag("--unpin", "Take the pin away.")
end

-- The name by which the ledger knows what `name` is a name of.
local function own_name(files, ledger, name)
  for _, file in ipairs(run_dir.group(files, ledger)) do
    if file.file == name then return name end
    for _, alias in ipairs(file.aliases) do
      if alias == name then return file.file end
    end
  end
end

-- The last save of that epoch whose file is there.
local function file_of_epoch(files, ledger, epoch)
  local there = {}
  for _, file in ipairs(files) do there[file.name] = true end
  for i = #ledger, 1, -1 do
    local entry = ledger[i]
    local is_save = entry.event == "save" or entry.event == "best"
    if is_save and entry.epoch == epoch and there[entry.file] then return entry.file end
  end
end

-- The file, or nil and a sentence. What is gone can still be unpinned by its name.
local function resolve(args, files, ledger)
  local name = own_name(files, ledger, args.what)
  if name then return name end
  local epoch = math.tointeger(tonumber(args.what))
  name = epoch and file_of_epoch(files, ledger, epoch)
  if name then return name end
  if args.unpin and not epoch then return args.what end
  if epoch then return nil, ("%s: no file of epoch %d is there"):format(args.dir, epoch) end
  return nil, ("%s: there is no such file"):format(run_dir.join(args.dir, args.what))
end

---@param args table
---@return integer status
function M.run(args)
  args.policy, args.set = "default", {}
  local cp, message, code = run_dir.open_existing(args)
  if not cp then return status.fail(message, code) end
  local files, ledger
  files, ledger, code = cp:files()
  if not files then return status.fail(ledger, code, args.dir) end
  local name, ok
  name, message = resolve(args, files, ledger)
  if not name then return status.fail(message, "notfound") end
  ok, message, code = cp:pin(name, not args.unpin)
  if not ok then return status.fail(message, code, args.dir) end
  text.say(("%s is %s"):format(text.printable(run_dir.join(args.dir, name)), args.unpin and "not pinned" or "pinned"))
  return status.OK
end

return M
