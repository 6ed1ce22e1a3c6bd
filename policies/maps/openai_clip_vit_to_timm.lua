-- openai_clip_vit_to_timm.lua: the image tower of an OpenAI CLIP with a ViT (B/32, B/16, L/14), as timm's
-- VisionTransformer.
--
-- Source: clip/model.py; the conversion in timm/models/vision_transformer.py. The text tower has no place there. The
-- projection is a matrix on the right of the features there, a linear layer without bias here, so timm's head has a
-- bias of zeros.
local block = "visual.transformer.resblocks.{i}."

return {
  id = "openai_clip_vit_to_timm", version = 1, from = "openai_clip", to = "timm",
  detect = { keys = { "visual.class_embedding", "visual.proj", block .. "attn.in_proj_weight" } },
  exact = true,
  vars = { classes = { dim = { "visual.proj", 1 } } },
  stages = { {
    { "visual.conv1.weight", to = "patch_embed.proj.weight" },
    { "visual.class_embedding", to = "cls_token", op = { { "unsqueeze", 0 }, { "unsqueeze", 0 } } },
    { "visual.positional_embedding", to = "pos_embed", op = { "unsqueeze", 0 } },
    { "visual.ln_pre.{s}", to = "norm_pre.{s}" }, { "visual.ln_post.{s}", to = "norm.{s}" },
    { block .. "ln_{j}.{s}", to = "blocks.{i}.norm{j}.{s}" },
    { block .. "attn.in_proj_{s}", to = "blocks.{i}.attn.qkv.{s}" },
    { block .. "attn.out_proj.{s}", to = "blocks.{i}.attn.proj.{s}" },
    { block .. "mlp.c_fc.{s}", to = "blocks.{i}.mlp.fc1.{s}" },
    { block .. "mlp.c_proj.{s}", to = "blocks.{i}.mlp.fc2.{s}" },
    { "visual.proj", to = "head.weight", op = { "transpose", 0, 1 } },
    { make = "head.bias", op = { "zeros", { "classes" } } },
    { "transformer.{*}", drop = true, optional = true }, { "token_embedding.weight", drop = true, optional = true },
    { "positional_embedding", drop = true, optional = true }, { "ln_final.{s}", drop = true, optional = true },
    { "text_projection", drop = true, optional = true }, { "logit_scale", drop = true, optional = true },
    { "input_resolution", drop = true, optional = true }, { "context_length", drop = true, optional = true },
    { "vocab_size", drop = true, optional = true },
  } },
  expect = { fired = "all" },
}
