-- keeping_property_spec.lua: random metric logs under random policies. Whatever the policy: the best by its definition
-- is kept, no pool removes what another keeps, the newest file and foreign files stay; a replay in memory (`ckpt simulate`),
-- a run of plans in plain Lua and a run on a real directory do the same; so does a run that is restarted in the middle,
-- in a directory that was moved, with nothing but its ledger.
--
-- KEEPING_RUNS says how many (3,000 unless it is set, 500 under a sanitizer; make check-keeping takes 10,000),
-- KEEPING_SEED from which seed on (1).
-- A failure names its seed.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run" -- sets the global `ckpt` of policies; the module is a local below
local ckpt = require "ckpt"
local gate = require "support.gate"
local new_policy = require "policies.default"
local random_runs = require "random_runs"
local scratch = require "support.scratch"

local DEFAULT = os.getenv "SANITIZED" == "1" and "500" or "3000"
local RUNS = math.tointeger(os.getenv "KEEPING_RUNS" or DEFAULT)
local SEED = math.tointeger(os.getenv "KEEPING_SEED" or "1")
local REAL = math.min(RUNS, 200) -- of them on a real directory
local FUNCTIONS = { "candidates", "plan_load", "due", "plan_save", "plan_best", "kept", "ranking", "plan_prune" }

local dir

-- ---- what was done, as text ----

