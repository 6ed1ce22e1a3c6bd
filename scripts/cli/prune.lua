-- prune.lua: `ckpt prune DIR --policy P`: removes what no pool of the policy wants, as a save would.
--
-- It takes the run's lock, so that no trainer is saving meanwhile; --dry-run only looks. Whatever the policy says, the
-- newest checkpoint that is valid, what is pinned and what the run did not write stay.

local json = require "scripts.cli.json"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Remove the checkpoints of a run that its policy does not keep." }

---@param command table the argparse command
function M.declare(command)
  command:argument("DIR", "Run directory."):target("dir")
  command:flag("--dry-run", "Only say what would go."):target("dry_run")
  run_dir.declare(command)
  command:flag("--json", "One line of JSON.")
end

local function sizes_of(files)
  local sizes = {}
  for _, file in ipairs(files) do sizes[file.name] = file.bytes end
  return sizes
end

---@class prune.Report
---@field removed { file: string, bytes: integer, why: string? }[]
---@field freed integer
---@field kept { file: string, why: string }[]
---@field spared string?

local function prune(cp, act)
  local report = { removed = {}, freed = 0 }
  local files, message, code = cp:files()
  if not files then return nil, message, code end
  local plan
  plan, message, code = cp:prune(act)
  if not plan then return nil, message, code end
  local sizes, gone = sizes_of(files), {}
  for i, file in ipairs(plan.retire) do
    report.removed[i] = { file = file, bytes = sizes[file] or 0, why = plan.why[i] }
    report.freed, gone[file] = report.freed + (sizes[file] or 0), true
  end
  local kept
  kept, message, code = cp:kept()
  if not kept then return nil, message, code end
  report.spared, report.kept = plan.spared, {}
  for _, item in ipairs(kept) do
    if item.file == plan.spared then item.why = "the newest valid one" end
    if not gone[item.file] then table.insert(report.kept, item) end
  end
  return report
end

local function print_text(args, report)
  local rows, verb = {}, args.dry_run and "would be removed" or "removed"
  for i, item in ipairs(report.removed) do
    rows[i] = { text.printable(item.file), text.size(item.bytes), text.printable(item.why or "no pool wants it") }
  end
  text.say(("%s: %s %s, %s"):format(text.printable(args.dir), text.plural(#rows, "file"), verb,
    text.size(report.freed)))
  text.print_columns(rows, { [2] = true })
  local kept = {}
  for i, item in ipairs(report.kept) do kept[i] = { text.printable(item.file), text.printable(item.why) } end
  if #kept > 0 then text.say "kept:" end
  text.print_columns(kept)
end

local function print_json(args, report)
  local removed, kept = {}, {}
  for i, item in ipairs(report.removed) do removed[i] = json.object({ "file", "bytes", "why" }, item) end
  for i, item in ipairs(report.kept) do kept[i] = json.object({ "file", "why" }, item) end
  json.print(json.object({ "dir", "dry_run", "removed", "freed", "kept", "spared" }, {
    dir = args.dir, dry_run = args.dry_run == true, removed = removed, freed = report.freed, kept = kept,
    spared = report.spared or json.null,
  }))
end

---@param args table
---@return integer status
function M.run(args)
  local cp, report, message, code
  cp, message, code = run_dir.open_existing(args, args.dry_run and 1 or 0)
  if not cp then return status.fail(message, code) end
  report, message, code = prune(cp, not args.dry_run)
  cp:close()
  if not report then return status.fail(message, code, args.dir) end
  if args.json then print_json(args, report) else print_text(args, report) end
  return status.OK
end

return M
