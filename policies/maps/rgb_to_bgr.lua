-- rgb_to_bgr.lua: a network trained on RGB images takes BGR ones, and the other way round: the input channels of its
-- first convolution in reverse.
--
-- Twice is as good as never, and no name or shape shows that it was done: the mark refuses the second time. The
-- first key that is there is the one: torchvision's and Pet's ResNets, detectron2's stem, Pet's VGG16, torchvision's
-- VGG, timm's ViT, CLIP's.
return {
  id = "rgb_to_bgr", version = 1, from = "RGB", to = "BGR",
  stages = { {
    { any = { "conv1.weight", "stem.conv1.weight", "backbone.bottom_up.stem.conv1.weight", "features1.0.weight",
        "features.0.weight", "patch_embed.proj.weight", "visual.conv1.weight" },
      required = true, op = { "index_select", 1, { 2, 1, 0 } } },
  } },
  mark = { input_channels = "reversed" },
}
