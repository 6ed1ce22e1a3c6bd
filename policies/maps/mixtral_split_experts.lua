-- mixtral_split_experts.lua: Mixtral with one tensor for all experts (transformers 5), as a tensor for each of the
-- eight (4); the other way is mixtral_merge_experts.
--
-- The rows of gate_up_proj, expert by expert, are those of w1 and then of w3: laid flat and cut into sixteen, they
-- are them.
local function experts(...)
  local names = {}
  for e = 0, 7 do
    for _, w in ipairs { ... } do names[#names + 1] = ("{1}.block_sparse_moe.experts.%d.%s.weight"):format(e, w) end
  end
  return names
end

return {
  id = "mixtral_split_experts", version = 1, from = "mixtral_merged", to = "mixtral_per_expert",
  detect = { keys = { "{*}.mlp.experts.gate_up_proj", "{*}.mlp.experts.down_proj", "{*}.mlp.gate.weight" },
    shapes = { ["{*}.mlp.experts.gate_up_proj"] = { 8, 0, 0 } } },
  vars = {
    hidden = { dim = { "{*}.mlp.experts.down_proj", 1 } }, inner = { dim = { "{*}.mlp.experts.down_proj", 2 } },
  },
  stages = { {
    { "{*}.mlp.experts.gate_up_proj", to = experts("w1", "w3"),
      op = { { "reshape", { "16 * inner", "hidden" } }, { "chunk", 0, 16 } } },
    { "{*}.mlp.experts.down_proj", to = experts("w2"),
      op = { { "reshape", { "8 * hidden", "inner" } }, { "chunk", 0, 8 } } },
    { "{*}.mlp.gate.weight", to = "{1}.block_sparse_moe.gate.weight" },
  } },
  expect = { fired = "all" },
}
