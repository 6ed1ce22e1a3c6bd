-- weight_norm_to_parametrizations.lua: torch.nn.utils.weight_norm's tensors, as
-- torch.nn.utils.parametrizations.weight_norm's.
--
-- Source: torch/nn/utils/weight_norm.py, torch/nn/utils/parametrizations.py (PyTorch 2.0). original0 is the
-- magnitude.
return {
  id = "weight_norm_to_parametrizations", version = 1, from = "weight_norm", to = "parametrizations",
  detect = { keys = { "{*}.weight_g", "{*}.weight_v" } },
  stages = { {
    { "{*}.weight_g", to = "{1}.parametrizations.weight.original0" },
    { "{*}.weight_v", to = "{1}.parametrizations.weight.original1" },
  } },
  expect = { fired = "all" },
}
