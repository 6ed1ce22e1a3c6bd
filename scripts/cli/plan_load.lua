-- plan_load.lua: `ckpt plan --load FILE --model MODEL`, or DIR instead of --load: which tensor of the file a load would
-- put where, and whether the policy would accept it. Names and shapes only.

local json = require "scripts.cli.json"
local models = require "scripts.cli.model"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = {}

local SHOWN = 12
local NO_RUN = "/nonexistent/ckpt-plan" -- weights that are loaded belong to no run
local MEMORY, STEPS = 1 << 30, 2000000000 -- of the policy: files of 100,000 tensors are planned too

-- ---- asking ----

local function ask(args, model)
  local cp, plan, ok, message, code
  if args.dir then
    cp, message, code = run_dir.open_existing(args)
  else
    cp, message, code = run_dir.open(args, { dir = NO_RUN, weights = args.load, auto_resume = false,
                                             policy_memory = MEMORY, policy_steps = STEPS })
  end
  if not cp then return nil, message, code end
  for _, entry in ipairs(model) do
    ok, message, code = cp:bind("model", entry.name, entry.tensor)
    if not ok then return nil, message, code end
  end
  plan, message, code = cp:plan_load()
  return plan, message, code
end

-- ---- JSON ----

local ORDER = {
  "file", "mode", "select", "map", "model_keys", "matched", "bytes", "matched_bytes", "assign", "entries", "missing",
  "unexpected", "mismatched", "dropped", "unfired", "contract", "violations", "suggestions", "refuse", "fault", "log",
}
local ROW_ORDER = { "to", "from", "shape", "operations", "rule" }
local ENTRY_ORDER = {
  "to", "status", "source", "rule", "operations", "file_shape", "file_dtype", "shape", "dtype", "note",
}
local SUGGESTION_ORDER = { "text", "matches" }

local function is_filled(entry) return entry.status == "matched" or entry.status == "partial" end

local function objects(order, list)
  local out = {}
  for i, item in ipairs(list) do out[i] = json.object(order, item) end
  return out
end

local function assigned(plan)
  local list = {}
  for _, e in ipairs(plan.entries) do
    if is_filled(e) then
      list[#list + 1] = { to = e.to, from = e.source or json.null, shape = e.shape, operations = e.operations,
                          rule = e.rule }
    end
  end
  return objects(ROW_ORDER, list)
end

local function print_json(args, plan)
  local fields = {
    file = plan.path or args.load or json.null, mode = plan.mode, select = plan.select or json.null,
    map = plan.map or json.null, model_keys = #plan.entries, assign = assigned(plan),
    entries = objects(ENTRY_ORDER, plan.entries), suggestions = objects(SUGGESTION_ORDER, plan.suggestions),
    contract = plan.contract or json.null, refuse = plan.refuse or json.null, fault = plan.fault or json.null,
  }
  for _, name in ipairs(ORDER) do
    if fields[name] == nil then fields[name] = plan[name] end
  end
  json.print(json.object(ORDER, fields))
end

-- ---- text: rows ----

local RGB2BGR = "index_select(1, [2, 1, 0])"

local function short_rule(rule) return rule and "rule " .. text.printable(rule) or nil end

