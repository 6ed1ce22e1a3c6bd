-- over.lua: each save takes the name of the one before, the best has a file of its own; no ledger
local M = {}

function M.plan_save() return { file = "model_latest.pth", ledger = false } end

function M.plan_best(_, run)
  if run.metrics.acc < run.values.meta.best_acc then return { result = false, ledger = false } end
  return { file = "model_best.pth", result = true, ledger = false, set = { meta = { best_acc = run.metrics.acc } } }
end

return M
