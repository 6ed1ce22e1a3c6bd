-- dinov2_to_timm.lua: Meta's DINOv2 ViT (S, B, L/14 and g/14 with SwiGLU) without registers, as timm's
-- VisionTransformer.
--
-- Source: dinov2/models/vision_transformer.py; the conversion in timm/models/vision_transformer.py. Other names are
-- the same.
return {
  id = "dinov2_to_timm", version = 1, from = "dinov2", to = "timm",
  detect = { keys = { "cls_token", "mask_token", "pos_embed", "blocks.0.ls1.gamma" }, none = { "register_tokens" } },
  vars = { -- a gated MLP's first matrix has two halves, under either name: so that the way back knows it, too
    up = { dim = { "lua:^blocks%.0%.mlp%.[wf]c?1%d?%.weight$", 0 } },
    down = { dim = { "lua:^blocks%.0%.mlp%.[wf]c?[23]%.weight$", 1 } },
    halves = "up // down",
  },
  stages = { {
    { id = "mask", "mask_token", drop = true },
    { id = "gated", "blocks.{i}.mlp.w12.{s}", to = "blocks.{i}.mlp.fc1.{s}", when = { var = { halves = 2 } },
      optional = true },
    { id = "down", "blocks.{i}.mlp.w3.{s}", to = "blocks.{i}.mlp.fc2.{s}", when = { var = { halves = 2 } },
      optional = true },
  } },
  expect = { fired = "all" },
}