local function metrics_text(metrics)
  local names, words = {}, {}
  for name in pairs(metrics) do names[#names + 1] = name end
  table.sort(names)
  for i, name in ipairs(names) do
    local value = metrics[name]
    words[i] = name .. "=" .. (value ~= value and "nan" or ("%.17g"):format(value))
  end
  return table.concat(words, ",")
end

local function ledger_text(ledger)
  local lines = {}
  for i, e in ipairs(ledger) do
    lines[i] = table.concat({ e.event, e.time, e.epoch, tostring(e.step), e.file, tostring(e.best),
                              table.concat(e.aliases, "+"), table.concat(e.retired, "+"), metrics_text(e.metrics) }, "|")
  end
  return table.concat(lines, "\n")
end

-- Names, those of one file joined.
local function files_text(files)
  local groups, order = {}, {}
  for _, file in ipairs(files) do
    local key = file.inode or file.name
    if not groups[key] then
      groups[key] = {}
      order[#order + 1] = groups[key]
    end
    table.insert(groups[key], file.name)
  end
  for i, names in ipairs(order) do order[i] = table.concat(names, "=") end
  return table.concat(order, "\n")
end

-- ---- runs: each is given rows and tells its files and its ledger ----

local function complete(text)
  local policy, default = assert(load(text, "policy", "t", {}))(), new_policy()
  for _, name in ipairs(FUNCTIONS) do policy[name] = default[name] end
  return policy
end

local FOREIGN = { "model_epoch999.pth", "notes.txt" }

-- The run as its files and ledger alone make it: what a restart finds.
local function restarted(run)
  local ledger, files = {}, {}
  for i, entry in ipairs(run.ledger) do
    local copy = {}
    for key, value in pairs(entry) do copy[key] = value end
    ledger[i] = copy
  end
  for i, file in ipairs(run.files) do files[i] = file end
  return fake.run { ledger = ledger, files = files }
end

-- The runtime drops the metrics of an earlier epoch.
local function set_row(run, row, final)
  local metrics = run.epoch == row.epoch and run.metrics or {}
  for name, value in pairs(row.metrics) do metrics[name] = value end
  run.epoch, run.step, run.time, run.metrics, run.final = row.epoch, row.step, row.time, metrics, final
end

local function play_row(policy, run, row, final)
  set_row(run, row, final)
  fake.save(policy, run)
  fake.save_best(policy, run)
end

-- The run, and the same begun anew before row `cut`.
local function play_fake(text, rows, cut, check)
  local policy, run, again = complete(text), fake.run { files = FOREIGN }, nil
  for i, row in ipairs(rows) do
    if i == cut then
      again = restarted(run)
      again.epoch, again.metrics = run.epoch, {}
      for name, value in pairs(run.metrics) do again.metrics[name] = value end
    end
    play_row(policy, run, row, i == #rows)
    check(run)
  end
  policy = again and complete(text)
  for i = cut, again and #rows or 0 do play_row(policy, again, rows[i], i == #rows) end
  return run, again or run
end

local function feed(cp, row, final)
  for name, value in pairs(row.metrics) do cp:set_metric(name, value) end
  if row.step then cp:set_step(row.step) end
  cp:set_time(row.time)
  cp:set_final(final)
  assert(cp:save(row.epoch))
  assert(cp:save_best(row.epoch) ~= nil)
end

local function play_model(policy_file, start, rows)
  local cp <close> = assert(ckpt.checkpointer { dir = start, policy = policy_file, simulate = true, bytes = 100 })
  for i, row in ipairs(rows) do feed(cp, row, i == #rows) end
  for _, line in ipairs(cp:log()) do assert(not line:find("^warning"), line) end
  return cp:files()
end

local function open_real(where, policy_file, tensor)
  local cp = assert(ckpt.checkpointer { dir = where, policy = policy_file })
  assert(cp:bind("model", "w", tensor))
  return cp
end

-- At the cut the trainer is gone and the directory has another name.
local function play_real(policy_file, where, rows, cut)
  local tensor = ckpt.tensor("float32", { 4 })
  local cp = open_real(where, policy_file, tensor)
  for i, row in ipairs(rows) do
    if i == cut and rows[i - 1].epoch ~= row.epoch then
      cp:close()
      assert(os.rename(where, where .. ".moved"))
      where = where .. ".moved"
      cp = open_real(where, policy_file, tensor)
    end
    feed(cp, row, i == #rows)
  end
  local files, ledger = cp:files()
  cp:close()
  return files, ledger
end

-- ---- what must hold after every row ----

local function present(run, saves)
  local there, aliases, last, here = {}, {}, {}, {}
  for _, file in ipairs(run.files) do there[file.name] = true end
  for _, entry in ipairs(run.ledger) do
    for _, name in ipairs(entry.aliases) do aliases[name] = true end
  end
  for _, save in ipairs(saves) do last[save.file] = save end
  for _, save in ipairs(saves) do
    if there[save.file] and last[save.file] == save and not aliases[save.file] then here[#here + 1] = save end
  end
  return here, there
end

-- `before`: the saves that were there, to which the last one is added.
local function check_kept(said, run, before)
  local saves = random_runs.saves(run.ledger)
  local here, there = present(run, saves)
  for _, name in ipairs(FOREIGN) do assert(there[name], "a foreign file is gone: " .. name) end
  local could, was, last = {}, {}, {}
  for _, save in ipairs(before) do was[save.file] = true end
  for _, save in ipairs(saves) do last[save.file] = save end
  for i, save in ipairs(saves) do
    if i == #saves or was[save.file] and last[save.file] == save then could[#could + 1] = save end
  end
  for _, spec in ipairs { said.best, said.low } do
    local best = random_runs.best(spec, saves)
    if best and not (was[best.file] or best == saves[#saves]) then best = random_runs.best(spec, could) end -- it went back
    if best then assert(there[best.file], "the best is gone: " .. best.file) end
  end
  local wanted = random_runs.wanted(said, saves, could)
  for file, pool in pairs(wanted) do assert(there[file], ("%s is gone, which %s wants"):format(file, pool)) end
  for _, save in ipairs(said.keep.ceiling and {} or here) do
    assert(wanted[save.file], save.file .. " is there, which no pool wants")
  end
  return here
end

local function checker(said)
  local before, lines = {}, 0
  return function(run)
    if #run.ledger > lines then before = check_kept(said, run, before) end
    lines = #run.ledger
    assert(lines == 0 or #before > 0, "no checkpoint is left")
  end
end

local function one(seed, real)
  math.randomseed(seed)
  local rows, stepped = random_runs.log(10)
  local text, said = random_runs.policy(stepped, not real)
  local policy_file, cut = dir .. "/policy.lua", math.random(2, 10)
  scratch.write(policy_file, text)
  local ok, message = pcall(function()
    local run, again = play_fake(text, rows, cut, checker(said))
    local files, ledger = play_model(policy_file, dir .. "/start", rows)
    assert.equal(ledger_text(run.ledger), ledger_text(ledger))
    assert.equal(files_text(run.files), files_text(files))
    assert.equal(ledger_text(run.ledger), ledger_text(again.ledger))
    assert.equal(files_text(run.files), files_text(again.files))
    if not real then return end
    files, ledger = play_real(policy_file, ("%s/run%d"):format(dir, seed), rows, cut)
    local names = files_text(files):gsub("ckpt.jsonl\n?", "")
    local expected = files_text(run.files):gsub("model_epoch999.pth\n?", ""):gsub("notes.txt\n?", "")
    assert.equal(ledger_text(run.ledger), ledger_text(ledger))
    assert.equal((expected:gsub("\n$", "")), (names:gsub("\n$", "")))
  end)
  if ok then return end
  error(("seed %d: %s\n%s"):format(seed, type(message) == "table" and tostring(message.message) or message, text), 0)
end

describe(("random runs, from seed %d"):format(SEED), function()
  setup(function()
    local places = "mktemp -d /dev/shm/ckpt-spec-XXXXXX 2> /dev/null || mktemp -d ${TMPDIR:-/tmp}/ckpt-spec-XXXXXX"
    dir = scratch.lines(places)[1] -- where a sync costs nothing, if there is such a place
    assert(os.execute(("mkdir %s/start"):format(dir)))
    for _, name in ipairs(FOREIGN) do scratch.write(dir .. "/start/" .. name, ("x"):rep(100)) end
  end)
  teardown(function() scratch.remove(dir) end)
  after_each(gate)

  it(("%d on a real directory, moved and restarted, as in memory"):format(REAL), function()
    for seed = SEED, SEED + REAL - 1 do one(seed, true) end
  end)

  it(("%d: the best is kept, pools keep, replay equals the run, a restart changes nothing"):format(RUNS - REAL), function()
    for seed = SEED + REAL, SEED + RUNS - 1 do one(seed, false) end
  end)
end)
