-- mapping.lua: rule files for commands: found, read in a closed environment, compiled; planned for a checkpoint and
-- applied to it as lazy tensors. What a rule set means is policies/rules.lua's to say.
--
--   local loaded, problems = mapping.load("maps/mine.lua")
--   local value, report = mapping.apply(cp, loaded, { vars = { n_heads = "32" } })
--   ckpt.save("out.pth", value)

local ckpt = require "ckpt"
local dkjson = require "dkjson"
local marks = require "scripts.cli.marks"
local rules = require "policies.rules"

local M = {}

local MAX_STEPS = 50000000 -- instructions of a rule file

-- ---- reading ----

local function read_text(path)
  local file <close>, why = io.open(path, "rb")
  if not file then return nil, (why:gsub("^" .. path:gsub("%p", "%%%0") .. ": ", "")) end
  local text = file:read("a")
  return text or nil, not text and "is not a file" or nil
end

local function copy(library, without)
  local out = {}
  for name, value in pairs(library) do out[name] = value end
  for _, name in ipairs(without or {}) do out[name] = nil end
  return out
end

-- Rule sets are data: what they may call computes, and reaches nothing.
local function environment(load_set)
  local env = { string = copy(string, { "dump" }), table = copy(table), math = copy(math), utf8 = copy(utf8),
    ckpt = { none = ckpt.none, align = ckpt.align, infer = ckpt.infer } }
  for _, name in ipairs { "assert", "error", "ipairs", "next", "pairs", "pcall", "select", "tonumber", "tostring",
                          "type" } do
    env[name] = _G[name]
  end
  function env.require(name)
    local set, why = load_set((name:gsub("^policies%.maps%.", ""):gsub("^maps%.", "")))
    if set == nil then error(why, 2) end
    return set
  end
  return env
end

-- Once it is over every further instruction raises, so that the file cannot catch it.
local function stop()
  debug.sethook(stop, "", 1)
  error("runs for too long", 0)
end

-- In a coroutine of its own, which alone has the hook.
local function run_bounded(chunk)
  local thread = coroutine.create(chunk)
  debug.sethook(thread, stop, "", MAX_STEPS)
  return coroutine.resume(thread)
end

-- "file:12: message" as a problem.
local function problem_of(path, message)
  local line, rest = tostring(message):match(":(%d+): (.*)$")
  return { file = path, line = math.tointeger(tonumber(line)), message = rest or tostring(message) }
end

local load_named

local function load_file(path, text)
  local function load_beside(name) return load_named(name, path:match("^(.*/)[^/]*$") or "") end
  local chunk, why = load(text, "@" .. path, "t", environment(load_beside))
  if not chunk then return nil, problem_of(path, why) end
  local ok, set = run_bounded(chunk)
  if not ok then return nil, problem_of(path, set) end
  if type(set) == "function" then ok, set = run_bounded(set) end
  if not ok then return nil, problem_of(path, set) end
  if type(set) ~= "table" then return nil, { file = path, message = "a rule file returns a table" } end
  return set, { file = path, text = text, load = load_beside }
end

-- A set by name: beside the file that asks, then the built-in ones.
load_named = function(name, directory)
  if type(name) ~= "string" or not name:find("^[%w_%-./]+$") then
    return nil, ("'%s' is no name of a rule set"):format(tostring(name))
  end
  local path = directory .. name .. (name:find("%.lua$") and "" or ".lua")
  local text = directory and read_text(path)
  if text then
    local set, info = load_file(path, text)
    if not set then return nil, rules.problem_text(info) end
    return set, info
  end
  local word = name:gsub("%.lua$", ""):gsub("/", ".")
  local ok, set = pcall(require, "policies.maps." .. word)
  if ok and type(set) == "table" then
    return set, { file = ("policies/maps/%s.lua"):format(word), text = read_text("policies/maps/" .. word .. ".lua") }
  end
  if ok or tostring(set):find("module '[^']*' not found") then
    return nil, ("there is no '%s', nor a built-in rule set of that name"):format(path)
  end
  return nil, tostring(set)
end

local function find(path_or_name)
  if not path_or_name:find("[/.]") then return load_named(path_or_name, "") end
  local text, why = read_text(path_or_name)
  if not text then return nil, { file = path_or_name, message = why, code = "notfound" } end
  return load_file(path_or_name, text)
end

---@class mapping.Loaded
---@field set table
---@field compiled ckpt.rules.Compiled
---@field file string
---@field options table for rules.compile again

---A rule set by the path of its file or by its name, as it was written.
---@param path_or_name string
---@return table? set, table options_or_problems of rules.compile; or a list of problems
function M.read(path_or_name)
  local set, info = find(path_or_name)
  if set then return set, info end
  if type(info) ~= "table" then info = { message = info, code = "notfound" } end
  return nil, { info }
end

