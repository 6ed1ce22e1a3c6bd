-- hf_llama_to_meta.lua: Hugging Face's LlamaForCausalLM as Meta's Llama; the other way is meta_llama_to_hf, which
-- says why the rows of q and k move and what is checked.
--
-- config.json (--config) or --var n_heads=N says how many heads there are. A model that ties its embeddings has no
-- lm_head in the file; Meta's always has output.weight.
local layer, out = "model.layers.{i}.", "layers.{i}."

return {
  id = "hf_llama_to_meta", version = 1, from = "hf_llama", to = "meta_llama",
  detect = {
    keys = { "model.embed_tokens.weight", layer .. "self_attn.q_proj.weight", layer .. "mlp.gate_proj.weight" },
  },
  exact = true,
  vars = {
    rows = { dim = { layer .. "self_attn.q_proj.weight", 0 } },
    kv_rows = { dim = { layer .. "self_attn.k_proj.weight", 0 } },
    n_heads = { config = "num_attention_heads" },
    freqs = { dim = { layer .. "self_attn.rotary_emb.inv_freq", 0 }, default = "rows // n_heads // 2" },
    head_dim = { config = "head_dim", default = "2 * freqs" },
    n_kv = { config = "num_key_value_heads", default = "kv_rows // head_dim" },
  },
  stages = { {
    { layer .. "self_attn.q_proj.weight", to = out .. "attention.wq.weight",
      op = { "rope_merge", "n_heads", "head_dim" } },
    { layer .. "self_attn.k_proj.weight", to = out .. "attention.wk.weight",
      op = { "rope_merge", "n_kv", "head_dim" } },
    { layer .. "self_attn.v_proj.weight", to = out .. "attention.wv.weight" },
    { layer .. "self_attn.o_proj.weight", to = out .. "attention.wo.weight" },
    { layer .. "mlp.gate_proj.weight", to = out .. "feed_forward.w1.weight" },
    { layer .. "mlp.down_proj.weight", to = out .. "feed_forward.w2.weight" },
    { layer .. "mlp.up_proj.weight", to = out .. "feed_forward.w3.weight" },
    { layer .. "input_layernorm.weight", to = out .. "attention_norm.weight" },
    { layer .. "post_attention_layernorm.weight", to = out .. "ffn_norm.weight" },
    { "model.embed_tokens.weight", to = "tok_embeddings.weight" },
    { "model.norm.weight", to = "norm.weight" },
    { "lm_head.weight", to = "output.weight" },
    { layer .. "self_attn.rotary_emb.inv_freq", drop = true, optional = true },
  } },
  expect = { fired = "all" },
}
