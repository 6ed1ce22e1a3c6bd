-- phi3_to_llama.lua: Hugging Face's Phi-3 with its fused projections taken apart, as Hugging Face's Llama names
-- them.
--
-- Source: transformers/models/phi3/modeling_phi3.py. The rows of qkv_proj are those of q, then k, then v; with
-- grouped-query heads k and v have fewer. o_proj tells how many q has; k and v share the rest evenly, so no config
-- is needed.
local attention, mlp = "model.layers.{i}.self_attn.", "model.layers.{i}.mlp."

return {
  id = "phi3_to_llama", version = 1, from = "hf_phi3", to = "hf_llama",
  detect = { keys = { attention .. "qkv_proj.weight", mlp .. "gate_up_proj.weight" } },
  vars = {
    rows = { dim = { attention .. "qkv_proj.weight", 0 } },
    q_rows = { dim = { attention .. "o_proj.weight", 1 } },
    kv_rows = "(rows - q_rows) // 2",
  },
  stages = { {
    { attention .. "qkv_proj.weight", op = { "split", 0, { "q_rows", "kv_rows", "kv_rows" } },
      to = { attention .. "q_proj.weight", attention .. "k_proj.weight", attention .. "v_proj.weight" } },
    { mlp .. "gate_up_proj.weight", op = { "chunk", 0, 2 },
      to = { mlp .. "gate_proj.weight", mlp .. "up_proj.weight" } },
  } },
  expect = { fired = "all" },
}
