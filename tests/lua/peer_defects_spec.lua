-- peer_defects_spec.lua: what other checkpointers get wrong in saving, in what is the best, in what is kept and in what
-- is resumed, and that the default policy does not: through plans in plain Lua, and through a real checkpointer in a
-- real directory, restarted in the middle.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run"
local ckpt = require "ckpt"
local gate = require "support.gate"
local new_policy = require "policies.default"
local scratch = require "support.scratch"

local NAN, INF = 0 / 0, math.huge

local dir

local function path(name) return dir .. "/" .. name end

local function write_policy(fields)
  scratch.write(path "policy.lua", "return { " .. fields .. " }\n")
  return path "policy.lua"
end

-- A run with one tensor of four numbers, whose first is the epoch of the save.
local function open(where, policy)
  local cp = assert(ckpt.checkpointer { dir = path(where), policy = policy or "default" })
  local tensor = ckpt.tensor("float32", { 4 })
  assert(cp:bind("model", "w", tensor))
  return cp, tensor
end

local function save(cp, tensor, epoch, metrics)
  tensor:fill(epoch)
  for name, value in pairs(metrics) do cp:set_metric(name, value) end
  assert(cp:save(epoch))
  local improved, message = cp:save_best(epoch)
  assert(improved ~= nil, message)
  return improved
end

-- Plays values of acc in a real directory, closing and opening the run at `restart`. Returns what save_best said.
local function play_real(policy, values, restart)
  local cp, tensor = open("run", policy)
  local results = {}
  for epoch, value in ipairs(values) do
    if epoch == restart then
      cp:close()
      cp, tensor = open("run", policy)
    end
    results[epoch] = save(cp, tensor, epoch, { acc = value })
  end
  cp:close()
  return results
end

local function play_fake(fields, values)
  local policy, run, results = new_policy(), fake.run {}, {}
  for key, value in pairs(fields) do policy[key] = value end
  for epoch, value in ipairs(values) do
    local _, plan = fake.epoch(policy, run, epoch, { acc = value })
    results[epoch] = plan.result
  end
  return run, results
end

-- The epoch whose weights a file holds.
local function epoch_in(name)
  local cp <close> = assert(ckpt.open(path(name), { verify = true }))
  return math.tointeger(cp:at("model.w"):get(1))
end

