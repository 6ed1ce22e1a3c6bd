-- large_map.lua: what large.lua does to its state dict, as rules.
return { id = "large", exact = true, stages = { {
  { "layers.{i}.weight", to = "model.blocks.{i}.weight", op = { "permute", { 1, 0 } } },
  { "embed.weight", to = "model.embed.weight", op = { "permute", { 1, 0 } } },
} } }
