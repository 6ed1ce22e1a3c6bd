-- load_run.lua: a run that loads into real arrays: for specs of loads. `M.dir` is the spec's scratch directory.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local M = {}

function M.enter() M.dir = scratch.dir() end

function M.leave()
  scratch.remove(M.dir)
  gate()
end

function M.path(name) return M.dir .. "/" .. name end

local function numel(shape)
  local n = 1
  for _, size in ipairs(shape) do n = n * size end
  return n
end

---Elements start + 1, start + 2, ...
function M.filled(shape, start, dtype)
  local values = {}
  for i = 1, numel(shape) do values[i] = start + i end
  return assert(ckpt.tensor(dtype or "float32", shape, values))
end

---A state dict of { name, shape [, dtype] }; the i-th tensor begins behind start + 100 * i.
function M.state_dict(rows, start)
  local list = {}
  for i, row in ipairs(rows) do list[i] = { row[1], M.filled(row[2], (start or 0) + 100 * i, row[3]) } end
  return ckpt.ordered(list)
end

---Opens a run with these fields of `load` (Lua text) that pre-trains on w.pth; binds a model of { name, shape, dtype },
---the i-th tensor behind -1000 * i. Options: policy (its whole text), weights, auto_resume, set. Gives run and tensors.
function M.open(load, rows, options)
  options = options or {}
  scratch.write(M.path "policy.lua", options.policy or ("return { load = %s }"):format(load or "{}"))
  local run = assert(ckpt.checkpointer {
    dir = M.path "run", policy = M.path "policy.lua", weights = options.weights or M.path "w.pth",
    auto_resume = options.auto_resume or false, set = options.set,
  })
  local bound = {}
  for i, row in ipairs(rows) do
    bound[row[1]] = M.filled(row[2], -1000 * i, row[3])
    assert(run:bind("model", row[1], bound[row[1]]))
  end
  return run, bound
end

---The bytes of all tensors, to be compared.
function M.bytes_of(bound)
  local all = {}
  for name, tensor in pairs(bound) do all[name] = tensor:bytes() end
  return all
end

return M
