-- list.lua: `ckpt list DIR`: a run at a glance: epochs, metrics, sizes, why each file is kept, what a resume takes.
--
-- What the ledger knows comes from it; any other file is opened, and one that is no checkpoint is left out and counted.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local plan_run = require "scripts.cli.plan_run"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "List a run's checkpoints: metrics, sizes, why each is kept, what a resume takes." }

local LEDGER = "ckpt.jsonl"

---@param command table the argparse command
function M.declare(command)
  command:argument("DIR", "Run directory."):target("dir")
  run_dir.declare(command)
  command:flag("--json", "One line of JSON.")
end

-- ---- what is there ----

---@class list.Row: run_dir.File
---@field epoch integer?
---@field step integer?
---@field time integer
---@field metrics table<string, number>
---@field best boolean
---@field why string?
---@field fault string? why the file cannot be read

-- What a file itself says; nil for one that is no checkpoint.
local function read_file(dir, file)
  local cp, message, code = ckpt.open(run_dir.join(dir, file.file))
  if not cp and code == "format" then return nil end
  local row = { time = file.mtime, metrics = {}, best = false, fault = not cp and message or nil }
  if cp then
    row.epoch = run_dir.epoch_in(cp)
    cp:close()
  end
  return row
end

local function read_ledger(file)
  local entry = file.entry
  return { epoch = entry.epoch, step = entry.step, time = entry.time or file.mtime, metrics = entry.metrics,
           best = entry.best }
end

-- Unreadable files come first, as if they were the oldest.
local function by_epoch(a, b)
  local x, y = a.epoch or math.mininteger, b.epoch or math.mininteger
  if x ~= y then return x < y end
  if a.time ~= b.time then return a.time < b.time end
  return a.file < b.file
end

