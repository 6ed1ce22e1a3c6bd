-- rules_sandbox_spec.lua: the engine in a policy's closed environment: it plans there as in scripts, and a hostile rule set
-- costs no more than the policy's budget.
local ckpt = require "ckpt"
local scratch = require "support.scratch"

describe("a policy with rules", function()
  local dir

  before_each(function() dir = scratch.dir() end)
  after_each(function()
    scratch.remove(dir)
    require("support.gate")()
  end)

  -- The refusal of a policy whose plan_load runs `body` with `rules` and `source`.
  local function ask(body, steps)
    scratch.write(dir .. "/p.lua", ([[
local rules = require "policies.rules"
local policy = require "policies.default"()
function policy.plan_load(_, run, source)
  local sources = {}
  for name, t in pairs(source.state_dict "") do
    sources[#sources + 1] = { name = name, shape = t.shape, dtype = t.dtype }
  end
  local function work() %s end
  return { assign = {}, refuse = "said " .. tostring(work()), log = {} }
end
return policy]]):format(body))
    assert(ckpt.save(dir .. "/w.pth", { ["conv1.weight"] = ckpt.tensor("float32", { 2, 3 }) }))
    local run <close> = assert(ckpt.checkpointer { dir = dir .. "/run", policy = dir .. "/p.lua", weights = dir .. "/w.pth",
                                                   policy_load_steps = steps })
    assert(run:bind("model", "c.weight", ckpt.tensor("float32", { 3, 2 })))
    local report, message = run:load()
    assert.is_nil(report)
    return message
  end

  it("plans", function()
    assert.matches("said c.weight transpose(0, 1) 3x2", ask [[
      local compiled = rules.compile { id = "s", stages = { { { "conv{i}.weight", to = "c.weight", op = { "transpose", 0, 1 } } } } }
      local o = rules.plan(compiled, sources, { target = sources }).outputs[1]
      return o.to .. " " .. o.ops .. " " .. table.concat(o.shape, "x")]], 1, true)
  end)

  it("infers", function()
    assert.matches("said 3 float32", ask [[
      local shape, dtype = ckpt.infer({ "sum", 0, of = "x" }, { x = { shape = { 2, 3 }, dtype = "float32" } })
      return shape[2] .. " " .. dtype]], 1, true)
    assert.matches("said nil", ask "return ckpt.apply", 1, true)
  end)

  it("is stopped where it costs too much", function()
    local steps = 20000000
    assert.matches("stopped", ask([[
      local e = "x"
      for i = 1, 15 do e = { "add", of = { e, e } } end
      for i = 1, 1e9 do ckpt.infer(e, { x = { shape = { 2 }, dtype = "float32" } }) end]], steps), 1, true)
    assert.matches("stopped", ask([[
      local compiled = rules.compile { id = "s", stages = { { { "{x:*}{y:*}{x:*}{y:*}{x:*}!" } } } }
      local list = {}
      for i = 1, 200 do list[i] = { name = ("ab"):rep(300) .. i .. "!x" } end
      rules.plan(compiled, list)]], steps), 1, true)
  end)
end)
