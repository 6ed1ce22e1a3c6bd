-- bad_input_spec.lua: what goes wrong gives one clear error, leaves the trainer's arrays and every checkpoint as they were, and
-- never costs a save.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local START = { 1, 2, 3, 4 }

local function open(dir, options)
  options = options or {}
  options.dir = dir
  local cp, message, code = ckpt.checkpointer(options)
  if not cp then return nil, message, code end
  assert(cp:bind("model", "w", ckpt.tensor("float32", { 2, 2 }, START)))
  assert(cp:bind("optimizer", "w.momentum_buffer", ckpt.tensor("float32", { 2, 2 })))
  assert(cp:set("optimizer", "lr", 0.5))
  return cp
end

-- A run with `n` saved epochs; returns the names in it.
local function saved(dir, n)
  local cp <close> = assert(open(dir))
  for epoch = 1, n do
    assert(cp:set_metric("acc", epoch / 10))
    assert(cp:save(epoch))
  end
  return scratch.names(dir)
end

local function untouched(cp)
  assert.same(START, cp:get("model", "w"):tolist())
  assert.equal(0.5, cp:get("optimizer", "lr"))
end

local function in_directory(test)
  return function()
    local dir = scratch.dir()
    finally(function()
      os.execute("chmod -R u+w '" .. dir .. "'")
      scratch.remove(dir)
    end)
    test(dir, dir .. "/run")
  end
end

-- ---- files ----

local files = {
  { "missing", nil, "notfound", "there is no such file" },
  { "empty", "", "format", "the file is empty" },
  { "a text", "hello, world", "format", "not a checkpoint: it begins with the bytes 68 65" },
  { "a foreign zip", "PK\5\6" .. ("\0"):rep(18), "format", "not a checkpoint" },
  { "a zip that ends early", "PK\3\4" .. ("\0"):rep(26), "corrupt", "zip end record missing" },
  { "a legacy file cut off", "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e", "corrupt",
    "file+0xf: the pickle ends without STOP" },
  { "a directory", false, "format", "a directory, not a checkpoint file" },
}

