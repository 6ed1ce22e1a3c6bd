-- maps_inverse.lua SET ORIGINAL RESULT OUT [config=N...]: undoes the plan that SET makes for ORIGINAL, on RESULT.
-- `ckpt run` it.
local ckpt = require "ckpt"
local rules = require "policies.rules"
local name, original, result, out = table.unpack(arg, 1, 4)
local config = {}
for i = 5, #arg do
  local key, value = arg[i]:match("^([^=]+)=(%d+)$")
  config[key] = math.tointeger(tonumber(value))
end

local compiled = assert(rules.compile(require("policies.maps." .. name)))
local sources = {}
for key, tensor in pairs(assert(assert(ckpt.open(original)):state_dict(""))) do
  sources[#sources + 1] = { name = key, shape = tensor.shape, dtype = tensor.dtype }
end
local plan = rules.plan(compiled, sources, { config = config })
assert(#plan.problems == 0, plan.problems[1] and rules.problem_text(plan.problems[1]))
local inverse = rules.undo(compiled, plan, sources)

local mapped = assert(assert(ckpt.open(result)):state_dict(""))
local rows = {}
for i, output in ipairs(inverse.outputs) do
  local tensor = type(output.expr) == "string" and mapped[output.expr] or assert(ckpt.apply(output.expr, mapped))
  rows[i] = { output.to, tensor }
end
assert(ckpt.save(out, ckpt.items(rows)))