local function epochs_left()
  local list = {}
  for _, name in ipairs(scratch.names(path "run")) do
    local epoch = name:match "^model_epoch(%d+)%.pth$"
    if epoch then list[#list + 1] = epoch end
  end
  return table.concat(list, " ")
end

before_each(function() dir = scratch.dir() end)
after_each(function()
  scratch.remove(dir)
  gate()
end)

describe("the sequence .5 .6 .6 NaN .4 .7 (Pet, ignite, HF, Orbax, timm: NaN removes or becomes the best)", function()
  local MAX = { 0.5, 0.6, 0.6, NAN, 0.4, 0.7 }
  local MIN = { 0.5, 0.4, 0.4, NAN, 0.6, 0.3 }
  local cases = {
    { "max, the last of equals", "", {}, MAX, { true, true, true, false, false, true } },
    { "max, the first of equals", "tie = 'first'", { tie = "first" }, MAX, { true, true, false, false, false, true } },
    { "min, the last of equals", "mode = 'min'", { mode = "min" }, MIN, { true, true, true, false, false, true } },
    { "min, the first of equals", "mode = 'min', tie = 'first'", { mode = "min", tie = "first" }, MIN,
      { true, true, false, false, false, true } },
  }
  for _, case in ipairs(cases) do
    for restart = 0, 6 do
      it(("%s, %s"):format(case[1], restart == 0 and "at one go" or "restarted before epoch " .. restart), function()
        local policy = write_policy(("best = { %s }, keep = { last = 1, best = 1 }"):format(case[2]))
        assert.same(case[5], play_real(policy, case[4], restart))
        assert.equal("6", epochs_left())
        assert.equal(6, epoch_in "run/model_best.pth")
        assert.equal(6, epoch_in "run/model_latest.pth")
        local _, results = play_fake({ best = case[3], keep = { last = 1, best = 1 } }, case[4])
        assert.same(case[5], results)
      end)
    end

    it(case[1] .. ", cut after each value: the best is there, and nothing is called nan", function()
      local best_epoch
      for n = 1, 6 do
        local policy = write_policy(("best = { %s }, keep = { last = 1, best = 1 }"):format(case[2]))
        play_real(policy, { table.unpack(case[4], 1, n) })
        best_epoch = case[5][n] and n or best_epoch
        assert.equal(best_epoch, epoch_in "run/model_best.pth")
        assert.equal(best_epoch, epoch_in(("run/model_epoch%d.pth"):format(best_epoch)))
        assert.equal(n, epoch_in "run/model_latest.pth")
        for _, name in ipairs(scratch.names(path "run")) do assert.is_nil(name:find "nan") end
        assert(os.execute(("rm -r '%s'"):format(path "run")))
      end
    end)
  end

  it("begins with NaN and infinities: they are no best, and nothing is compared with them", function()
    local policy = write_policy "keep = { last = 1, best = 1 }"
    assert.same({ false, false, false, true, false }, play_real(policy, { NAN, INF, -INF, 0.1, NAN }, 4))
    assert.equal(4, epoch_in "run/model_best.pth")
    assert.equal("4 5", epochs_left())
  end)
end)

describe("a peer's defect in saving:", function()
  it("the old best is there until the new one is durable (Pet, mmengine, ignite, timm delete first)", function()
    local policy = write_policy "keep = { last = 1, best = 1 }"
    local cp <close>, tensor = open("run", policy)
    save(cp, tensor, 1, { acc = 0.5 })
    tensor:fill(2)
    cp:set_metric("acc", 0.9)
    assert(os.execute(("mkdir '%s'"):format(path "run/model_epoch2.pth"))) -- no file can have this name
    local ok, message = cp:save(2)
    assert.is_nil(ok)
    assert.matches("run/model_epoch2.pth: ", message, 1, true)
    assert.equal(1, epoch_in "run/model_best.pth")
    assert.equal(1, epoch_in "run/model_epoch1.pth")
    assert.equal(1, epoch_in "run/model_latest.pth")
    assert(os.remove(path "run/model_epoch2.pth"))
    save(cp, tensor, 2, { acc = 0.9 })
    assert.equal("2", epochs_left())
    assert.equal(2, epoch_in "run/model_best.pth")
  end)

  it("a file is named nowhere before it is there (Lightning announces best_model_path first)", function()
    local policy = write_policy "name = 'x/{epoch}.pth'" -- no name for a file: the plan is refused
    local cp <close>, tensor = open("run", policy)
    tensor:fill(1)
    cp:set_metric("acc", 0.5)
    assert(cp:save(1))
    local files, ledger = cp:files()
    local there = {}
    for _, file in ipairs(files) do there[file.name] = true end
    for _, entry in ipairs(ledger) do
      assert.is_true(there[entry.file])
      for _, alias in ipairs(entry.aliases) do assert.is_true(there[alias]) end
    end
    assert.equal(1, epoch_in "run/model_epoch1.pth")
  end)

  it("a save in the middle of an epoch overwrites none of the epoch's others", function()
    local policy = write_policy "keep = { last = 9 }"
    local cp <close>, tensor = open("run", policy)
    for step, acc in ipairs { 0.5, 0.9, 0.1 } do
      cp:set_step(step)
      tensor:fill(step)
      cp:set_metric("acc", acc)
      assert(cp:save(1))
      assert(cp:save_best(1) ~= nil)
    end
    assert.equal(2, epoch_in "run/model_best.pth")
    assert.equal(1, epoch_in "run/model_epoch1.pth")
    assert.equal(2, epoch_in "run/model_epoch1-s2.pth")
    assert.equal(3, epoch_in "run/model_epoch1-s3.pth")
  end)

  it("best and last are pools of their own (HF, Orbax conflate them)", function()
    play_real(write_policy "keep = { last = 2, best = 2 }", { 0.9, 0.8, 0.1, 0.2, 0.3 }, 4)
    assert.equal("1 2 4 5", epochs_left())
  end)

  it("a policy that fails costs no file, and removes none", function()
    local policy = write_policy "keep = { last = 1, pools = 3 }"
    local cp <close>, tensor = open("run", policy)
    for epoch = 1, 4 do save(cp, tensor, epoch, { acc = epoch }) end
    assert.equal("1 2 3 4", epochs_left())
    assert.matches("keep has no pool 'pools'", table.concat(cp:log(), "\n"), 1, true)
  end)
end)

describe("a peer's defect in resuming:", function()
  local function resumed(where)
    local cp <close>, tensor = open(where or "run")
    local report = assert(cp:load())
    return report.mode, report.path and report.path:match "[^/]+$", math.tointeger(tensor:get(1)), cp:next_epoch()
  end

  it("the newest is so by number, not by name (timm sorts names and takes the oldest)", function()
    local cp, tensor = open("run", write_policy "keep = false, latest = false, best_alias = false")
    for _, epoch in ipairs { 3, 4, 9, 10, 100 } do save(cp, tensor, epoch, { acc = 0 }) end
    cp:close()
    assert.same({ "resume", "model_epoch100.pth", 100, 101 }, { resumed() })
    os.remove(path "run/ckpt.jsonl") -- by the names alone
    assert.same({ "resume", "model_epoch100.pth", 100, 101 }, { resumed() })
    os.remove(path "run/model_epoch100.pth")
    assert.same({ "resume", "model_epoch10.pth", 10, 11 }, { resumed() })
  end)

  it("no pointer file is needed (mmengine trains from scratch, with one line in the log)", function()
    play_real(nil, { 0.1, 0.2, 0.3 })
    os.remove(path "run/model_latest.pth")
    assert.same({ "resume", "model_epoch3.pth", 3, 4 }, { resumed() })
  end)

  it("a newest file that is broken is not the end (HF, Pet stop), nor silent", function()
    play_real(nil, { 0.1, 0.2, 0.3 })
    for _, name in ipairs { "model_epoch3.pth" } do -- model_latest.pth is the same file
      local bytes = scratch.read(path("run/" .. name))
      local file <close> = io.open(path("run/" .. name), "r+b")
      file:seek("set", assert(bytes:find(("<f"):pack(3), 1, true)) - 1)
      file:write(("<f"):pack(7))
    end
    local cp <close>, tensor = open "run"
    local report = assert(cp:load())
    assert.equal("model_epoch2.pth", report.path:match "[^/]+$")
    assert.equal(2, tensor:get(1))
    assert.matches("warning: %S+/model_epoch3.pth: record '[^']+' %(byte %d+%): its CRC%-32", table.concat(cp:log(), "\n"))
  end)

  it("a run that was moved goes on: what it resumes, its best and its pools (Lightning, HF store absolute paths)", function()
    local policy = write_policy "keep = { last = 1, best = 1 }"
    play_real(policy, { 0.9, 0.1, 0.2 })
    assert(os.rename(path "run", path "elsewhere"))
    assert.same({ "resume", "model_epoch3.pth", 3, 4 }, { resumed "elsewhere" })
    local cp, tensor = open("elsewhere", policy)
    assert.is_false(save(cp, tensor, 4, { acc = 0.8 }))
    cp:close()
    assert(os.rename(path "elsewhere", path "run"))
    assert.equal("1 4", epochs_left())
    assert.equal(1, epoch_in "run/model_best.pth")
  end)
end)

describe("a run's triggers, in a real directory,", function()
  it("write when they are due, and best when it is better", function()
    local cp <close>, tensor = open("run", write_policy "when = { epochs = 3 }, keep = false")
    local written = {}
    for epoch, acc in ipairs { 0.5, 0.1, 0.1, 0.9, 0.2, 0.3 } do
      tensor:fill(epoch)
      cp:set_metric("acc", acc)
      assert.equal(epoch % 3 == 0, (cp:due(epoch)))
      local _, yes = assert(cp:save(epoch))
      written[epoch] = yes
      assert(cp:save_best(epoch) ~= nil)
    end
    assert.same({ false, false, true, false, false, true }, written)
    assert.equal("1 3 4 6", epochs_left())
  end)

  it("hear a request once, and the end", function()
    local cp <close> = open("run", write_policy "when = { epochs = 100 }, keep = false, best_alias = false")
    assert(cp:save(1))
    cp:request_save()
    assert.same({ true, "asked for" }, { cp:due(2) })
    assert(cp:save(2))
    assert(cp:save(3))
    cp:set_final()
    assert.same({ true, "the last of the run" }, { cp:due(4) })
    assert(cp:save(4))
    assert.equal("2 4", epochs_left())
    assert.equal("model_epoch4.pth", cp:done().file)
  end)

  it("that cannot be told are taken for due", function()
    local cp <close> = open("run", write_policy "when = { epocs = 3 }")
    assert(cp:save(1))
    assert.equal("1", epochs_left())
    assert.matches("warning: .*when has no 'epocs'.*: taken for due", table.concat(cp:log(), "\n"))
  end)

  it("go by the clock that they are given, after a restart too", function()
    local policy, written = write_policy "when = { minutes = 10 }, keep = false", {}
    for epoch, time in ipairs { 1000, 1300, 1600, 1900, 2200 } do
      local cp <close> = open("run", policy)
      cp:set_time(time)
      local _, yes = assert(cp:save(epoch))
      written[epoch] = yes
    end
    assert.same({ true, false, true, false, true }, written)
  end)
end)
