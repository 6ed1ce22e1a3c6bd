-- mixtral_merge_experts.lua: Mixtral with a tensor for each expert (transformers 4), as one tensor for all of them
-- (5).
--
-- Source: the layouts of transformers/models/mixtral/modeling_mixtral.py before and after. Experts are ordered by
-- number, so the tenth comes after the ninth.
local moe, out = "{*}.block_sparse_moe.", "{1}.mlp."

return {
  id = "mixtral_merge_experts", version = 1, from = "mixtral_per_expert", to = "mixtral_merged",
  detect = { keys = { moe .. "gate.weight", moe .. "experts.{e}.w1.weight" } },
  stages = { {
    { gather = { gate = moe .. "experts.{e}.w1.weight", up = moe .. "experts.{e}.w3.weight" }, order = { "gate", "up" },
      over = "e", op = { { "stack", 0 }, { "cat", 1 } }, to = out .. "experts.gate_up_proj" },
    { gather = { down = moe .. "experts.{e}.w2.weight" }, order = { "down" },
      over = "e", op = { { "stack", 0 } }, to = out .. "experts.down_proj" },
    { moe .. "gate.weight", to = out .. "gate.weight" },
  } },
  expect = { fired = "all" },
}
