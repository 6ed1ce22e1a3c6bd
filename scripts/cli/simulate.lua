-- simulate.lua: `ckpt simulate METRICS.csv --policy P`: what the policy would have saved, taken as the best and
-- removed, had it been there. The runtime's own save runs, with the policy in its sandbox, on a directory in memory.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local metrics_log = require "scripts.cli.metrics_log"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Replay a log of metrics through a policy: every save, best and removal, and why." }

local function whole(word)
  local n = math.tointeger(tonumber(word))
  return n and n >= 0 and n or nil, ("'%s' is not a whole number"):format(word)
end

---@param command table the argparse command
function M.declare(command)
  command:argument("METRICS.csv", "A row for each save; columns epoch, step, time, and any metric."):target("log")
  command:option("--dir", "Go on from what this run's directory holds; it is not touched."):argname("DIR")
  command:option("--bytes", "Size of each file (default: that of the newest in DIR, or unknown)."):argname("N")
    :convert(whole)
  command:option("--interval", "Seconds from row to row without a column time.", "60"):argname("S"):convert(whole)
  command:flag("--unfinished", "The last row is not the end of the run.")
  run_dir.declare(command)
  command:flag("--json", "One line of JSON.")
end

-- ---- playing ----

local function size_in(dir)
  local cp = dir and ckpt.checkpointer { dir = dir, rank = 1 }
  local files, ledger = {}, {}
  if cp then files, ledger = cp:files() end
  local sizes = {}
  for _, file in ipairs(files or {}) do sizes[file.name] = file.bytes end
  for i = #(files and ledger or {}), 1, -1 do
    if sizes[ledger[i].file] then return sizes[ledger[i].file] end
  end
end

local function open(args)
  local set = {}
  for _, item in ipairs(args.set) do set[item[1]] = item[2] end
  return ckpt.checkpointer { dir = args.dir or args.log .. ".run", policy = args.policy, set = set, simulate = true,
                             bytes = args.bytes or size_in(args.dir) or 0 }
end

-- What a trainer for Pet's policy binds.
local function set_scheduler(cp, row, metric)
  local value = row.metrics.acc or row.metrics[metric]
  cp:set("scheduler", "iteration", row.epoch + 1)
  cp:set("scheduler", "info.cur_epoch", row.epoch)
  if value then cp:set("scheduler", "info.cur_acc", value) end
end

local function prepare(cp)
  cp:set("scheduler", "info.cur_acc", 0.0)
  cp:set("scheduler", "info.best_acc", 0.0)
  cp:set("scheduler", "info.best_epoch", 0)
end

local function set_row(cp, row, metrics, last)
  for _, name in ipairs(metrics) do
    if row.metrics[name] then cp:set_metric(name, row.metrics[name]) end
  end
  if row.step then cp:set_step(row.step) end
  cp:set_time(row.time)
  cp:set_final(last)
  set_scheduler(cp, row, metrics[1])
end

---@class simulate.Decision
---@field row metrics_log.Row
---@field save table what ckpt_save did, as cp:done() tells it
---@field best table what ckpt_save_best did

