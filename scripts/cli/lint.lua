-- lint.lua: `ckpt lint RULES.lua`: what is wrong with mapping rules, by themselves and for the keys of a file, before
-- anything is converted.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local map_options = require "scripts.cli.map_options"
local mapping = require "scripts.cli.mapping"
local rules = require "policies.rules"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Check mapping rules, alone or against the keys of a file." }

---@param command table the argparse command
function M.declare(command)
  command:argument("RULES", "Rule file, or a name of policies/maps."):target("rules")
  command:option("--keys", "A checkpoint, or text: a key per line, with a shape such as 64x3x7x7 and a dtype.")
    :argname("FILE")
  command:option("--target", "The same of the model that the rules are to fill."):argname("FILE")
  map_options.declare_variables(command)
  command:flag("--plan", "Show what becomes of each key.")
  command:flag("--json", "One line of JSON.")
  command:epilog "Exit status: 0 nothing is wrong (there may be warnings), 1 something is, 2 bad usage, 3 bad file."
end

-- ---- keys ----

-- "64x3x7x7", "7", "" -> sizes; nil for what is no shape.
local function read_shape(word)
  if word == "scalar" or word == "()" or word == "[]" then return {} end
  local shape = {}
  word = word:gsub("^[%[(]", ""):gsub("[%])]$", ""):gsub("[,x%*]%s*", "x")
  for size in (word .. "x"):gmatch("([^x]*)x") do
    local n = size:find("^%d+$") and math.tointeger(tonumber(size))
    if not n then return nil end
    shape[#shape + 1] = n
  end
  return shape
end

-- A key, and behind blanks its shape and its dtype. A line that is empty or begins with "# " is none.
local function read_line(line)
  if line:find("^%s*$") or line:find("^# ") then return nil end
  local key, shape, dtype = line:match("^(.-)%s+(%S+)%s*(%S*)%s*$")
  local sizes = shape and read_shape(shape)
  if not sizes then return { name = line:match("^%s*(.-)%s*$") } end
  return { name = key:match("^%s*(.*)$"), shape = sizes, dtype = dtype ~= "" and dtype or "float32" }
end

local function keys_of_text(path, content)
  local list, seen, n = {}, {}, 0
  for line in (content .. "\n"):gmatch("(.-)\r?\n") do
    n = n + 1
    local source = read_line(line)
    if source and seen[source.name] then
      return nil, ("%s:%d: the key '%s' stands twice"):format(path, n, source.name), "format"
    end
    if source then list[#list + 1], seen[source.name] = source, true end
  end
  return list
end

local function is_checkpoint(head)
  return head:find("%z") or head:find("^PK") or head:find("^\128") or head:find("^%s*{")
end

-- Of a checkpoint the tensors of its state dict; else the lines of a text.
local function read_keys(path, compiled)
  local file <close>, why = io.open(path, "rb")
  local head = file and file:read(4096)
  if file and not head and file:read(0) == nil and not file:seek("end") then why = path .. ": is no file" end
  if not file then return nil, why, "notfound" end
  if head and not is_checkpoint(head) then return keys_of_text(path, head .. (file:read("a") or "")) end
  local cp, message, code = ckpt.open(path)
  if not cp then return nil, message, code end
  local sd
  sd, message, code = mapping.state_dict(cp, compiled or {})
  if not sd then return nil, message, code end
  return mapping.sources(sd)
end

-- ---- telling ----

local ORDER = { "rules", "file", "errors", "warnings", "findings", "keys", "results", "plan" }
local FINDING_ORDER = { "level", "rule", "file", "line", "key", "message" }
local OUTPUT_ORDER = { "to", "from", "ops", "shape", "dtype", "rule", "tied_to" }

local function objects(order, list)
  local out = {}
  for i, item in ipairs(list) do
    local fields = {}
    for _, key in ipairs(order) do fields[key] = item[key] end
    out[i] = json.object(order, fields)
  end
  return out
end

local function count(findings, level)
  local n = 0
  for _, finding in ipairs(findings) do
    if finding.level == level then n = n + 1 end
  end
  return n
end

local function plan_objects(plan)
  local list = {}
  for i, output in ipairs(plan.outputs) do
    list[i] = { to = output.to, from = output.sources, ops = output.ops, shape = output.shape, dtype = output.dtype,
      rule = output.rule, tied_to = output.tied_to }
  end
  return objects(OUTPUT_ORDER, list)
end

local function print_json(args, report)
  json.print(json.object(ORDER, {
    rules = report.id, file = args.rules, errors = count(report.findings, "error"),
    warnings = count(report.findings, "warning"), findings = objects(FINDING_ORDER, report.findings),
    keys = report.sources and #report.sources, results = report.plan and #report.plan.outputs,
    plan = args.plan and report.plan and plan_objects(report.plan) or nil,
  }))
end

local function print_plan(plan)
  for _, output in ipairs(plan.outputs) do
    local words = { output.to, "<-", table.concat(output.sources, " + ") }
    if output.ops ~= "" then words[#words + 1] = output.ops end
    if output.shape then words[#words + 1] = text.shape(output.shape) end
    if output.rule then words[#words + 1] = "(rule " .. output.rule .. ")" end
    if output.tied_to then words[#words + 1] = "= " .. output.tied_to end
    text.say("  " .. text.printable(table.concat(words, "  ")))
  end
  for _, item in ipairs(plan.dropped) do
    text.say(("  %s  dropped  (rule %s)"):format(text.printable(item.from), item.rule))
  end
end

local function print_text(args, report)
  if args.plan and report.plan then print_plan(report.plan) end
  for _, finding in ipairs(report.findings) do
    text.say(("%s: %s"):format(finding.level, text.printable(rules.problem_text(finding))))
  end
  local errors, warnings = count(report.findings, "error"), count(report.findings, "warning")
  local words = { text.plural(errors, "error"), text.plural(warnings, "warning") }
  if report.plan then
    words[#words + 1] = ("%s to %d"):format(text.plural(#report.sources, "key"), #report.plan.outputs)
  end
  text.say(("%s: %s"):format(text.printable(report.id or args.rules), table.concat(words, ", ")))
end

-- ---- the command ----

local function finish(args, report)
  if args.json then print_json(args, report) else print_text(args, report) end
  return count(report.findings, "error") > 0 and status.FAILED or status.OK
end

local function as_findings(problems)
  local list = {}
  for i, problem in ipairs(problems) do
    list[i] = { level = "error", rule = problem.rule, file = problem.file, line = problem.line,
      message = problem.message }
  end
  return list
end

---@param args table
---@return integer status
function M.run(args)
  local set, options = mapping.read(args.rules)
  if not set and options[1].code then
    return status.fail(rules.problem_text(options[1]), options[1].code)
  end
  if not set then return finish(args, { findings = as_findings(options) }) end
  local config, message = mapping.config(args.config, args.keys or args.rules)
  if not config then return status.usage(message) end
  local compiled = rules.compile(set, options)
  local sources, target, code
  if args.keys then
    sources, message, code = read_keys(args.keys, compiled)
    if not sources then return status.fail(message, code, args.keys) end
  end
  if args.target then
    target, message, code = read_keys(args.target)
    if not target then return status.fail(message, code, args.target) end
  end
  options.config, options.vars, options.target = config, map_options.variables(args), target
  local findings, plan = rules.lint(set, sources, options)
  return finish(args, { id = set.id, findings = findings, plan = plan, sources = sources })
end

return M
