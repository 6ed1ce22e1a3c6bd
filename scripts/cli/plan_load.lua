-- plan_load.lua: `ckpt plan --load FILE --model MODEL`, or DIR instead of --load: which tensor of the file a load would
-- put where, and whether the policy would accept it. Names and shapes only.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local models = require "scripts.cli.model"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = {}

local SHOWN, SHOWN_LOG = 12, 3
local NO_RUN = "/nonexistent/ckpt-plan" -- weights that are loaded belong to no run

---@class plan_load.Report
---@field rows { to: string, from: string?, shape: integer[], ops: integer, why: string? }[] one for each model key
---@field matched integer
---@field bytes integer of the model
---@field filled integer bytes of the model's tensors that are matched
---@field missing string[]
---@field unexpected string[]
---@field wrong string[] assignments that a load would refuse

-- ---- asking ----

local function ask(args, model)
  local cp, plan, ok, message, code
  if args.dir then
    cp, message, code = run_dir.open_existing(args)
  else
    cp, message, code = run_dir.open(args, { dir = NO_RUN, weights = args.load, auto_resume = false })
  end
  if not cp then return nil, message, code end
  for _, entry in ipairs(model) do
    ok, message, code = cp:bind("model", entry.name, entry.tensor)
    if not ok then return nil, message, code end
  end
  plan, message, code = cp:plan_load()
  return plan, message, code
end

local function source_of(plan)
  local cp = plan.path and ckpt.open(plan.path)
  return cp and cp:state_dict(plan.select or "") or ckpt.state_dict()
end

local function same_shape(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- Why a load would refuse this assignment, or nil. What operations make of a shape is the load's to find out.
local function fault(assignment, tensor, source)
  local from = source[assignment.from]
  if not from then return ("the file has no '%s'"):format(assignment.from) end
  if assignment.ops > 0 or same_shape(from.shape, tensor.shape) then return nil end
  return ("'%s' is %s, the model wants %s"):format(assignment.from, text.shape(from.shape), text.shape(tensor.shape))
end

local function add_row(report, entry, assignment, source)
  local why = assignment and fault(assignment, entry.tensor, source)
  report.rows[#report.rows + 1] = {
    to = entry.name, from = assignment and assignment.from, shape = entry.tensor.shape,
    ops = assignment and assignment.ops or 0, why = why,
  }
  report.bytes = report.bytes + entry.tensor.nbytes
  if why then report.wrong[#report.wrong + 1] = ("%s: %s"):format(entry.name, why) end
  if assignment then
    report.matched, report.filled = report.matched + 1, report.filled + entry.tensor.nbytes
  else
    report.missing[#report.missing + 1] = entry.name
  end
end

---@return plan_load.Report
local function compare(plan, model)
  local report = { rows = {}, matched = 0, bytes = 0, filled = 0, missing = {}, unexpected = {}, wrong = {} }
  local source, by_target, used = source_of(plan), {}, {}
  for _, assignment in ipairs(plan.assign) do
    by_target[assignment.to], used[assignment.from] = assignment, true
  end
  for _, entry in ipairs(model) do add_row(report, entry, by_target[entry.name], source) end
  for name in pairs(source) do
    if not used[name] then report.unexpected[#report.unexpected + 1] = name end
  end
  return report
end

-- ---- JSON ----

local ORDER = {
  "file", "mode", "select", "model_keys", "matched", "bytes", "matched_bytes", "assign", "missing",
  "unexpected", "mismatched", "refuse", "log",
}
local ROW_ORDER = { "to", "from", "shape", "ops" }

local function print_json(args, plan, report)
  local assign, mismatched = {}, {}
  for _, row in ipairs(report.rows) do
    if row.from then assign[#assign + 1] = json.object(ROW_ORDER, row) end
  end
  for _, list in ipairs { plan.mismatched, report.wrong } do
    table.move(list, 1, #list, #mismatched + 1, mismatched)
  end
  json.print(json.object(ORDER, {
    file = plan.path or args.load or json.null, mode = plan.mode, select = plan.select or json.null,
    model_keys = #report.rows, matched = report.matched, bytes = report.bytes, matched_bytes = report.filled,
    assign = assign, missing = report.missing, unexpected = report.unexpected, mismatched = mismatched,
    refuse = plan.refuse or json.null, log = plan.log,
  }))
end

-- ---- text ----

-- index_select is the only operation there is, so its number says all.
local function ops_text(n) return n == 0 and "" or n == 1 and "index_select" or n .. " x index_select" end

local function row_of(row)
  return { text.printable(row.to), "<- " .. (row.from and text.printable(row.from) or "(nothing)"),
           text.shape(row.shape), row.why and "shapes differ" or row.from and ops_text(row.ops) or "as initialised" }
end

-- All that is not plain, and the first plain ones.
local function shown_rows(rows, all)
  local shown, plain, hidden = {}, 0, 0
  for _, row in ipairs(rows) do
    local is_plain = row.from and not row.why and row.ops == 0
    plain = plain + (is_plain and 1 or 0)
    if all or #shown < SHOWN or (not is_plain and #shown < 3 * SHOWN) then
      shown[#shown + 1] = row_of(row)
    else
      hidden = hidden + 1
    end
  end
  return shown, hidden
end

local function print_rows(report, all)
  local shown, hidden = shown_rows(report.rows, all)
  text.print_columns(shown, nil, "  ", 46)
  if hidden > 0 then text.say(("  ... %d more (--all)"):format(hidden)) end
end

local function print_list(title, names, all)
  if #names > 0 then text.say(text.wrap(title .. text.some(names, all and #names or 6), "  ")) end
end

local function print_log(lines, all)
  for i, line in ipairs(lines) do
    if i > SHOWN_LOG and not all then
      text.say(("policy: ... %d more lines (--all)"):format(#lines - SHOWN_LOG))
      break
    end
    text.say(text.wrap("policy: " .. text.printable(line), "  "))
  end
end

local function percent(part, whole) return whole == 0 and 100 or 100 * part / whole end

-- The status that belongs to it.
local function print_verdict(plan, report)
  if plan.refuse then
    text.say(text.wrap("refused: " .. text.printable(plan.refuse), "  "))
  elseif #report.wrong > 0 then
    text.say(text.wrap("a load would fail: " .. text.some(report.wrong, 3), "  "))
  else
    text.say "contract: ok"
    return status.OK
  end
  text.say "nothing would be loaded"
  return status.FAILED
end

local function print_text(args, plan, report)
  local from = text.printable(plan.path or args.load or args.dir)
  text.say(("%s -> model (%s)"):format(from, text.plural(#report.rows, "key")))
  if plan.mode == "scratch" then
    text.say "the policy takes no file: the model stays as initialised"
    return
  end
  print_rows(report, args.all)
  text.say(("matched %d of %d keys, %.1f %% of the bytes"):format(report.matched, #report.rows,
    percent(report.filled, report.bytes)))
  print_list("missing: ", report.missing, args.all)
  print_list("unused in the file: ", report.unexpected, args.all)
  print_list("mismatched: ", plan.mismatched, args.all)
  print_log(plan.log, args.all)
  print_verdict(plan, report)
end

---@param args table
---@return integer status
function M.run(args)
  local model, plan, message, code
  model, message, code = models.read(args.model, args.model_path)
  if not model then return status.fail(message, code, args.model) end
  plan, message, code = ask(args, model)
  if not plan then return status.fail(message, code) end
  local report = compare(plan, model)
  if args.json then print_json(args, plan, report) else print_text(args, plan, report) end
  return (plan.refuse or #report.wrong > 0) and status.FAILED or status.OK
end

return M
