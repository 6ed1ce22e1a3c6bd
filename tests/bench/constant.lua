-- constant.lua: a policy that decides nothing, so that what a call costs is the runtime's own.
return {
  plan_save = function(_, run)
    return { file = "model_epoch" .. run.epoch .. ".pth", aliases = { "model_latest.pth" } }
  end,
}
