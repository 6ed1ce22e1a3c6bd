-- torchvision_vgg16_to_keras.lua: torchvision's VGG16 (without batch norm), as keras.applications.VGG16.
--
-- Source: torchvision/models/vgg.py; keras/src/applications/vgg16.py. torch flattens channel by channel, Keras pixel
-- by pixel, so the rows of fc1 are put in another order, too.
return {
  id = "torchvision_vgg16_to_keras", version = 1, from = "torchvision", to = "keras",
  detect = { keys = { "features.0.weight", "features.28.weight", "classifier.6.bias" }, nkeys = 32,
    shapes = { ["classifier.0.weight"] = { 0, 0 } } },
  exact = true,
  lookup = {
    conv = { [0] = "block1_conv1", [2] = "block1_conv2", [5] = "block2_conv1", [7] = "block2_conv2",
      [10] = "block3_conv1", [12] = "block3_conv2", [14] = "block3_conv3", [17] = "block4_conv1",
      [19] = "block4_conv2", [21] = "block4_conv3", [24] = "block5_conv1",
      [26] = "block5_conv2", [28] = "block5_conv3" },
    dense = { [0] = "fc1", [3] = "fc2", [6] = "predictions" },
  },
  vars = { fc1 = { dim = { "classifier.0.weight", 0 } }, channels = { dim = { "features.28.weight", 0 } } },
  stages = { {
    { "features.{i}.weight", to = "{conv[i]}.kernel", op = { "permute", { 2, 3, 1, 0 } } },
    { "features.{i}.bias", to = "{conv[i]}.bias" },
    { "classifier.0.weight", to = "fc1.kernel",
      op = { { "reshape", { "fc1", "channels", 7, 7 } }, { "permute", { 2, 3, 1, 0 } },
        { "reshape", { -1, "fc1" } } } },
    { "classifier.{i}.weight", to = "{dense[i]}.kernel", op = { "transpose", 0, 1 } },
    { "classifier.{i}.bias", to = "{dense[i]}.bias" },
  } },
  expect = { n_out = 32, fired = "all" },
}
