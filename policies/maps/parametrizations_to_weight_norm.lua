-- parametrizations_to_weight_norm.lua: the other way of weight_norm_to_parametrizations, which names its source.
return {
  id = "parametrizations_to_weight_norm", version = 1, from = "parametrizations", to = "weight_norm",
  detect = { keys = { "{*}.parametrizations.weight.original0", "{*}.parametrizations.weight.original1" } },
  stages = { {
    { "{*}.parametrizations.weight.original0", to = "{1}.weight_g" },
    { "{*}.parametrizations.weight.original1", to = "{1}.weight_v" },
  } },
  expect = { fired = "all" },
}
