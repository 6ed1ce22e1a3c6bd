-- vgg16_reducedfc_rules.lua: what vgg16_reducedfc.lua does with thirty rows, as four rules. Asked for by name: the
-- table is the one that is found by its keys.
--
-- Numbers are positions in Caffe's sequential model; Pet cuts it in two after the fourth pooling, position 23.
local param = { one_of = { "weight", "bias" } }

return {
  id = "vgg16_reducedfc_rules", version = 1, from = "caffe", to = "pet",
  first_conv = "features1.0.weight",
  exact = true,
  stages = { {
    { "{i}.{s}", to = "features1.{i}.{s}",
      when = { i = { one_of = { 0, 2, 5, 7, 10, 12, 14, 17, 19, 21 } }, s = param } },
    { "{i}.{s}", to = "features2.{i-23}.{s}", when = { i = { one_of = { 24, 26, 28 } }, s = param } },
    { "31.{s}", to = "conv6.{s}", when = { s = param } },
    { "33.{s}", to = "conv7.{s}", when = { s = param } },
  } },
  expect = { n_out = 30, fired = "all" },
}
