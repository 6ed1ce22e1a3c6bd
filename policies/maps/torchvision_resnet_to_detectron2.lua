-- torchvision_resnet_to_detectron2.lua: ResNet-18 to -152 of torchvision, as detectron2 names its backbone (below
-- `backbone.bottom_up.`, which suffix alignment finds).
--
-- Source: torchvision/models/resnet.py; detectron2/modeling/backbone/resnet.py. The classifier has no place there.
-- The network still takes RGB images (INPUT.FORMAT "RGB", pixel statistics of torchvision), or comes through
-- rgb_to_bgr as well.
return {
  id = "torchvision_resnet_to_detectron2", version = 1, from = "torchvision", to = "detectron2",
  detect = { keys = { "conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer4.1.bn2.weight" } },
  exact = true,
  stages = { {
    { "layer{i}.{j}.downsample.0.{s}", to = "res{i+1}.{j}.shortcut.{s}" },
    { "layer{i}.{j}.downsample.1.{s}", to = "res{i+1}.{j}.shortcut.norm.{s}" },
    { "layer{i}.{j}.bn{k}.{s}",        to = "res{i+1}.{j}.conv{k}.norm.{s}" },
    { "layer{i}.{j}.conv{k}.weight",   to = "res{i+1}.{j}.conv{k}.weight" },
    { "bn1.{s}", to = "stem.conv1.norm.{s}" },
    { "conv1.weight", to = "stem.conv1.weight" },
    { "fc.{s}", drop = true, optional = true },
  } },
  expect = { fired = "all" },
}
