-- dinov2_reg_to_timm.lua: Meta's DINOv2 with four register tokens, as timm's VisionTransformer with
-- `no_embed_class`.
--
-- Source: as dinov2_to_timm. timm adds no position to the class token, so its position is added beforehand: the sum
-- cannot be taken apart again.
return {
  id = "dinov2_reg_to_timm", version = 1, from = "dinov2", to = "timm",
  include = { "dinov2_to_timm" },
  detect = { keys = { "cls_token", "mask_token", "pos_embed", "blocks.0.ls1.gamma", "register_tokens" } },
  stages = { {
    { gather = { cls = "cls_token", pos = "pos_embed" }, lossy = true,
      emit = {
        ["cls_token"] = { "add", of = { "cls", { "slice", 1, 0, 1, of = "pos" } } },
        ["pos_embed"] = { "slice", 1, 1, of = "pos" },
      } },
    { "register_tokens", to = "reg_token" },
  } },
  expect = { fired = "all" },
}