---The same, compiled; with `inverse` the set that undoes it. nil and every problem.
---@param path_or_name string
---@param options { inverse?: boolean }?
---@return mapping.Loaded?, ckpt.rules.Problem[]
function M.load(path_or_name, options)
  local set, info = M.read(path_or_name)
  if not set then return nil, info end
  local compiled, problems = rules.compile(set, info)
  if not compiled then return nil, problems end
  local loaded = { set = set, compiled = compiled, file = info.file, options = info }
  if options and options.inverse then return M.invert(loaded) end
  return loaded, {}
end

---The set that undoes a loaded one.
---@return mapping.Loaded?, ckpt.rules.Problem[]
function M.invert(loaded)
  local set, lossy = rules.inverse(loaded.compiled)
  if not set then return nil, lossy end
  local compiled, problems = rules.compile(set, { file = loaded.file .. " (inverse)" })
  if not compiled then return nil, problems end
  return { set = set, compiled = compiled, file = loaded.file, options = {}, undoes = loaded.set.mark }, {}
end

---A JSON config; without `path` the config.json beside `beside`, if there is one.
---@return table?, string? message
function M.config(path, beside)
  local text, why = read_text(path or (beside:match("^(.*/)[^/]*$") or "") .. "config.json")
  if not text and not path then return {} end
  if not text then return nil, ("%s: %s"):format(path, why) end
  local value, _, message = dkjson.decode(text)
  if type(value) ~= "table" then
    return path and nil or {}, ("%s: not a JSON object: %s"):format(path, message or "")
  end
  return value
end

---"n=32" as name and text, for --var.
function M.variable(word)
  local name, text = word:match("^([%a_][%w_]*)=(.*)$")
  if name then return { name, text } end
  return nil, ("'%s' is not of the form name=value"):format(word)
end

-- ---- the file ----

-- Equal for tensors that are one view; asked only of storages that several have.
local function identity_of(tensor, storage)
  return ("%s/%s/%s/%s/%s"):format(tostring(storage), tensor.dtype, tensor.offset, table.concat(tensor.shape, ","),
    table.concat(tensor:stride(), ","))
end

---@param sd any a state dict
---@return ckpt.rules.Source[]
function M.sources(sd)
  local list, first, n = {}, {}, 0
  for name, tensor in pairs(sd) do
    n = n + 1
    local storage, source = tensor:storage(), { name = name, shape = tensor.shape, dtype = tensor.dtype }
    list[n] = source
    local other = storage and first[storage]
    if other then
      list[other].identity = list[other].identity or identity_of(sd[list[other].name], storage)
      source.identity = identity_of(tensor, storage)
    elseif storage then
      first[storage] = n
    end
  end
  return list
end

---The state dict that a set speaks of, and its path.
---@return any? sd, string path_or_message, string? code
function M.state_dict(cp, compiled)
  for _, path in ipairs(compiled.select or {}) do
    local sd = cp:state_dict(path)
    if sd and #sd > 0 then return sd, path end
  end
  if compiled.select then
    return nil, ("there is no state dict at '%s'"):format(table.concat(compiled.select, "', '")), "notfound"
  end
  local sd, left, path = cp:state_dict()
  if not sd then return nil, left, path end
  return sd, path
end

-- ---- variables that nothing asks for ----

