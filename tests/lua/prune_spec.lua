-- prune_spec.lua: `ckpt prune` and `ckpt pin`: what goes, what never does, and that a pin outlives moves and policies.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"

local path, says, refuses, json = cli.path, cli.says, cli.refuses, cli.json

local function write(name, text) scratch.write(path(name), text) end

local function open(policy)
  local cp = assert(ckpt.checkpointer { dir = path "run", policy = policy or path "all.lua" })
  local tensor = ckpt.tensor("float32", { 4 })
  assert(cp:bind("model", "w", tensor))
  return cp, tensor
end

-- A run that keeps everything, with the metric of each epoch.
local function train(...)
  write("all.lua", "return { keep = false }")
  write("p.lua", "return { keep = { last = 1, best = 1 } }")
  local cp <close>, tensor = open()
  for epoch, acc in ipairs { ... } do
    tensor:fill(epoch)
    cp:set_metric("acc", acc)
    assert(cp:save(epoch))
    assert(cp:save_best(epoch) ~= nil)
  end
end

local function names()
  local list = {}
  for _, name in ipairs(scratch.names(path "run")) do list[#list + 1] = name:match "^model_epoch(%d+).pth$" end
  return table.concat(list, " ")
end

local function damage(epoch)
  local name = path(("run/model_epoch%d.pth"):format(epoch))
  local bytes = scratch.read(name)
  local file <close> = io.open(name, "r+b")
  file:seek("set", assert(bytes:find(("<ff"):pack(epoch, epoch), 1, true)) - 1)
  file:write "\7"
end

before_each(cli.enter)
after_each(cli.leave)

describe("prune", function()
  it("removes what no pool wants, says why, and first only says it", function()
    train(0.5, 0.9, 0.6, 0.7)
    write("run/mine.pth", "not of the run")
    local before = scratch.lines(("ls -lA --time-style=full-iso '%s'"):format(path "run"))
    local text = [[
  model_epoch1.pth  %S+ KB  no pool wants it
  model_epoch3.pth  %S+ KB  no pool wants it
kept:
  model_epoch2.pth  best #1
  model_epoch4.pth  last 1 of 1
]]
    assert.matches("^@run: 2 files would be removed, %S+ KB\n" .. text,
      says(0, "prune", "@run", "--policy", "@p.lua", "--dry-run"))
    assert.same(before, scratch.lines(("ls -lA --time-style=full-iso '%s'"):format(path "run")))
    assert.matches("^@run: 2 files removed, %S+ KB\n" .. text, says(0, "prune", "@run", "--policy", "@p.lua"))
    assert.same({ "ckpt.jsonl", "mine.pth", "model_best.pth", "model_epoch2.pth", "model_epoch4.pth", "model_latest.pth" },
      scratch.names(path "run"))
    assert.matches("2 retired, %S+ KB freed.", says(0, "list", "@run", "--policy", "@p.lua"))
    assert.matches("^@run: 0 files removed, 0 B\n", says(0, "prune", "@run", "--policy", "@p.lua"))
  end)

  it("tells as JSON", function()
    train(0.5, 0.9, 0.6)
    local value = json(0, "prune", "@run", "--policy", "@p.lua", "--json")
    local file = value.removed[1]
    assert.same({ "model_epoch1.pth", "no pool wants it", value.freed }, { file.file, file.why, file.bytes })
    assert.same({ { file = "model_epoch2.pth", why = "best #1" }, { file = "model_epoch3.pth", why = "last 1 of 1" } }, value.kept)
    assert.is_false(value.dry_run)
  end)

  it("never removes the last valid one: the newest that a policy keeps may be broken", function()
    train(0.5, 0.6, 0.9)
    damage(3)
    local value = json(0, "prune", "@run", "--policy", "@p.lua", "--json", "--dry-run")
    assert.same({ "model_epoch2.pth", "model_epoch1.pth" }, { value.spared, value.removed[1].file })
    says(0, "prune", "@run", "--policy", "@p.lua")
    assert.equal("2 3", names())
    assert.matches("resume takes epoch 2", says(0, "plan", "@run"), 1, true)
  end)

  it("removes nothing where none is valid", function()
    train(0.5, 0.6, 0.9)
    for epoch = 1, 3 do damage(epoch) end
    local _, err, status = cli.run("prune", "@run", "--policy", "@p.lua")
    assert.matches("/run: no checkpoint of the run is valid, so nothing is removed (", err, 1, true)
    assert.equal(1, status)
    assert.equal("1 2 3", names())
  end)

  it("waits for no trainer: a run that is being written is busy", function()
    train(0.5, 0.6, 0.9)
    local cp <close> = open()
    refuses(3, "@run: another process is writing checkpoints here (lock .ckpt.lock is held)", "prune", "@run", "--policy",
      "@p.lua")
    assert.equal("1 2 3", names())
    says(0, "prune", "@run", "--policy", "@p.lua", "--dry-run")
    cp:close()
  end)

  it("leaves alone what is not the run's own, though a policy names it", function()
    train(0.5, 0.6)
    write("run/mine.pth", "x")
    write("bad.lua", "return { plan_prune = function() return { retire = { 'mine.pth' } } end }")
    refuses(1, "@run: the plan removes 'mine.pth', which is no file of this run's ledger", "prune", "@run", "--policy",
      "@bad.lua")
    write("bad.lua", "return { plan_prune = function() return { retire = { '../x' } } end }")
    local _, err, status = cli.run("prune", "@run", "--policy", "@bad.lua")
    assert.equal(1, status)
    assert.matches("'../x' is no name for a checkpoint", err, 1, true)
    write("bad.lua", "return { plan_prune = function() return { retire = 'all' } end }")
    refuses(1, "@run: policies/default.lua: the plan's 'retire' must be a list, not string", "prune", "@run", "--policy", "@bad.lua")
  end)

  it("is a method of a run, which removes only as rank 0 and on a disk", function()
    train(0.5, 0.9, 0.6)
    do
      local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "p.lua", rank = 1 })
      assert.same({ "model_epoch1.pth" }, assert(cp:prune()).retire)
      assert.same({ "model_epoch1.pth", "model_epoch3.pth" }, assert(cp:plan_save(4)).retire) -- of save, not of save_best
      assert.same({ nil, path "run: only rank 0 of a run on the disk removes files", "argument" }, { cp:prune(true) })
    end
    local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "p.lua", simulate = true, bytes = 5 })
    assert.same({ "model_epoch1.pth" }, assert(cp:prune()).retire)
    local files, bytes = cp:peak()
    assert.equal(3, files)
    assert.is_true(bytes > 3000)
    assert.equal("1 2 3", names())
  end)

  it("removes nothing under Pet's policy, and needs a directory", function()
    train(0.5, 0.6)
    says(0, "prune", "@run", "--policy", "pet")
    assert.equal("1 2", names())
    refuses(3, "@none: there is no such directory", "prune", "@none")
  end)
