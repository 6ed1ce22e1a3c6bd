-- vgg16_reducedfc.lua: the Caffe VGG16 with reduced fully connected layers, as Pet's backbone names it.
--
-- `table` lists every key of such a file, in the file's order; a key that it does not list is not from such a file.
-- Numbers are positions in Caffe's sequential model, so pooling and ReLU leave gaps.
return {
  id = "vgg16_reducedfc",
  from = "caffe",
  to = "pet",
  detect = { keys = { "0.weight", "31.weight", "33.weight" } },
  first_conv = "features1.0.weight",
  table = {
    { "0.weight", "features1.0.weight" }, { "0.bias", "features1.0.bias" },
    { "2.weight", "features1.2.weight" }, { "2.bias", "features1.2.bias" },
    { "5.weight", "features1.5.weight" }, { "5.bias", "features1.5.bias" },
    { "7.weight", "features1.7.weight" }, { "7.bias", "features1.7.bias" },
    { "10.weight", "features1.10.weight" }, { "10.bias", "features1.10.bias" },
    { "12.weight", "features1.12.weight" }, { "12.bias", "features1.12.bias" },
    { "14.weight", "features1.14.weight" }, { "14.bias", "features1.14.bias" },
    { "17.weight", "features1.17.weight" }, { "17.bias", "features1.17.bias" },
    { "19.weight", "features1.19.weight" }, { "19.bias", "features1.19.bias" },
    { "21.weight", "features1.21.weight" }, { "21.bias", "features1.21.bias" },
    { "24.weight", "features2.1.weight" }, { "24.bias", "features2.1.bias" },
    { "26.weight", "features2.3.weight" }, { "26.bias", "features2.3.bias" },
    { "28.weight", "features2.5.weight" }, { "28.bias", "features2.5.bias" },
    { "31.weight", "conv6.weight" }, { "31.bias", "conv6.bias" },
    { "33.weight", "conv7.weight" }, { "33.bias", "conv7.bias" },
  },
}