local function check_vars(loaded, vars, problems)
  local known = {}
  for name, var in pairs(loaded.compiled.vars) do
    known[name] = true
    if var.option then known[var.option] = true end
  end
  local names = {}
  for name in pairs(vars or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    if not known[name] then
      table.insert(problems, { file = loaded.file, message = ("there is no variable or option '%s'"):format(name) })
    end
  end
end

---Lets the plan of `n` keys take 1 KB for each before the collector, which would find it all in use, goes on.
---@param n integer
function M.make_room(n) collectgarbage("step", -n) end

---The plan of a loaded set for a checkpoint. Its problems are all that is wrong; nil only where there is no state dict.
---@param cp any a checkpoint
---@param loaded mapping.Loaded
---@param options { config?: table, vars?: table, target?: ckpt.rules.Source[] }
---@return ckpt.rules.Plan? plan, table|string job_or_message, string? code
function M.plan(cp, loaded, options)
  local sd, path, code = M.state_dict(cp, loaded.compiled)
  if not sd then return nil, path, code end
  local job = { sd = sd, path = path, sources = M.sources(sd), marks = marks.of(cp, path) }
  M.make_room(#job.sources)
  local plan = rules.plan(loaded.compiled, job.sources, { config = options.config, vars = options.vars,
    target = options.target, marks = job.marks })
  check_vars(loaded, options.vars, plan.problems)
  for _, problem in ipairs(plan.problems) do
    if not problem.file then problem.file = loaded.file end
  end
  return plan, job
end

-- ---- applying ----

local function check_bytes(plan, sd)
  for _, check in ipairs(plan.checks) do
    local a, b = sd[check.a], sd[check.b]
    local same, message, code = true, nil, nil
    if a and b then same, message, code = a:equal(b) end
    if same == nil then return nil, message, code end
    if not same then
      table.insert(plan.problems, { rule = check.rule, key = check.b,
        message = ("'%s' and '%s' are to be one tensor, but differ"):format(check.a, check.b) })
    end
  end
  return true
end

local function make(expr, sd)
  if type(expr) == "string" then return sd[expr] end
  return ckpt.apply(expr, sd)
end

---The results of a plan as { name, tensor } in order; tied ones are one tensor.
---@return table[]?, string? message, string? code
function M.results(plan, sd)
  local rows, by_name, later = {}, {}, {}
  for i, output in ipairs(plan.outputs) do
    if output.tied_to then
      later[#later + 1] = i
    else
      local tensor, message, code = make(output.expr, sd)
      if not tensor then return nil, ("'%s': %s"):format(output.to, message or "no such tensor"), code end
      by_name[output.to], rows[i] = tensor, { output.to, tensor }
    end
  end
  for _, i in ipairs(later) do
    local output = plan.outputs[i]
    local tensor = by_name[output.tied_to] or make(output.expr, sd)
    rows[i] = { output.to, tensor }
  end
  return rows
end

---@class mapping.RoundTrip
---@field same integer sources that come back bit for bit
---@field differ string[]
---@field gone string[] sources that do not come back
---@field lossy string[] ids of rules
---@field undeclared string[] those of them that neither drop nor say `lossy`

local function undeclared(compiled, ids)
  local declared, list = {}, {}
  for _, stage in ipairs(compiled.stages) do
    for _, rule in ipairs(stage.rules) do declared[rule.id] = rule.drop or rule.lossy or rule.kind == "map" end
  end
  for _, id in ipairs(ids) do
    if not declared[id] then list[#list + 1] = id end
  end
  return list
end

---Undoes a plan and compares what comes back with the sources, bit for bit.
---@return mapping.RoundTrip?, string? message, string? code
function M.roundtrip(loaded, plan, job, rows)
  local inverse = rules.undo(loaded.compiled, plan, job.sources)
  local results, out = {}, { same = 0, differ = {}, gone = inverse.gone, lossy = inverse.lossy,
    undeclared = undeclared(loaded.compiled, inverse.lossy) }
  for _, row in ipairs(rows) do results[row[1]] = row[2] end
  for _, output in ipairs(inverse.outputs) do
    local tensor, message, code = make(output.expr, results)
    if not tensor then return nil, message, code end
    local same
    same, message, code = tensor:equal(job.sd[output.to])
    if same == nil then return nil, message, code end
    if same then out.same = out.same + 1 else table.insert(out.differ, output.to) end
  end
  return out
end

-- Other things at the top of the file, which do not go along.
local function left_behind(cp, path)
  local left, root = {}, cp:at("")
  if path == "" or ckpt.type(root) ~= "dict" then return left end
  for _, key in ipairs(ckpt.keys(root)) do
    if key ~= path and tostring(key) ~= path:match("^[^.]*") then left[#left + 1] = tostring(key) end
  end
  return left
end

---@class mapping.Report
---@field plan ckpt.rules.Plan
---@field problems ckpt.rules.Problem[] with any there is no value
---@field select string path of the state dict
---@field sources integer
---@field left string[] what else was at the top of the file, and does not go along
---@field marks table<string, string> of the result
---@field metadata table<string, string>? for a safetensors file
---@field roundtrip mapping.RoundTrip?

---Maps a checkpoint: { name, lazy tensor } in order, and a report. Without them, either report.problems says why, or
---there is a message and a code. Options as of mapping.apply.
---@return table[]? rows, mapping.Report|string report_or_message, string? code
function M.rows(cp, loaded, options)
  local plan, job, code = M.plan(cp, loaded, options)
  if not plan then return nil, job, code end
  local ok, message, rows
  ok, message, code = check_bytes(plan, job.sd)
  if not ok then return nil, message, code end
  local report = { plan = plan, problems = plan.problems, select = job.path, sources = #job.sources,
    left = left_behind(cp, job.path), marks = marks.after(job.marks, plan.marks, loaded.undoes) }
  if #plan.problems > 0 then return nil, report end
  rows, message, code = M.results(plan, job.sd)
  if not rows then return nil, message, code end
  if options.check_roundtrip then
    report.roundtrip, message, code = M.roundtrip(loaded, plan, job, rows)
    if not report.roundtrip then return nil, message, code end
  end
  return rows, report
end

---The value to save, with lazy tensors, and a report; else as mapping.rows.
---@param cp any a checkpoint
---@param loaded mapping.Loaded
---@param options { config?: table, vars?: table, target?: ckpt.rules.Source[], check_roundtrip?: boolean,
---  format?: string }  for "safetensors" the marks are in report.metadata only
---@return any? value, mapping.Report|string report_or_message, string? code
function M.apply(cp, loaded, options)
  local rows, report, code = M.rows(cp, loaded, options)
  if not rows then return nil, report, code end
  report.metadata = marks.metadata(report.marks)
  return marks.value(rows, options.format == "safetensors" and {} or report.marks), report
end

return M
