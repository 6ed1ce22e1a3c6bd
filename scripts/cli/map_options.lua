-- map_options.lua: --map and what goes with it, as commands share them: options, problems, the report of a mapping.

local json = require "scripts.cli.json"
local mapping = require "scripts.cli.mapping"
local rules = require "policies.rules"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = {}

local SHOWN = 5

---The options of a command that maps.
---@param command table the argparse command
function M.declare(command)
  command:option("--map", "Mapping rules: a file, or a name of policies/maps."):argname("RULES")
  M.declare_variables(command)
  command:flag("--inverse", "The rules the other way round.")
end

---And of one that writes what it mapped.
function M.declare_roundtrip(command)
  command:flag("--check-roundtrip", "Undo the mapping and compare bit for bit before OUT is written.")
    :target("check_roundtrip")
end

---The options that give a rule set its variables.
function M.declare_variables(command)
  command:option("--config", "JSON that variables are read from; else config.json beside the file."):argname("FILE")
  command:option("--var", "A variable of the rules."):argname("NAME=VALUE"):count("*"):convert(mapping.variable)
end

---@return table<string, string>
function M.variables(args)
  local vars = {}
  for _, item in ipairs(args.var) do vars[item[1]] = item[2] end
  return vars
end

-- ---- problems ----

---Tells every problem on stderr; the exit status.
---@param problems ckpt.rules.Problem[]
---@param file string? what was to be mapped
---@return integer
function M.refuse(problems, file)
  io.stdout:flush()
  for _, problem in ipairs(problems) do
    io.stderr:write("ckpt: ", text.printable(rules.problem_text(problem)), "\n")
  end
  local code = problems[1] and problems[1].code or "policy"
  if #problems == 1 and code ~= "policy" then return status.of(code) end
  return status.fail(("%s: nothing was done: %s"):format(file or "rules", text.plural(#problems, "problem")), code)
end

---Every problem in one sentence, for a report that has no place for lines.
---@param problems ckpt.rules.Problem[]
---@param file string what was to be mapped
---@return string
function M.sentence(problems, file)
  local list = {}
  for i, problem in ipairs(problems) do list[i] = rules.problem_text(problem) end
  return ("%s: %s"):format(file, table.concat(list, "; "))
end

local function roundtrip_problems(report, file)
  local back, problems = report.roundtrip, {}
  for _, name in ipairs(back and back.differ or {}) do
    table.insert(problems, { file = file, key = name, message = ("'%s' does not come back as it was"):format(name) })
  end
  for _, id in ipairs(back and back.undeclared or {}) do
    table.insert(problems, { file = file, rule = id, message = "loses something, and does not say so (lossy = true)" })
  end
  return problems
end

-- ---- doing ----

-- f is mapping.apply or mapping.rows.
local function run(f, cp, args, input, options)
  local loaded, problems = mapping.load(args.map, { inverse = args.inverse })
  if not loaded then return nil, problems end
  if type(args.select) == "table" and #args.select == 1 then loaded.compiled.select = { args.select[1] } end
  local config, message = mapping.config(args.config, input)
  if not config then return nil, message, "argument" end
  options.config, options.vars, options.check_roundtrip = config, M.variables(args), args.check_roundtrip
  local result, report, code = f(cp, loaded, options)
  if type(report) ~= "table" then return nil, report, code end
  problems = result and roundtrip_problems(report, loaded.file) or report.problems
  if #problems > 0 then return nil, problems end
  return result, report
end

---Maps a checkpoint as the options say. nil and a list of problems, or a message and a code.
---@param format string? of what is to be written
---@return any? value, mapping.Report|ckpt.rules.Problem[]|string, string? code
function M.apply(cp, args, input, format) return run(mapping.apply, cp, args, input, { format = format }) end

-- What difference.find reads of a checkpoint, of { name, tensor } rows.
local function as_side(rows)
  local side = {}
  function side.entries()
    local i = 0
    return function()
      i = i + 1
      return rows[i] and { name = rows[i][1], kind = "tensor", value = rows[i][2], depth = 1, aliases = {} }
    end
  end
  return side
end

---Both sides of a comparison: the state dict of a as the rules make it, and that of b.
---@return table? a, table|ckpt.rules.Problem[]|string b_or_why, string? code
function M.sides(a, b, args)
  local rows, why, code = run(mapping.rows, a, args, args.a, {})
  if not rows then return nil, why, code end
  local sd, path, failed = mapping.state_dict(b, {})
  if not sd then return nil, path, failed end
  local other = {}
  for name, tensor in pairs(sd) do other[#other + 1] = { name, tensor } end
  return as_side(rows), as_side(other)
end

---Tells why a mapping came to nothing; the exit status.
---@param why ckpt.rules.Problem[]|string
---@param code string?
---@param file string
---@return integer
function M.tell(why, code, file)
  if type(why) == "table" then return M.refuse(why, file) end
  return status.fail(why, code, file)
end

-- ---- telling ----

local function ids(list)
  local out = {}
  for i, item in ipairs(list) do out[i] = item.rule end
  return out
end

local function unfired(plan)
  local out = {}
  for _, item in ipairs(plan.unfired) do
    if not item.optional then out[#out + 1] = item.rule end
  end
  return out
end

local function dropped(plan)
  local out = {}
  for i, item in ipairs(plan.dropped) do out[i] = item.from end
  return out
end

local ORDER = { "rules", "select", "sources", "results", "passed", "dropped", "unfired", "left", "peeled", "marks",
                "roundtrip" }
local ROUND_ORDER = { "same", "differ", "gone", "lossy" }

---@param report mapping.Report
---@return table
function M.json(report)
  local plan, back = report.plan, report.roundtrip
  return json.object(ORDER, {
    rules = plan.id, select = report.select, sources = report.sources, results = #plan.outputs, passed = plan.passed,
    dropped = dropped(plan), unfired = ids(plan.unfired), left = report.left, peeled = plan.peeled,
    marks = json.map(report.marks),
    roundtrip = back and json.object(ROUND_ORDER, { same = back.same, differ = back.differ, gone = back.gone,
      lossy = back.lossy }),
  })
end

local function say_list(word, names)
  if #names > 0 then text.say(text.wrap(("%s: %s"):format(word, text.some(names, SHOWN)), "    ", "  ")) end
end

---@param report mapping.Report
function M.say(report)
  local plan = report.plan
  text.say(("  mapped by %s: %s to %d"):format(text.printable(plan.id), text.plural(report.sources, "tensor"),
    #plan.outputs))
  say_list("dropped by a rule", dropped(plan))
  say_list("under the name they had", plan.passed)
  say_list("rules that match nothing", unfired(plan))
  say_list("prefixes taken off", plan.peeled)
  say_list("not taken along", report.left)
  local marks = {}
  for name, value in pairs(report.marks) do marks[#marks + 1] = name .. " = " .. value end
  table.sort(marks)
  say_list("marked", marks)
  local back = report.roundtrip
  if back then
    text.say(("  undone again: %s the same bit for bit"):format(text.plural(back.same, "tensor")))
    say_list("which do not come back", back.gone)
  end
end

return M