end)

describe("pin", function()
  it("keeps a file from every policy, by its name, by an alias, by its epoch", function()
    train(0.9, 0.1, 0.2, 0.3)
    assert.equal("@run/model_epoch2.pth is pinned\n", says(0, "pin", "@run", "model_epoch2.pth"))
    assert.equal("@run/model_epoch3.pth is pinned\n", says(0, "pin", "@run", "3"))
    assert.equal("@run/model_epoch1.pth is pinned\n", says(0, "pin", "@run", "model_best.pth"))
    assert.matches("model_epoch2.pth  pinned\n", says(0, "list", "@run", "--policy", "@p.lua"), 1, true)
    says(0, "prune", "@run", "--policy", "@p.lua")
    assert.equal("1 2 3 4", names())
    assert.equal("@run/model_epoch2.pth is not pinned\n", says(0, "pin", "@run", "2", "--unpin"))
    says(0, "prune", "@run", "--policy", "@p.lua")
    assert.equal("1 3 4", names())
  end)

  it("outlives a move", function()
    train(0.9, 0.1, 0.2, 0.3)
    says(0, "pin", "@run", "2")
    assert(os.rename(path "run", path "elsewhere"))
    says(0, "prune", "@elsewhere", "--policy", "@p.lua")
    assert(os.rename(path "elsewhere", path "run"))
    assert.equal("1 2 4", names())
  end)

  it("is heard by a run that is under way, also by a policy that knows nothing of pins", function()
    train(0.9, 0.1)
    write("rude.lua", [[
      return { keep = false, plan_save = function(_, run)
        local retire = {}
        for _, file in ipairs(run.files) do retire[#retire + 1] = file.name:match '^model_epoch.*' end
        return { file = 'new' .. run.epoch .. '.pth', aliases = {}, retire = retire }
      end }]])
    local cp <close> = open(path "rude.lua")
    says(0, "pin", "@run", "2") -- the run has the lock
    assert(cp:save(3))
    assert.equal("2", names())
    assert.matches("model_epoch2.pth stays: it is pinned", table.concat(cp:log(), "\n"), 1, true)
    assert.same({ "model_epoch1.pth" }, cp:done().retire)
  end)

  it("is of something that is there; an end to it also of what is gone", function()
    train(0.9)
    refuses(3, "@run/none.pth: there is no such file", "pin", "@run", "none.pth")
    refuses(3, "@run: no file of epoch 7 is there", "pin", "@run", "7")
    refuses(3, "@none: there is no such directory", "pin", "@none", "1")
    assert.equal("@run/gone.pth is not pinned\n", says(0, "pin", "@run", "gone.pth", "--unpin"))
  end)

  it("survives a rank that is not 0 and a ledger that ends in the middle of a line", function()
    train(0.9, 0.1)
    local file <close> = io.open(path "run/ckpt.jsonl", "a")
    file:write '{"event":"sa'
    file:flush()
    says(0, "pin", "@run", "2")
    local cp <close> = assert(ckpt.checkpointer { dir = path "run", rank = 1 })
    assert(cp:pin("model_epoch1.pth"))
    local kept = {}
    for i, item in ipairs(assert(cp:kept())) do kept[i] = item.why end
    assert.same({ "best #1, last 2 of 3, pinned", "last 1 of 3, pinned" }, kept)
  end)
end)
