-- rules_plan.lua: a policy whose call is a plan of 50 mapping rules for 20,000 keys, in the sandbox as a load has it.
local rules = require "policies.rules"

local KINDS = { "attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.o_proj", "mlp.gate", "mlp.up", "mlp.down", "norm1",
                "norm2", "gate" }

local function rule_set()
  local stage = {}
  for i = 1, 40 do
    stage[i] = { ("other.{i}.x%d.{s}"):format(i), to = ("y.{i}.%d.{s}"):format(i), optional = true }
  end
  for _, kind in ipairs(KINDS) do
    stage[#stage + 1] = { "model.layers.{i}." .. kind .. ".weight", to = "blocks.{i+1}." .. kind .. ".w" }
  end
  return { id = "bench", stages = { stage } }
end

local function sources_of(layers)
  local list = {}
  for layer = 0, layers - 1 do
    for _, kind in ipairs(KINDS) do
      local name = ("model.layers.%d.%s.weight"):format(layer, kind)
      list[#list + 1] = { name = name, shape = { 128, 128 }, dtype = "float32" }
    end
  end
  return list
end

local compiled, sources = assert(rules.compile(rule_set())), sources_of(2000)

return {
  plan_save = function(_, run)
    local plan = rules.plan(compiled, sources)
    assert(#plan.outputs == 20000 and #plan.problems == 0)
    return { file = "model_epoch" .. run.epoch .. ".pth" }
  end,
}