-- Decisions in the order of the rows; what the policy got wrong goes to `warnings`.
local function play(cp, log, args, warnings)
  local decisions = {}
  prepare(cp)
  for i, row in ipairs(log.rows) do
    set_row(cp, row, log.metrics, i == #log.rows and not args.unfinished)
    local ok, message, code = cp:save(row.epoch)
    if not ok then return nil, message, code end
    local decision = { row = row, save = cp:done() }
    ok, message, code = cp:save_best(row.epoch)
    if ok == nil then return nil, message, code end
    decision.best = cp:done()
    decisions[i] = decision
    for _, line in ipairs(cp:log()) do
      if line:find("^warning: ") then warnings[#warnings + 1] = ("epoch %d: %s"):format(row.epoch, line:sub(10)) end
    end
  end
  return decisions
end

-- ---- the end ----

local function best_of(kept, decisions, epochs)
  for _, item in ipairs(kept) do
    if item.why:find("^best #1") then return { file = item.file, epoch = epochs[item.file] } end
  end
  for i = #decisions, 1, -1 do
    local best = decisions[i].best
    if best.result then return { file = best.file, epoch = decisions[i].row.epoch } end
  end
end

local function epochs_of(ledger, decisions)
  local epochs = {}
  for _, entry in ipairs(ledger) do
    if entry.file then epochs[entry.file] = entry.epoch end
  end
  for _, decision in ipairs(decisions) do
    for _, done in ipairs { decision.save, decision.best } do
      if done.file then epochs[done.file] = decision.row.epoch end
    end
  end
  return epochs
end

---@class simulate.Result
---@field decisions simulate.Decision[]
---@field epochs table<string, integer> of each file
---@field best { file: string, epoch: integer? }?
---@field kept { file: string, why: string }[]
---@field most_files integer
---@field most_bytes integer
---@field warnings string[]

local function simulate(args, log)
  local result = { warnings = {} }
  local cp, message, code = open(args)
  if not cp then return nil, message, code end
  result.decisions, message, code = play(cp, log, args, result.warnings)
  if not result.decisions then return nil, message, code end
  result.kept, message, code = cp:kept()
  if not result.kept then return nil, message, code end
  local _, ledger = cp:files()
  result.epochs = epochs_of(ledger, result.decisions)
  result.best = best_of(result.kept, result.decisions, result.epochs)
  result.most_files, result.most_bytes = cp:peak()
  return result
end

-- ---- JSON ----

local ORDER = { "log", "policy", "rows", "best", "kept", "most_files", "most_bytes", "warnings" }
local ROW_ORDER = { "epoch", "step", "time", "metrics", "save", "save_best" }
local DONE_ORDER = { "file", "reuse", "aliases", "retire", "result", "reason" }

local function done_object(done)
  local retire = {}
  for i, file in ipairs(done.retire) do
    retire[i] = json.object({ "file", "why" }, { file = file, why = done.why[i] or json.null })
  end
  return json.object(DONE_ORDER, { file = done.file or json.null, reuse = done.reuse, aliases = done.aliases,
                                   retire = retire, result = done.result, reason = done.reason or json.null })
end

local function print_json(args, result)
  local rows, kept = {}, {}
  for i, decision in ipairs(result.decisions) do
    local row = decision.row
    rows[i] = json.object(ROW_ORDER, { epoch = row.epoch, step = row.step, time = row.time,
                                       metrics = json.map(row.metrics), save = done_object(decision.save),
                                       save_best = done_object(decision.best) })
  end
  for i, item in ipairs(result.kept) do kept[i] = json.object({ "file", "why" }, item) end
  json.print(json.object(ORDER, {
    log = args.log, policy = args.policy, rows = rows, kept = kept, warnings = result.warnings,
    best = result.best and json.object({ "file", "epoch" }, result.best) or json.null,
    most_files = result.most_files, most_bytes = result.most_bytes,
  }))
end

-- ---- text ----

local MAX_METRICS, MAX_KEPT = 3, 20

local function metric_text(value)
  if not value then return "-" end
  if value ~= value then return "nan" end
  return ("%.4g"):format(value)
end

-- The row shows the value already.
local function short_reason(reason)
  return (reason:gsub(", which is never better$", ""):gsub("^%S+ %S+ does not beat (%S+)$", "no gain on %1"))
end

-- "save, best (+0.058)": what was written, and whether it was the best.
local function decision_text(decision)
  local save, best, words = decision.save, decision.best, {}
  if save.file or best.file and not best.reuse then words[1] = "save" end
  if best.result then
    words[#words + 1] = best.reason and ("best (%s)"):format(best.reason) or "best"
  elseif best.reason and words[1] then
    words[#words + 1] = "not best: " .. short_reason(best.reason)
  end
  if best.file and not best.result then
    for _, alias in ipairs(best.aliases) do words[#words + 1] = "= " .. alias end
  end
  return #words == 0 and (save.reason or "nothing") or table.concat(words, ", ")
end

local function retire_text(decision, epochs)
  local words = {}
  for _, done in ipairs { decision.save, decision.best } do
    for i, file in ipairs(done.retire) do
      local name = epochs[file] and ("epoch %d"):format(epochs[file]) or file
      words[#words + 1] = done.why[i] and ("retire %s: %s"):format(name, done.why[i]) or "retire " .. name
    end
  end
  return table.concat(words, "; ")
end

local function print_rows(log, result)
  local metrics, steps = { table.unpack(log.metrics, 1, MAX_METRICS) }, log.rows[1].step ~= nil
  local head, rows, right = { "epoch", steps and "step" or nil }, {}, {}
  for _, name in ipairs(metrics) do head[#head + 1] = text.fit(text.printable(name), 12) end
  for i = 1, #head do right[i] = true end
  head[#head + 1] = "decision"
  rows[1] = head
  for _, decision in ipairs(result.decisions) do
    local cells = { tostring(decision.row.epoch), steps and tostring(decision.row.step or "-") or nil }
    for _, name in ipairs(metrics) do cells[#cells + 1] = metric_text(decision.row.metrics[name]) end
    cells[#cells + 1] = text.printable(decision_text(decision))
    cells[#cells + 1] = text.printable(retire_text(decision, result.epochs))
    rows[#rows + 1] = cells
  end
  text.print_columns(rows, right, " ", 44)
end

local function print_end(args, result)
  local best = result.best
  local words = { best and ("best: %s."):format(best.epoch and "epoch " .. best.epoch or best.file) or "best: none." }
  local size = result.most_bytes > 0 and ", " .. text.size(result.most_bytes) or ""
  words[2] = ("At most %s%s on disk at once."):format(text.plural(result.most_files, "file"), size)
  if result.most_bytes == 0 then words[3] = "(--bytes N tells how much.)" end
  text.say(text.wrap(table.concat(words, " "), "  "))
  local rows = {}
  for i = 1, math.min(#result.kept, MAX_KEPT) do
    rows[i] = { text.printable(result.kept[i].file), text.printable(result.kept[i].why) }
  end
  if #rows > 0 then text.say "kept at the end:" end
  text.print_columns(rows, nil, "  ")
  if #result.kept > MAX_KEPT then text.say(("  ... %d more (--json)"):format(#result.kept - MAX_KEPT)) end
  if args.dir then text.say(text.wrap(("Nothing in %s was changed."):format(text.printable(args.dir)), "  ")) end
end

---@param args table
---@return integer status
function M.run(args)
  if args.dir and not run_dir.is_directory(args.dir) then
    return status.fail(args.dir .. ": there is no such directory", "notfound")
  end
  local log, message, code = metrics_log.read(args.log, args.interval)
  if not log then return status.fail(message, code, args.log) end
  local result
  result, message, code = simulate(args, log)
  if not result then return status.fail(message, code) end
  if args.json then
    print_json(args, result)
  else
    print_rows(log, result)
    print_end(args, result)
    if #log.ignored > 0 then text.say("columns without numbers: " .. text.some(log.ignored, 8)) end
  end
  for _, line in ipairs(result.warnings) do status.fail(line, "policy") end
  return #result.warnings > 0 and status.FAILED or status.OK
end

return M
