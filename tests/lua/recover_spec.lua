-- recover_spec.lua: what a run mends in its directory: aliases that are gone, checkpoints that are not valid.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"

local run, weights

local function open(options)
  options = options or {}
  options.dir = run
  local cp = assert(ckpt.checkpointer(options))
  assert(cp:bind("model", "w", weights))
  return cp
end

-- Epoch n has `accs[n]` as its accuracy and n in its weights; of the newest the four last stay, and the best.
local function saved(accs)
  scratch.write(cli.path "policy.lua", [[
    local policy = require "policies.default"()
    policy.keep = { last = 4, best = 1 }
    return policy
  ]])
  local cp <close> = open { policy = cli.path "policy.lua" }
  for epoch, acc in ipairs(accs) do
    weights:fill(epoch)
    assert(cp:set_metric("acc", acc))
    assert(cp:save(epoch))
    assert(cp:save_best(epoch) ~= nil)
  end
end

local function resumed(options)
  options = options or {}
  options.policy = cli.path "policy.lua"
  local cp <close> = open(options)
  weights:fill(0)
  local report = assert(cp:load())
  return report, table.concat(cp:log(), "\n")
end

local function path(name) return run .. "/" .. name end

local function cut(name)
  local whole = scratch.read(path(name))
  scratch.write(path(name), whole:sub(1, #whole // 2))
  return whole:sub(1, #whole // 2)
end

-- The value that the file of that name has in its weights.
local function content(name)
  local cp <close> = assert(ckpt.open(path(name), { verify = true }))
  return cp:at("model.w"):tolist()[1]
end

local function inode(name) return scratch.lines("stat -c %i '" .. path(name) .. "'")[1] end

local function events()
  local list = {}
  for line in scratch.read(path "ckpt.jsonl"):gmatch "[^\n]+" do list[#list + 1] = line:match '"event":"(%w+)"' end
  return table.concat(list, " ")
end

local function says(log, words) assert.truthy(log:find(words, 1, true), log) end

before_each(function()
  cli.enter()
  run = cli.path "run"
  weights = assert(ckpt.tensor("float32", { 8, 8 }))
end)

after_each(function()
  weights = nil
  cli.leave()
end)

describe("an alias that is gone", function()
  it("is made again when the run is opened", function()
    saved { .5, .7, .6 }
    os.remove(path "model_latest.pth")
    os.remove(path "model_best.pth")
    local report, log = resumed()
    assert.equal(path "model_epoch3.pth", report.path)
    assert.equal(inode "model_epoch3.pth", inode "model_latest.pth")
    assert.equal(inode "model_epoch2.pth", inode "model_best.pth")
    says(log, "model_latest.pth was missing: it is another name of model_epoch3.pth again")
    says(log, "model_best.pth was missing: it is another name of model_epoch2.pth again")
    local _, quiet = resumed()
    assert.is_nil(quiet:find("missing", 1, true))
  end)

  it("stays gone when its file is, when a later entry retired it, and for those who only read", function()
    saved { .5, .7, .6 }
    os.remove(path "model_best.pth")
    os.remove(path "model_epoch2.pth")
    resumed()
    os.remove(path "model_latest.pth")
    resumed { rank = 1 }
    cli.run("list", run)
    local line = '{"event":"prune","time":1764000000,"retired":["model_latest.pth"]}\n'
    scratch.write(path "ckpt.jsonl", scratch.read(path "ckpt.jsonl") .. line)
    resumed()
    assert.same({ "ckpt.jsonl", "model_epoch1.pth", "model_epoch3.pth" }, scratch.names(run))
  end)

  it("is left to a file that somebody put there", function()
    saved { .5 }
    os.remove(path "model_latest.pth")
    scratch.write(path "model_latest.pth", "mine")
    resumed()
    assert.equal("mine", scratch.read(path "model_latest.pth"))
  end)
end)

describe("a checkpoint that is not valid", function()
  it("is set aside when an older one is loaded, and its names go to others", function()
    saved { .5, .8, .6, .9 }
    local half = cut "model_epoch4.pth"
    local report, log = resumed()
    assert.equal(path "model_epoch3.pth", report.path)
    assert.equal(3, weights:tolist()[1])
    assert.same({ "ckpt.jsonl", "model_best.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth",
                  "model_epoch4.pth.corrupt", "model_latest.pth" }, scratch.names(run))
    assert.equal(half, scratch.read(path "model_epoch4.pth.corrupt"))
    assert.equal(3, content "model_latest.pth")
    assert.equal(2, content "model_best.pth")
    says(log, "taking " .. path "model_epoch3.pth" .. " instead")
    says(log, "model_epoch4.pth is set aside as model_epoch4.pth.corrupt")
    says(log, "model_latest.pth is another name of model_epoch3.pth now")
    says(log, "model_best.pth is another name of model_epoch2.pth now")
    assert.truthy(events():find "corrupt$")
  end)

  it("is no candidate, no best and no copy to keep from then on", function()
    saved { .5, .8, .6, .9 }
    cut "model_epoch4.pth"
    resumed()
    local report, log = resumed()
    assert.equal(path "model_epoch3.pth", report.path)
    assert.is_nil(log:find("corrupt", 1, true), log)
    local cp <close> = open { policy = cli.path "policy.lua" }
    assert(cp:load())
    for epoch = 4, 7 do
      weights:fill(10 + epoch)
      assert(cp:set_metric("acc", epoch == 5 and .85 or .1))
      assert(cp:save(epoch))
      assert.equal(epoch == 5, cp:save_best(epoch))
    end
    assert.same({ "ckpt.jsonl", "model_best.pth", "model_epoch4.pth", "model_epoch4.pth.corrupt", "model_epoch5.pth",
                  "model_epoch6.pth", "model_epoch7.pth", "model_latest.pth" }, scratch.names(run))
    assert.equal(15, content "model_best.pth")
  end)

  it("is found by its checksums, and a second one of its name gets a number", function()
    saved { .5, .6, .7 }
    for _ = 1, 2 do
      local whole = scratch.read(path "model_epoch3.pth")
      local at = assert(whole:find(string.pack("<f", 3):rep(16), 1, true))
      scratch.write(path "model_epoch3.pth", whole:sub(1, at) .. "\1" .. whole:sub(at + 2))
      assert.equal(path "model_epoch2.pth", resumed().path)
      assert.equal(2, content "model_best.pth")
      local cp <close> = open { policy = cli.path "policy.lua" }
      weights:fill(3)
      assert(cp:set_metric("acc", .7))
      assert(cp:save(3))
      assert.is_true(cp:save_best(3))
    end
    assert.equal(3, content "model_best.pth")
    assert.same({ "ckpt.jsonl", "model_best.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth",
                  "model_epoch3.pth.corrupt", "model_epoch3.pth.corrupt-2", "model_latest.pth" }, scratch.names(run))
  end)

  it("takes an alias with it that no valid checkpoint had", function()
    saved { .9, .5 }
    local cp <close> = open { policy = cli.path "policy.lua" }
    cut "model_epoch2.pth"
    scratch.write(path "model_epoch1.pth", scratch.read(path "model_epoch1.pth"))
    os.remove(path "model_latest.pth")
    os.execute(("ln '%s' '%s'"):format(path "model_epoch2.pth", path "model_latest.pth"))
    local report = assert(cp:load())
    assert.equal(path "model_epoch1.pth", report.path)
    assert.equal(1, content "model_latest.pth")
    assert.equal(1, content "model_best.pth")
  end)

  for stage, done in ipairs { "", "ln model_epoch4.pth model_epoch4.pth.corrupt", "ln -f model_epoch3.pth model_latest.pth",
                              "ln -f model_epoch2.pth model_best.pth", "rm model_best.pth" } do
    it("is set aside to the end by the next run, when one was killed at it: " .. stage, function()
      saved { .5, .8, .6, .9 }
      local half = cut "model_epoch4.pth"
      local line = '{"event":"corrupt","time":1764000000,"file":"model_epoch4.pth"}\n'
      scratch.write(path "ckpt.jsonl", scratch.read(path "ckpt.jsonl") .. line)
      if stage > 2 then os.execute("cd '" .. run .. "' && ln model_epoch4.pth model_epoch4.pth.corrupt") end
      os.execute("cd '" .. run .. "' && " .. (done == "" and ":" or done))
      open({ policy = cli.path "policy.lua" }):close()
      assert.same({ "ckpt.jsonl", "model_best.pth", "model_epoch1.pth", "model_epoch2.pth", "model_epoch3.pth",
                    "model_epoch4.pth.corrupt", "model_latest.pth" }, scratch.names(run))
      assert.equal(half, scratch.read(path "model_epoch4.pth.corrupt"))
      assert.equal(3, content "model_latest.pth")
      assert.equal(2, content "model_best.pth")
      local report, log = resumed()
      assert.equal(path "model_epoch3.pth", report.path)
      assert.is_nil(log:find("warning", 1, true), log)
    end)
  end

  it("stays where it is when nothing else could be loaded, in a dry run, and for ranks that do not write", function()
    saved { .5, .6 }
    cut "model_epoch2.pth"
    local before = scratch.names(run)
    scratch.write(cli.path "model.json", '{"w": ["float32", [8, 8]]}')
    cli.run("plan", "--load", run, "--model", "@model.json")
    assert.equal(path "model_epoch1.pth", resumed({ rank = 1 }).path)
    assert.same(before, scratch.names(run))
    cut "model_epoch1.pth"
    local cp <close> = open { policy = cli.path "policy.lua" }
    local report, _, code = cp:load()
    assert.is_nil(report)
    assert.equal("corrupt", code)
    assert.same(before, scratch.names(run))
    assert.is_nil(events():find "corrupt")
  end)

  it("is left alone where it was given as weights, or is of a kind that this version cannot read", function()
    scratch.write(cli.path "broken.pth", "PK\3\4")
    scratch.write(cli.path "policy.lua", [[return { candidates = function()
      return { { file = "strange.safetensors", mode = "resume" }, { file = "]] .. cli.path "broken.pth" .. [[", mode = "pretrain" } }
    end }]])
    os.execute("mkdir '" .. run .. "'")
    scratch.write(path "strange.safetensors", string.pack("<I8", 1 << 40) .. "{}")
    local cp <close> = open { policy = cli.path "policy.lua" }
    assert.is_nil(cp:load())
    assert.same({ "strange.safetensors" }, scratch.names(run))
    assert.equal("PK\3\4", scratch.read(cli.path "broken.pth"))
  end)
end)