-- What there is to say of an entry beside its shape.
local function remark(e)
  if e.status == "missing" then return e.note and text.printable(e.note) or "as initialised" end
  if e.status == "reset" then return "as initialised (load.reset)" end
  local parts = {}
  if not is_filled(e) then parts[1] = "not loaded" end
  if e.status == "partial" then parts[1] = "in part" end
  parts[#parts + 1] = e.operations == RGB2BGR and "rgb->bgr" or e.operations
  parts[#parts + 1] = short_rule(e.rule)
  parts[#parts + 1] = e.note and text.printable(e.note)
  return table.concat(parts, ", ")
end

local function row_of(e)
  return { text.printable(e.to), "<- " .. (e.source and text.printable(e.source) or "(nothing)"),
           text.shape(e.file_shape or e.shape) }
end

local function is_plain(e) return e.status == "matched" and not e.operations end

-- All that is not plain, and the first plain ones.
local function shown_entries(entries, all)
  local shown, hidden = {}, 0
  for _, e in ipairs(entries) do
    if all or #shown < SHOWN or (not is_plain(e) and #shown < 3 * SHOWN) then
      shown[#shown + 1] = e
    else
      hidden = hidden + 1
    end
  end
  return shown, hidden
end

-- A remark that does not fit beside its row stands below it; a mere rule is then left to the JSON.
local function print_row(line, width, e)
  local note = remark(e)
  if note == "" then return text.say(line) end
  local last = line:match("[^\n]*$")
  if math.max(width, utf8.len(last)) + 2 + utf8.len(note) <= text.WIDTH then
    return text.say(line .. (" "):rep(width - utf8.len(last)) .. "  " .. note)
  end
  text.say(line)
  if not is_plain(e) then text.say(text.wrap(note, "      ", "      ")) end
end

-- Names too long for one line: the model's key, and below it what fills it.
local function two_lines(rows)
  local lower, width = {}, 0
  for i, row in ipairs(rows) do lower[i] = { row[2], row[3] } end
  local lines = text.columns(lower, nil, "      ", 46)
  for i, line in ipairs(lines) do
    width = math.max(width, utf8.len(line))
    lines[i] = "  " .. rows[i][1] .. "\n" .. line
  end
  return lines, width
end

local function print_rows(plan, all)
  local shown, hidden = shown_entries(plan.entries, all)
  local rows, width = {}, 0
  for i, e in ipairs(shown) do rows[i] = row_of(e) end
  local lines = text.columns(rows, nil, "  ", 46)
  for _, line in ipairs(lines) do width = math.max(width, utf8.len(line)) end
  if width > text.WIDTH then lines, width = two_lines(rows) end
  for i, line in ipairs(lines) do print_row(line, width, shown[i]) end
  if hidden > 0 then text.say(("  ... %d more (--all)"):format(hidden)) end
end

-- ---- text: the rest ----

local function print_list(title, names, all)
  if #names > 0 then text.say(text.wrap(title .. text.some(names, all and #names or 6), "  ")) end
end

-- What the default policy logs is shown above; another one's lines may say more.
local function print_log(lines)
  for _, line in ipairs(lines) do text.say(text.wrap("policy: " .. text.printable(line), "  ")) end
end

local function percent(part, whole) return whole == 0 and 100 or 100 * part / whole end

local function suggestion_rows(plan)
  local rows = {}
  for i, s in ipairs(plan.suggestions) do
    rows[i] = { i == 1 and "did you mean" or "or", text.printable(s.text), ("(would match %d)"):format(s.matches) }
  end
  return rows
end

-- In columns if they fit; else the count stands below.
local function print_suggestions(plan)
  local rows, widest = suggestion_rows(plan), 0
  local lines = text.columns(rows)
  for _, line in ipairs(lines) do widest = math.max(widest, utf8.len(line)) end
  for i, row in ipairs(rows) do
    local below = ("  %-12s  %s\n%16s%s"):format(row[1], row[2], "", row[3])
    text.say(widest <= text.WIDTH and lines[i] or below)
  end
end

local function is_refused(plan) return plan.refuse ~= nil or plan.fault ~= nil end

-- Each condition that is not met on its own line, then what to do about it.
local function print_refusal(plan, args)
  local list = #plan.violations > 0 and plan.violations or { plan.refuse or plan.fault }
  local head = plan.refuse and "refused: " or "a load would fail: "
  for _, sentence in ipairs(list) do text.say(text.wrap(head .. text.printable(sentence), "  ")) end
  text.say "nothing would be loaded"
  print_suggestions(plan)
  if #plan.suggestions == 0 and not args.all then text.say "next: the same with --all shows every key" end
end

local function print_verdict(plan, args)
  if is_refused(plan) then return print_refusal(plan, args) end
  text.say(text.wrap("contract: " .. (plan.contract and text.printable(plan.contract) .. ": " or "") .. "ok", "  "))
  print_suggestions(plan)
end

local function print_lists(plan, all)
  print_list("missing: ", plan.missing, all)
  print_list("unused in the file: ", plan.unexpected, all)
  print_list("dropped: ", plan.dropped, all)
  print_list("mismatched: ", plan.mismatched, all)
  print_list("rules that met no key: ", plan.unfired, all)
end

local function print_text(args, plan)
  local from = text.printable(plan.path or args.load or args.dir)
  text.say(("%s -> model (%s)"):format(from, text.plural(#plan.entries, "key")))
  if plan.mode == "scratch" then
    text.say "the policy takes no file: the model stays as initialised"
    if is_refused(plan) then print_refusal(plan, args) end
    return
  end
  if plan.map then text.say("rule set " .. text.printable(plan.map)) end
  if plan.matched > 0 or args.all then print_rows(plan, args.all) end
  text.say(("matched %d of %d keys, %.1f %% of the bytes"):format(plan.matched, #plan.entries,
    percent(plan.matched_bytes, plan.bytes)))
  print_lists(plan, args.all)
  if args.all then print_log(plan.log) end
  print_verdict(plan, args)
end

---@param args table
---@return integer status
function M.run(args)
  local model, plan, message, code
  model, message, code = models.read(args.model, args.model_path)
  if not model then return status.fail(message, code, args.model) end
  plan, message, code = ask(args, model)
  if not plan then return status.fail(message, code) end
  if args.json then print_json(args, plan) else print_text(args, plan) end
  return is_refused(plan) and status.FAILED or status.OK
end

return M
