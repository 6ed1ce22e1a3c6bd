-- meta_llama_to_hf.lua: Meta's Llama 1 to 3 (consolidated, one shard), as Hugging Face's LlamaForCausalLM.
--
-- Source: llama/model.py; transformers/models/llama/convert_llama_weights_to_hf.py. Meta rotates neighbouring pairs
-- of a head, Hugging Face its two halves. Rows of wk belong to the fewer heads of keys: rope_split with a wrong
-- number of heads would give the right shape and wrong values, so it is told the size of a head too, from the
-- config, from rope.freqs where the file has it, or from wq; n_heads // n_kv instead of n_kv (llama.cpp#3364) is
-- refused. params.json (--config) or --var n_heads=N says how many heads there are; how many of keys, it may, but
-- the shapes must agree.
local layer, out = "layers.{i}.", "model.layers.{i}."

return {
  id = "meta_llama_to_hf", version = 1, from = "meta_llama", to = "hf_llama",
  detect = { keys = { "tok_embeddings.weight", layer .. "attention.wq.weight", layer .. "feed_forward.w3.weight" } },
  exact = true,
  vars = {
    rows = { dim = { layer .. "attention.wq.weight", 0 } },
    kv_rows = { dim = { layer .. "attention.wk.weight", 0 } },
    n_heads = { config = "n_heads" },
    freqs = { dim = { "rope.freqs", 0 }, default = "rows // n_heads // 2" },
    head_dim = { config = "head_dim", default = "2 * freqs" },
    n_kv = { config = "n_kv_heads", default = "kv_rows // head_dim" },
  },
  stages = { {
    { layer .. "attention.wq.weight", to = out .. "self_attn.q_proj.weight",
      op = { "rope_split", "n_heads", "head_dim" } },
    { layer .. "attention.wk.weight", to = out .. "self_attn.k_proj.weight",
      op = { "rope_split", "n_kv", "head_dim" } },
    { layer .. "attention.wv.weight", to = out .. "self_attn.v_proj.weight" },
    { layer .. "attention.wo.weight", to = out .. "self_attn.o_proj.weight" },
    { layer .. "feed_forward.w1.weight", to = out .. "mlp.gate_proj.weight" },
    { layer .. "feed_forward.w2.weight", to = out .. "mlp.down_proj.weight" },
    { layer .. "feed_forward.w3.weight", to = out .. "mlp.up_proj.weight" },
    { layer .. "attention_norm.weight", to = out .. "input_layernorm.weight" },
    { layer .. "ffn_norm.weight", to = out .. "post_attention_layernorm.weight" },
    { "tok_embeddings.weight", to = "model.embed_tokens.weight" },
    { "norm.weight", to = "model.norm.weight" },
    { "output.weight", to = "lm_head.weight" },
    { "rope.freqs", drop = true, optional = true },
  } },
  expect = { fired = "all" },
}
