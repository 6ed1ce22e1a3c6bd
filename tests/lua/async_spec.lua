-- async_spec.lua: saves beside the training, from Lua: what was bound at the call is saved, and a failure comes later.
local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

describe("saves in a thread", function()
  local dir
  before_each(function() dir = scratch.dir() end)
  after_each(function()
    scratch.remove(dir)
    gate()
  end)

  local function tensor(n) return ckpt.tensor("float32", { 4 }, { n, n + 1, n + 2, n + 3 }) end

  local function open(path, policy)
    local run = assert(ckpt.checkpointer { dir = path, policy = policy })
    local w = tensor(1)
    assert(run:bind("model", "w", w))
    return run, w
  end

  local function first_number(path)
    local cp <close> = assert(ckpt.open(path, { verify = true }))
    return cp:state_dict("model").w:get(1)
  end

  it("save what was bound when they were asked for", function()
    local run <close>, w = open(dir)
    assert.is_true(run:save_async(1))
    w:fill(99)
    assert.is_true(run:wait())
    assert.equal(1.0, first_number(dir .. "/model_epoch1.pth"))
    assert.equal(1.0, first_number(dir .. "/model_latest.pth"))
  end)

  it("tell at once whether it is the best", function()
    local run <close>, w = open(dir)
    for epoch, acc in ipairs { 0.5, 0.4, 0.7 } do
      w:fill(epoch)
      run:set_metric("acc", acc)
      assert.is_true(run:save_async(epoch))
      assert.equal(acc ~= 0.4, run:save_best_async(epoch))
    end
    assert.is_true(run:wait())
    assert.equal(3.0, first_number(dir .. "/model_best.pth"))
  end)

  it("happen for a policy that says async = true, too", function()
    local policy = dir .. "/policy.lua"
    scratch.write(policy, "local p = require 'policies.default'()\np.async = true\nreturn p\n")
    local run <close>, w = open(dir .. "/run", policy)
    assert(run:save(1))
    w:fill(99)
    assert.is_true(run:wait())
    assert.equal(1.0, first_number(dir .. "/run/model_epoch1.pth"))
  end)

  it("tell of a failure with the next wait", function()
    local run <close> = open(dir)
    assert(os.execute(("mkdir '%s/model_latest.pth'"):format(dir)))
    assert.is_true(run:save_async(1))
    local ok, message, code = run:wait()
    assert.is_nil(ok)
    assert.matches("^the save of epoch 1 that was under way: ", message)
    assert.equal("io", code)
    assert.is_true(run:wait())
  end)
end)