describe("a file of weights that is", function()
  after_each(gate)

  for _, row in ipairs(files) do
    it(row[1] .. " is refused with one sentence", in_directory(function(dir, run)
      local path = dir .. "/weights.pth"
      if row[2] then scratch.write(path, row[2]) end
      if row[2] == false then os.execute("mkdir '" .. path .. "'") end
      local cp <close> = assert(open(run, { weights = path }))
      local report, message, code = cp:load()
      assert.is_nil(report)
      assert.equal(row[3], code)
      assert.equal(path .. ": ", message:sub(1, #path + 2))
      assert.truthy(message:find(row[4], 1, true), message)
      assert.is_nil(message:find("\n"))
      untouched(cp)
    end))
  end

  it("truncated at any length is refused", in_directory(function(dir, run)
    saved(run, 1)
    local whole = scratch.read(run .. "/model_epoch1.pth")
    for _, length in ipairs { 1, 4, 31, 64, #whole // 2, #whole - 23, #whole - 22, #whole - 1 } do
      scratch.write(dir .. "/cut.pth", whole:sub(1, length))
      local cp, message, code = ckpt.open(dir .. "/cut.pth", { verify = true })
      assert.is_nil(cp, length)
      assert.truthy(code == "corrupt" or code == "format", message)
    end
  end))

  it("changed in one bit is refused, naming record and byte", in_directory(function(dir, run)
    saved(run, 1)
    local whole = scratch.read(run .. "/model_epoch1.pth")
    local at = assert(whole:find(string.pack("<ffff", 1, 2, 3, 4), 1, true))
    scratch.write(dir .. "/rot.pth", whole:sub(1, at) .. string.char(whole:byte(at + 1) ~ 1) .. whole:sub(at + 2))
    local cp, message, code = ckpt.open(dir .. "/rot.pth", { verify = true })
    assert.is_nil(cp)
    assert.equal("corrupt", code)
    assert.truthy(message:find("record 'model_epoch1/data/0'", 1, true), message)
    assert.truthy(message:find("CRC%-32"), message)
  end))

  it("of other shapes is refused by the load contract", in_directory(function(dir, run)
    assert(ckpt.save(dir .. "/weights.pth", { w = ckpt.tensor("float32", { 3, 2 }) }))
    local cp <close> = assert(open(run, { weights = dir .. "/weights.pth" }))
    local report, message, code = cp:load()
    assert.is_nil(report)
    assert.equal("contract", code)
    assert.truthy(message:find("w", 1, true))
    untouched(cp)
  end))
end)

describe("a run whose newest checkpoint is corrupt", function()
  after_each(gate)

  it("is resumed from the newest valid one, saying why", in_directory(function(_, run)
    saved(run, 3)
    local path = run .. "/model_epoch3.pth"
    local whole = scratch.read(path)
    os.remove(path)
    os.remove(run .. "/model_latest.pth")
    scratch.write(path, whole:sub(1, #whole // 2))
    local cp <close> = assert(open(run))
    local report = assert(cp:load())
    assert.equal("resume", report.mode)
    assert.equal(run .. "/model_epoch2.pth", report.path)
    assert.equal(3, cp:next_epoch())
    local log = table.concat(cp:log(), "\n")
    assert.truthy(log:find("model_epoch3.pth: ", 1, true), log)
    assert.truthy(log:find("taking " .. run .. "/model_epoch2.pth instead", 1, true), log)
  end))

  it("is not started over when none is valid", in_directory(function(_, run)
    saved(run, 1)
    scratch.write(run .. "/model_epoch1.pth", "PK\3\4 not any more")
    local before = scratch.names(run)
    local cp <close> = assert(open(run))
    local report, message, code = cp:load()
    assert.is_nil(report)
    assert.equal("corrupt", code)
    assert.truthy(message:find("model_epoch1.pth", 1, true))
    assert.same(before, scratch.names(run))
    untouched(cp)
  end))
end)

-- ---- policies ----

local broken = {
  { "has a syntax error", "return {\n  keep = \n}", "policy", "policy.lua:3: " },
  { "returns a number", "return 7", "policy", "a policy must return a table, not number" },
  { "is bytecode", "\27Lua", "policy", "" },
  { "raises while it is loaded", "local x = nil\nreturn x.y", "policy", "policy.lua:2: " },
  { "never ends while it is loaded", "while true do end", "policy", "policy.lua:1: " },
  { "eats memory while it is loaded", "local t = {}\nwhile true do t[#t + 1] = {} end", "policy", "memory" },
}

describe("a policy file that", function()
  after_each(gate)

  for _, row in ipairs(broken) do
    it(row[1] .. " is refused at once", in_directory(function(dir, run)
      scratch.write(dir .. "/policy.lua", row[2])
      local cp, message, code = open(run, { policy = dir .. "/policy.lua", policy_steps = 2000000, policy_memory = 4000000 })
      assert.is_nil(cp)
      assert.equal(row[3], code)
      assert.truthy(message:find(row[4], 1, true), message)
    end))
  end

  it("is not there is refused with the names of the built-in ones", in_directory(function(dir, run)
    local cp, message, code = open(run, { policy = dir .. "/none.lua" })
    assert.is_nil(cp)
    assert.equal("notfound", code)
    assert.truthy(message:find("default, pet", 1, true), message)
  end))
end)

describe("a built-in policy", function()
  after_each(gate)

  it("takes no text from the working directory", in_directory(function(dir, run)
    os.execute(("mkdir -p '%s/policies/default' '%s/default'"):format(dir, dir))
    scratch.write(dir .. "/policies/default/names.lua", "error 'mine'")
    scratch.write(dir .. "/default/names.lua", "error 'mine'")
    saved(run, 1)
    local list = ("cd '%s' && '%s' list run 2>&1"):format(dir, os.getenv "CKPT" or os.getenv "PWD" .. "/build/ckpt")
    local out = table.concat(scratch.lines(list), "\n")
    assert.truthy(out:find("model_epoch1.pth", 1, true), out)
    assert.is_nil(out:find("mine", 1, true), out)
  end))
end)

-- Bodies of plan_save that fail; each save must be made all the same.
local failing = {
  { "raises", "local acc = nil\n  return acc < 1", "attempt to compare" },
  { "raises a table", "error {}", "" },
  { "returns a number", "return 7", "must return a table, not number" },
  { "returns a list of nonsense", "return { file = {} }", "'file' must be a string" },
  { "names a path", "return { file = '../x.pth' }", "is no name for a checkpoint" },
  { "retires what it writes", "return { file = 'a.pth', retire = { 'a.pth' } }", "retires 'a.pth'" },
  { "retires without writing", "return { retire = { 'model_epoch1.pth' } }", "retires 'model_epoch1.pth'" },
  { "reuses an old file", "return { file = 'model_epoch1.pth', reuse = true }", "reuses 'model_epoch1.pth'" },
  { "never ends", "while true do end", "steps" },
  { "never ends within pcall", "while true do pcall(function() while true do end end) end", "steps" },
  { "eats memory", "local t = {} while true do t[#t + 1] = {} end", "memory" },
  { "asks for a huge string", "return { file = ('x'):rep(1 << 40) }", "" },
  { "reads a file", "return { file = io.open('/etc/passwd'):read('a') }", "attempt to index a nil value (global 'io')" },
}

describe("a policy whose plan_save", function()
  after_each(gate)

  for _, row in ipairs(failing) do
    it(row[1] .. " costs no checkpoint", in_directory(function(dir, run)
      local before = saved(run, 2)
      scratch.write(dir .. "/policy.lua", "return { plan_save = function(policy, run)\n  " .. row[2] .. "\nend }")
      local cp <close> = assert(open(run, { policy = dir .. "/policy.lua", policy_steps = 2000000, policy_memory = 8000000 }))
      assert(cp:load())
      assert(cp:save(3))
      local log = table.concat(cp:log(), "\n")
      assert.truthy(log:find(row[3], 1, true), log)
      assert.truthy(log:find("checkpoint saved, nothing deleted", 1, true), log)
      before[#before + 1] = "model_epoch3.pth"
      table.sort(before)
      assert.same(before, scratch.names(run))
      local new <close> = assert(ckpt.open(run .. "/model_epoch3.pth", { verify = true }))
      assert.same(START, new:at("model.w"):tolist())
      cp:close()
      local again <close> = assert(open(run))
      assert.equal(run .. "/model_epoch3.pth", assert(again:load()).path)
      assert.equal(4, again:next_epoch())
    end))
  end

  it("fails three times is set aside with one message", in_directory(function(dir, run)
    scratch.write(dir .. "/policy.lua", "return { plan_save = function() error('no') end }")
    local cp <close> = assert(open(run, { policy = dir .. "/policy.lua" }))
    for epoch = 1, 5 do assert(cp:save(epoch)) end
    local log = cp:log()
    assert.equal(2, #log) -- the cause, once, and what follows from it
    assert.truthy(log[1]:find("policy.lua:1: no: checkpoint saved, nothing deleted", 1, true), log[1])
    assert.truthy(log[2]:find("set aside", 1, true), log[2])
    assert.equal(7, #scratch.names(run)) -- five epochs, the latest, the ledger
  end))

  it("fails now and then is told of once for each cause, and stays", in_directory(function(dir, run)
    scratch.write(dir .. "/policy.lua", [[
      return { plan_save = function(policy, run)
        if run.epoch % 3 > 0 then error(run.epoch % 2 == 0 and "even" or "odd") end
        return { file = "good" .. run.epoch .. ".pth" }
      end }]])
    local cp <close> = assert(open(run, { policy = dir .. "/policy.lua" }))
    for epoch = 1, 9 do assert(cp:save(epoch)) end
    local log = cp:log()
    assert.equal(2, #log)
    assert.truthy(log[1]:find("odd", 1, true) and log[2]:find("even", 1, true))
    assert.truthy(table.concat(scratch.names(run), " "):find("good9.pth", 1, true))
  end))

  it("works while plan_best fails three times is set aside too", in_directory(function(dir, run)
    scratch.write(dir .. "/policy.lua", "return { plan_best = function() error('no') end }")
    local cp <close> = assert(open(run, { policy = dir .. "/policy.lua" }))
    for epoch = 1, 5 do
      assert(cp:save(epoch))
      assert.is_false(cp:save_best(epoch))
    end
    local log = table.concat(cp:log(), "\n")
    assert.equal(1, select(2, log:gsub("set aside", "")))
    for epoch = 3, 5 do assert(ckpt.open(run .. "/model_epoch" .. epoch .. ".pth", { verify = true })):close() end
  end))
end)

local failing_loads = {
  { "raises", "error('no')", "no" },
  { "fills a key that is not there", "return { select = 'model', assign = { { to = 'x', from = 'w' } } }", "'x'" },
  { "takes a key that is not there", "return { select = 'model', assign = { { to = 'w', from = 'x' } } }", "'x'" },
  { "fills a key twice", "local a = { to = 'w', from = 'w' } return { select = 'model', assign = { a, a } }", "twice" },
  { "names an unknown operation", "return { select = 'model', assign = { { to = 'w', from = 'w', ops = { { 'melt' } } } } }",
    "'melt' is no operation" },
  { "selects outside of a dimension",
    "return { select = 'model', assign = { { to = 'w', from = 'w', ops = { { 'index_select', 0, { 5, 0 } } } } } }", "5" },
  { "changes the shape", "return { select = 'model', assign = { { to = 'w', from = 'w', ops = { { 'index_select', 0, { 0 } } } } } }",
    "[1,2]" },
  { "keeps the file for later", "keep = keep or source.state_dict\n  return { refuse = 'not yet' }", "not yet" },
}

describe("a policy whose plan_load", function()
  after_each(gate)

  for _, row in ipairs(failing_loads) do
    it(row[1] .. " leaves the arrays alone", in_directory(function(dir, run)
      saved(run, 1)
      scratch.write(dir .. "/policy.lua", "return { plan_load = function(policy, run, source)\n  " .. row[2] .. "\nend }")
      local cp <close> = assert(open(run, { policy = dir .. "/policy.lua" }))
      assert(cp:get("model", "w"):copy_(ckpt.tensor("float32", { 2, 2 }, START)))
      local report, message = cp:load()
      assert.is_nil(report)
      assert.truthy(message:find(row[3], 1, true), message)
      untouched(cp)
    end))
  end
end)

describe("an array that cannot be written", function()
  after_each(gate)

  it("fails the load before anything is copied", in_directory(function(_, run)
    saved(run, 1)
    local file <close> = assert(ckpt.open(run .. "/model_epoch1.pth"))
    local cp <close> = assert(ckpt.checkpointer { dir = run })
    local a = ckpt.tensor("float32", { 2, 2 }, { 9, 9, 9, 9 })
    assert(cp:bind("optimizer", "w.momentum_buffer", a))
    assert(cp:bind("model", "w", file:at("model.w")))
    local report, message = cp:load()
    assert.is_nil(report)
    assert.truthy(message:find("read-only", 1, true), message)
    assert.same({ 9, 9, 9, 9 }, a:tolist())
  end))
end)

-- ---- directories ----

describe("a run directory", function()
  after_each(gate)

  it("that another process writes is refused", in_directory(function(_, run)
    local first <close> = assert(open(run))
    local second, message, code = open(run)
    assert.is_nil(second)
    assert.equal("busy", code)
    assert.truthy(message:find(run .. ": another process", 1, true), message)
    assert(first:save(1))
  end))

  it("that is a file is refused", in_directory(function(_, run)
    scratch.write(run, "a file")
    local cp, message = open(run)
    assert.is_nil(cp)
    assert.truthy(message:find(run, 1, true), message)
  end))

  it("that is full keeps what it has", in_directory(function(dir, run)
    if not os.execute("mkdir -p '" .. run .. "' && mount -t tmpfs -o size=64k tmpfs '" .. run .. "' 2> /dev/null") then
      pending("no right to mount a small file system")
      return
    end
    saved(run, 2)
    os.execute("head -c 1000000 /dev/zero > '" .. run .. "/filler' 2> /dev/null")
    local before = scratch.names(run)
    local cp = assert(open(run))
    assert(cp:load())
    local ok, message, code = cp:save(3)
    cp:close()
    assert.is_nil(ok)
    assert.equal("io", code)
    assert.truthy(message:find("No space left on device", 1, true), message)
    assert.same(before, scratch.names(run))
    assert(ckpt.open(run .. "/model_latest.pth", { verify = true })):close()
    os.execute("umount '" .. run .. "'")
    assert.truthy(dir)
  end))
end)
