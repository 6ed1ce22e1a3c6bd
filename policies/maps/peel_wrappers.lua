-- peel_wrappers.lua: prefixes that DistributedDataParallel, torch.compile and DeepSpeed put before every name go, in
-- any nesting. By name; a key without them stays, and two keys that would become one are an error.
return {
  id = "peel_wrappers", version = 1, from = "wrapped", to = "plain",
  peel = { "module.", "_orig_mod.", "_forward_module.", mode = "each" },
}