-- rows, and how many files are no checkpoints
local function read_rows(dir, files, ledger)
  local rows, others = {}, 0
  for _, file in ipairs(run_dir.group(files, ledger)) do
    local row = file.entry and read_ledger(file) or file.file ~= LEDGER and read_file(dir, file)
    if row then
      row.file, row.aliases, row.bytes = file.file, file.aliases, file.bytes
      rows[#rows + 1] = row
    elseif file.file ~= LEDGER then
      others = others + 1
    end
  end
  table.sort(rows, by_epoch)
  return rows, others
end

local function add_reasons(rows, kept)
  local why = {}
  for _, item in ipairs(kept) do why[item.file] = item.why end
  for _, row in ipairs(rows) do row.why = why[row.file] end
end

-- Files that retention removed and that did not come back: their number and bytes.
local function retirement(files, ledger)
  local there, bytes, gone, n, freed = {}, {}, {}, 0, 0
  for _, file in ipairs(files) do there[file.name] = true end
  for _, entry in ipairs(ledger) do
    if entry.file and entry.bytes > 0 then bytes[entry.file] = entry.bytes end
    for _, name in ipairs(entry.retired) do
      if not there[name] and not gone[name] then
        gone[name], n, freed = true, n + 1, freed + (bytes[name] or 0)
      end
    end
  end
  return n, freed
end

-- ---- JSON ----

local ORDER = { "dir", "ledger", "files", "resume", "retired", "freed", "other_files" }
local FILE_ORDER = { "file", "epoch", "step", "time", "bytes", "metrics", "best", "why", "aliases", "error" }

local function print_json(dir, run)
  local files = {}
  for i, row in ipairs(run.rows) do
    files[i] = json.object(FILE_ORDER, {
      file = row.file, epoch = row.epoch or json.null, step = row.step or json.null, time = row.time,
      bytes = row.bytes, metrics = json.map(row.metrics), best = row.best, why = row.why or json.null,
      aliases = row.aliases, error = row.fault,
    })
  end
  json.print(json.object(ORDER, {
    dir = dir, ledger = run.has_ledger, files = files, resume = plan_run.resume_object(dir, run.resume),
    retired = run.retired, freed = run.freed, other_files = run.others,
  }))
end

-- ---- text ----

local METRIC_WIDTH = 10 -- a column with its two blanks
local MAX_METRICS = 3

local function metric_names(rows)
  local names, seen = {}, {}
  for _, row in ipairs(rows) do
    for name in pairs(row.metrics) do
      if not seen[name] then names[#names + 1], seen[name] = name, true end
    end
  end
  table.sort(names)
  return names
end

local function metric_text(value)
  if not value then return "-" end
  if value ~= value then return "nan" end
  local short = ("%.4f"):format(value)
  return #short < METRIC_WIDTH and short or ("%.3g"):format(value)
end

-- The time alone while all rows are of one day.
local function time_format(rows)
  local day
  for _, row in ipairs(rows) do
    local this = os.date("%Y-%m-%d", row.time)
    if day and day ~= this then return "%m-%d %H:%M" end
    day = this
  end
  return "%H:%M:%S"
end

local function why_text(row)
  if row.fault then return "cannot be read" end
  return row.why == "" and "no pool wants it" or row.why or ""
end

local function cells_of(row, metrics, format)
  local cells = { row.epoch and tostring(row.epoch) or "-", row.step and tostring(row.step) or "-" }
  for _, name in ipairs(metrics) do cells[#cells + 1] = metric_text(row.metrics[name]) end
  return table.move({ text.size(row.bytes), os.date(format, row.time), text.printable(row.file), why_text(row) },
    1, 4, #cells + 1, cells)
end

local function header(metrics)
  local cells = { "epoch", "step" }
  for _, name in ipairs(metrics) do cells[#cells + 1] = text.fit(text.printable(name), METRIC_WIDTH - 2) end
  return table.move({ "size", "saved", "file", "kept because" }, 1, 4, #cells + 1, cells)
end

local function print_rows(rows)
  local names = metric_names(rows)
  local metrics, format, table_rows, right = { table.unpack(names, 1, MAX_METRICS) }, time_format(rows), {}, {}
  table_rows[1] = header(metrics)
  for i, row in ipairs(rows) do table_rows[i + 1] = cells_of(row, metrics, format) end
  for i = 1, #metrics + 3 do right[i] = true end
  text.print_columns(table_rows, right, " ")
  if #names > #metrics then
    local rest = text.some({ table.unpack(names, MAX_METRICS + 1) }, 8)
    text.say(text.wrap("further metrics (--json): " .. rest, "   ", " "))
  end
end

-- Below the table, whose lines are long enough.
local function print_aliases(rows)
  for _, row in ipairs(rows) do
    if row.aliases[1] then
      text.say(text.wrap(("= %s: %s"):format(text.printable(row.file), text.some(row.aliases, 8)), "   ", " "))
    end
  end
end

local function print_text(dir, run)
  if #run.rows == 0 then text.say(text.printable(dir) .. ": no checkpoints") else print_rows(run.rows) end
  print_aliases(run.rows)
  local words = { "resume takes " .. plan_run.resume_text(run.resume) .. "." }
  if run.retired > 0 then
    words[#words + 1] = ("%d retired, %s freed."):format(run.retired, text.size(run.freed))
  end
  words[#words + 1] = run.has_ledger and "Ledger: " .. LEDGER or "No ledger: epochs are what the files say."
  if run.others > 0 then words[#words + 1] = "Besides: " .. text.plural(run.others, "file") .. " of another kind." end
  text.say(text.wrap(table.concat(words, " "), "  "))
  for _, row in ipairs(run.rows) do
    if row.fault then text.say(text.wrap("note: " .. text.printable(row.fault), "  ")) end
  end
end

-- ---- the command ----

local function read_run(cp, dir)
  local files, ledger, resume, kept, message, code
  files, ledger, code = cp:files()
  if not files then return nil, ledger, code end
  kept, message, code = cp:kept()
  if not kept then return nil, message, code end
  resume, message, code = plan_run.resume(cp, dir)
  if not resume then return nil, message, code end
  local run = { resume = resume, has_ledger = #ledger > 0 }
  run.rows, run.others = read_rows(dir, files, ledger)
  run.retired, run.freed = retirement(files, ledger)
  add_reasons(run.rows, kept)
  return run
end

---@param args table
---@return integer status
function M.run(args)
  local cp, run, message, code
  cp, message, code = run_dir.open_existing(args)
  if not cp then return status.fail(message, code) end
  run, message, code = read_run(cp, args.dir)
  if not run then return status.fail(message, code, args.dir) end
  if args.json then print_json(args.dir, run) else print_text(args.dir, run) end
  return status.OK
end

return M
