-- torch_to_keras.lua: PyTorch's layouts and names of convolution, dense, embedding and normalization, as Keras has
-- them; the layers keep their names. By name.
--
-- Source: torch/nn/modules; keras/src/layers. A convolution has its channels last (HWIO), a dense layer its input in
-- rows. What is an embedding, and whose bias is a shift, only names can tell: those with `embed`, those called bn,
-- norm, downsample.1. Not for transposed or depthwise convolutions, nor for a dense layer after a flatten (see
-- torchvision_vgg16_to_keras).
return {
  id = "torch_to_keras", version = 1, from = "torch", to = "keras",
  stages = { {
    { "{*}.num_batches_tracked", drop = true, optional = true },
    { "{*}.running_mean", to = "{1}.moving_mean", optional = true },
    { "{*}.running_var", to = "{1}.moving_variance", optional = true },
    { "{*}.weight", to = "{1}.gamma", when = { ndim = 1 }, optional = true },
    { "lua:^(.*bn%d*)%.bias$", to = "{1}.beta", optional = true },
    { "lua:^(.*norm%d*)%.bias$", to = "{1}.beta", optional = true },
    { "{*}.downsample.1.bias", to = "{1}.downsample.1.beta", optional = true },
    { "lua:^(.*embed[^.]*)%.weight$", to = "{1}.embeddings", optional = true },
    { "{*}.weight", to = "{1}.kernel", op = { "transpose", 0, 1 }, when = { ndim = 2 }, optional = true },
    { "{*}.weight", to = "{1}.kernel", op = { "permute", { 2, 1, 0 } }, when = { ndim = 3 }, optional = true },
    { "{*}.weight", to = "{1}.kernel", op = { "permute", { 2, 3, 1, 0 } }, when = { ndim = 4 }, optional = true },
  } },
  expect = { forbid = { "{*}.weight" } },
}
