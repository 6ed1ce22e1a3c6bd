-- beit3_to_timm.lua: the image branch (A) of a BEiT-3, as timm's VisionTransformer with norms inside attention and
-- MLP.
--
-- Source: unilm/beit3 and torchscale's multiway layers; the conversion in timm/models/vision_transformer.py. Branch
-- B and the embeddings of words go. torchscale's learnt positions begin at row 2.
local layer = "beit3.encoder.layers.{i}."

return {
  id = "beit3_to_timm", version = 1, from = "beit3", to = "timm",
  detect = { keys = { "beit3.vision_embed.proj.weight", layer .. "self_attn.q_proj.A.weight" } },
  exact = true,
  stages = { {
    { "beit3.encoder.{*}.B.{*}", drop = true },
    { "beit3.text_embed.weight", drop = true, optional = true },
    { "beit3.vision_embed.mask_token", drop = true, optional = true },
    { "beit3.vision_embed.cls_token", to = "cls_token" },
    { "beit3.vision_embed.proj.{s}", to = "patch_embed.proj.{s}" },
    { "beit3.encoder.embed_positions.A.weight", to = "pos_embed", op = { { "slice", 0, 2 }, { "unsqueeze", 0 } } },
    { gather = { q = layer .. "self_attn.q_proj.A.{s}", k = layer .. "self_attn.k_proj.A.{s}",
        v = layer .. "self_attn.v_proj.A.{s}" }, order = { "q", "k", "v" },
      to = "blocks.{i}.attn.qkv.{s}", op = { "cat", 0 } },
    { layer .. "self_attn.out_proj.A.{s}", to = "blocks.{i}.attn.proj.{s}" },
    { layer .. "self_attn.inner_attn_ln.A.{s}", to = "blocks.{i}.attn.norm.{s}" },
    { layer .. "self_attn_layer_norm.A.{s}", to = "blocks.{i}.norm1.{s}" },
    { layer .. "final_layer_norm.A.{s}", to = "blocks.{i}.norm2.{s}" },
    { layer .. "ffn.A.fc{j}.{s}", to = "blocks.{i}.mlp.fc{j}.{s}" },
    { layer .. "ffn.A.ffn_layernorm.{s}", to = "blocks.{i}.mlp.norm.{s}" },
    { "beit3.encoder.layer_norm.A.{s}", to = "norm.{s}", optional = true },
    { "fc_norm.{s}", keep = true, optional = true }, { "head.{s}", keep = true, optional = true },
  } },
  expect = { fired = "all" },
}
