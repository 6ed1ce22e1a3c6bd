-- mapped.lua: for the specs of mapping rules: sources from short texts, plans as lines that can be compared.
local rules = require "policies.rules"

local M = {}

local function sizes(text)
  local shape = {}
  for n in text:gmatch("%d+") do shape[#shape + 1] = math.tointeger(tonumber(n)) end
  return shape
end

---"a.weight 2x3 float16 @id": shape (2x2 unless said, "-" for none), dtype (float32), identity.
function M.source(text)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  local identity = words[#words]:match("^@(.+)$")
  if identity then table.remove(words) end
  if words[2] == "?" then return { name = words[1] } end
  return { name = words[1], shape = words[2] == "-" and {} or sizes(words[2] or "2x2"), dtype = words[3] or "float32",
    identity = identity }
end

function M.sources(list)
  local out = {}
  for i, text in ipairs(list) do out[i] = M.source(text) end
  return out
end

local function expression(e)
  if type(e) == "string" then return e end
  local args = {}
  for i = 2, #e do args[#args + 1] = type(e[i]) == "table" and "{" .. table.concat(e[i], ",") .. "}" or tostring(e[i]) end
  local of = {}
  for i, item in ipairs(e.many and e.of or { e.of }) do of[i] = expression(item) end
  return ("%s(%s)"):format(e[1], table.concat(args, ",")) .. (#of > 0 and "[" .. table.concat(of, " ") .. "]" or "")
end

---"to = expression shape dtype" of each result, then "tied", "dropped", "passed" and so on where there are any.
function M.lines(plan, with_shapes)
  local out = {}
  for i, o in ipairs(plan.outputs) do
    out[i] = ("%s = %s"):format(o.to, expression(o.expr))
    if with_shapes then out[i] = ("%s %s %s"):format(out[i], table.concat(o.shape, "x"), o.dtype) end
    if o.tied_to then out[i] = out[i] .. " tied to " .. o.tied_to end
  end
  for _, item in ipairs(plan.dropped) do out[#out + 1] = ("dropped %s by %s"):format(item.from, item.rule) end
  return out
end

---A set of stages or of further fields, compiled; raises with its problems.
function M.compile(fields, options)
  if not fields.id then fields.id = "set" end
  local compiled, problems = rules.compile(fields, options)
  if compiled then return compiled end
  local texts = {}
  for i, problem in ipairs(problems) do texts[i] = rules.problem_text(problem) end
  error(table.concat(texts, "\n"), 2)
end

function M.texts(problems)
  local out = {}
  for i, problem in ipairs(problems) do out[i] = rules.problem_text(problem) end
  return out
end

---The plan of one stage of rules (or of a whole set) for sources in short; no problems are expected.
function M.plan(fields, sources, options)
  if fields[1] ~= nil or next(fields) == nil then fields = { stages = { fields } } end
  local plan = rules.plan(M.compile(fields), M.sources(sources), options)
  assert(#plan.problems == 0, table.concat(M.texts(plan.problems), "\n"))
  return plan
end

---The problems of the same, as texts.
function M.problems(fields, sources, options)
  if fields[1] ~= nil then fields = { stages = { fields } } end
  return M.texts(rules.plan(M.compile(fields), M.sources(sources), options).problems)
end

---The problems of a set that does not compile.
function M.mistakes(fields, options)
  if fields[1] ~= nil then fields = { stages = { fields } } end
  fields.id = fields.id or "set"
  local compiled, problems = rules.compile(fields, options)
  assert(not compiled, "the set has no mistake")
  return M.texts(problems)
end

return M
