-- keeping_spec.lua: the default policy's bests, pools, triggers and names, at the level of plans.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run"
local dates = require "policies.default.dates"
local new_policy = require "policies.default"

local NAN, INF = 0 / 0, math.huge

local function same(expected, actual) assert.equal(fake.dump(expected), fake.dump(actual)) end

local function policy_of(fields)
  local policy = new_policy()
  for key, value in pairs(fields) do policy[key] = value end
  return policy
end

-- Plays rows of metrics (or { step =, time =, ...metrics }); gives the run and what save_best said.
local function play(fields, rows, run)
  local policy, results = policy_of(fields), {}
  run = run or fake.run {}
  for epoch, row in ipairs(rows) do
    local metrics = {}
    for name, value in pairs(row) do metrics[name] = value end
    run.step, run.time, metrics.step, metrics.time = row.step, row.time or 60 * epoch, nil, nil
    local _, plan = fake.epoch(policy, run, row.epoch or epoch, metrics)
    metrics.epoch = nil
    results[epoch] = plan.result
  end
  return run, results, policy
end

local function column(name, values)
  local rows = {}
  for i = 1, values.n do rows[i] = { [name] = values[i] } end
  return rows
end

local function acc(...) return column("acc", table.pack(...)) end

local function epochs_left(run)
  local left = {}
  for _, file in ipairs(run.files) do
    local epoch = math.tointeger(file.name:match "^model_epoch(%d+)%.pth$")
    if epoch then left[#left + 1] = epoch end
  end
  table.sort(left)
  return table.concat(left, " ")
end

local function refuses(sentence, fields, rows)
  assert.error_matches(function() play(fields, rows or acc(0.5, 0.6)) end, sentence, 1, true)
end

local function name_of(run, alias)
  local inode = run.files[assert(fake.has_file(run, alias), alias)].inode
  for _, file in ipairs(run.files) do
    if file.inode == inode and file.name:find "epoch" then return file.name end
  end
end

describe("a best", function()
  local function results(best, ...)
    local _, list = play({ best = best }, acc(...))
    local words = {}
    for i, yes in ipairs(list) do words[i] = yes and "y" or "n" end
    return table.concat(words)
  end

  it("asks for a gain that is absolute, relative to the best so far, or both", function()
    assert.equal("ynyn", results({ min_delta = 0.1 }, 0.5, 0.59, 0.65, 0.7))
    assert.equal("ynyn", results({ min_delta = "10%" }, 0.5, 0.54, 0.56, 0.6))
    assert.equal("ynyy", results({ min_delta = "10%" }, -1.0, -0.95, -0.8, 0.0))
    assert.equal("ynny", results({ min_delta = { abs = 0.1, rel = 0.5 } }, 0.5, 0.65, 0.7, 0.8))
    assert.equal("yny", results({ mode = "min", min_delta = "10%" }, 1.0, 0.95, 0.89))
  end)

  it("is decided by the first criterion that differs", function()
    local rows = { { acc = 0.5, loss = 3 }, { acc = 0.5, loss = 2 }, { acc = 0.5, loss = 4 }, { acc = 0.5, loss = 2 },
                   { acc = 0.6, loss = 9 }, { acc = 0.4, loss = 0 } }
    local function said(best)
      local _, list = play({ best = best }, rows)
      return fake.dump(list)
    end
    local chain = { true, true, false, true, true, false }
    assert.equal(fake.dump(chain), said { { metric = "acc" }, { metric = "loss", mode = "min" } })
    assert.equal(fake.dump(chain), said { metric = "acc", tie = { metric = "loss", mode = "min" } })
    chain[4] = false
    assert.equal(fake.dump(chain), said { { metric = "acc" }, { metric = "loss", mode = "min", tie = "first" } })
    assert.equal(fake.dump(chain), said { { metric = "acc" }, { metric = "loss", mode = "min" }, tie = "first" })
  end)

  it("goes to the next criterion within a criterion's min_delta", function()
    local rows = { { acc = 0.50, loss = 3 }, { acc = 0.505, loss = 4 }, { acc = 0.495, loss = 2 }, { acc = 0.6, loss = 9 } }
    local _, list = play({ best = { { metric = "acc", min_delta = 0.01 }, { metric = "loss", mode = "min" } } }, rows)
    same({ true, false, true, true }, list)
  end)

  it("takes a further criterion that is not finite for the worse, never for a reason to stop", function()
    local best = { metric = "acc", tie = { metric = "loss", mode = "min", tie = "first" } }
    local _, list = play({ best = best }, { { acc = 0.5, loss = NAN }, { acc = 0.5 }, { acc = 0.5, loss = 7 },
                                            { acc = 0.5, loss = -INF }, { acc = 0.6 } })
    same({ true, false, true, false, true }, list)
  end)

  it("is of a field that it knows", function()
    refuses("best has no field 'min_dleta'", { best = { min_dleta = 1 } })
    refuses("best.min_delta must be a number from 0 on, '1%', or { abs =, rel = }, not '-1'", { best = { min_delta = -1 } })
    refuses("best.min_delta must be", { best = { min_delta = "much" } })
    refuses("best[2].mode must be 'max' or 'min', not 'most'", { best = { { metric = "a" }, { metric = "b", mode = "most" } } })
    refuses("best.tie.metric must be a name", { best = { tie = { mode = "min" } } })
    refuses("best must be a table, not string", { best = "acc" })
  end)

  it("is recorded though its metric came after the save, also where it is only the second best", function()
    local policy, run = policy_of { keep = { best = 2 } }, fake.run {}
    for epoch, value in ipairs { 0.9, 0.1, 0.8, 0.2, 0.3 } do
      run.epoch, run.metrics = epoch, {}
      fake.save(policy, run)
      run.metrics = { acc = value }
      fake.save_best(policy, run)
    end
    assert.equal("1 3 5", epochs_left(run))
    local lines = #run.ledger
    fake.save_best(policy, run) -- nothing new: no line
    assert.equal(lines, #run.ledger)
  end)

  it("forgets what was measured of weights that were written anew", function()
    local run, _, policy = play({ keep = { best = 1 } }, acc(0.5, 0.9))
    run.epoch, run.metrics = 2, {}
    fake.save(policy, run)
    run.epoch, run.metrics = 3, { acc = 0.6 }
    fake.save(policy, run)
    assert.is_true(fake.save_best(policy, run).result)
  end)
end)

describe("several bests", function()
  local BESTS = { best = { metric = "acc" }, keep = { last = 1, best = 1 },
                  bests = { { name = "loss", metric = "loss", mode = "min", keep = 2 } } }
  local ROWS = { { acc = 0.9, loss = 5 }, { acc = 0.1, loss = 1 }, { acc = 0.2, loss = 2 }, { acc = 0.3, loss = 9 },
                 { acc = NAN, loss = NAN }, { acc = 0.4, loss = 8 } }

  it("have each a pool, an alias and a reason", function()
    local run, results, policy = play(BESTS, ROWS)
    assert.equal("1 2 3 6", epochs_left(run))
    same({ true, false, false, false, false, false }, results)
    assert.equal("model_epoch1.pth", name_of(run, "model_best.pth"))
    assert.equal("model_epoch2.pth", name_of(run, "model_best_loss.pth"))
    same({ { file = "model_epoch1.pth", reasons = { "best #1" } }, { file = "model_epoch2.pth", reasons = { "best loss #1" } },
           { file = "model_epoch3.pth", reasons = { "best loss #2" } }, { file = "model_epoch6.pth", reasons = { "last 1 of 1" } } },
         policy.kept(policy, run))
  end)

  it("are found again in the ledger", function()
    local run = play(BESTS, ROWS)
    local again = fake.run { ledger = run.ledger, files = run.files }
    local policy = policy_of(BESTS)
    again.epoch, again.metrics = 7, { acc = 0.5, loss = 1.5 }
    fake.save(policy, again)
    local plan = fake.save_best(policy, again)
    assert.is_false(plan.result)
    assert.is_nil(plan.file)
    assert.equal("1 2 7", epochs_left(again))
  end)

  it("leave each other's names alone where each best has a name of its own", function()
    local run = play({ best_alias = "acc-{acc:.1f}.pth", keep = { last = 9 },
                       bests = { { name = "loss", metric = "loss", mode = "min", alias = "loss-{loss:.0f}.pth" } } },
                     { { acc = 0.5, loss = 5 }, { acc = 0.6, loss = 6 }, { acc = 0.1, loss = 4 } })
    local names = {}
    for _, file in ipairs(run.files) do
      if not file.name:find "^model" then names[#names + 1] = file.name end
    end
    same({ "acc-0.6.pth", "loss-4.pth" }, names)
  end)

  it("need names, each its own", function()
    refuses("bests[1].name must be a word, not 'nil'", { bests = { { metric = "loss" } } })
    refuses("bests has two of the name 'a'", { bests = { { name = "a", metric = "x" }, { name = "a", metric = "y" } } })
    refuses("bests[1].keep must be a whole number above 0, not '0'", { bests = { { name = "a", metric = "x", keep = 0 } } })
  end)

  it("may each have a function of their own", function()
    local run = play({ bests = { { name = "odd", metric = "n", better = function(now) return now.n % 2 == 1 end } } },
                     { { acc = 1, n = 2 }, { acc = 0, n = 3 }, { acc = 0, n = 4 } })
    assert.equal("model_epoch2.pth", name_of(run, "model_best_odd.pth"))
  end)
end)

describe("a pool", function()
  local function timed(keep, times)
    local rows = {}
    for i, time in ipairs(times) do rows[i] = { acc = 0, time = time } end
    rows[1].acc = 1
    return epochs_left((play({ keep = keep }, rows)))
  end

  it("keeps the first at or behind each multiple, though no save hits one", function()
    local policy = policy_of { keep = { every = { steps = 1000 } }, name = "s{step}.pth" }
    local run, left = fake.run { epoch = 1 }, {}
    for step = 937, 937 * 5, 937 do
      run.step = step
      fake.save(policy, run)
    end
    for _, file in ipairs(run.files) do left[#left + 1] = file.name:match "^s(%d+)" end
    same({ "1874", "2811", "3748", "4685" }, left) -- 1000, 2000, 3000 and 4000; 937 is behind none
  end)

  it("keeps what is so far apart in time, from the oldest on", function()
    assert.equal("1 4 7", timed({ every = { minutes = 10 } }, { 0, 100, 500, 650, 700, 1200, 1250 }))
    assert.equal("1 3 5", timed({ every = { hours = 1.5 } }, { 0, 3600, 5400, 5500, 10800 }))
    assert.equal("1 3 4", timed({ every = { days = 1 } }, { 100000, 100060, 50000, 140000 })) -- the clock was put back
  end)

  it("keeps the newest of each of the latest hours, days, weeks", function()
    assert.equal("1 3 5", timed({ daily = 2 }, { 0, 100, 200, 90000, 90100 }))
    assert.equal("1 2 3", timed({ weekly = 2 }, { 0, 5 * 86400, 8 * 86400 }))
    assert.equal("1 5", timed({ hourly = 1 }, { 0, 10, 20, 3590, 3599 }))
  end)

  it("keeps what was pinned by `ckpt pin` until it is unpinned, in any directory", function()
    local run, _, policy = play({ keep = { last = 1 } }, acc(0.1, 0.2))
    run.ledger[#run.ledger + 1] = fake.entry { event = "pin", file = "model_epoch2.pth", epoch = 2 }
    run = fake.run { dir = "elsewhere", ledger = run.ledger, files = run.files }
    play({ keep = { last = 1 } }, { { epoch = 3, acc = 0.3 }, { epoch = 4, acc = 0.4 } }, run)
    assert.equal("2 4", epochs_left(run))
    same({ file = "model_epoch2.pth", reasons = { "pinned" } }, policy.kept(policy, run)[1])
    run.ledger[#run.ledger + 1] = fake.entry { event = "unpin", file = "model_epoch2.pth", epoch = 2 }
    play({ keep = { last = 1 } }, { { epoch = 5, acc = 0.5 } }, run)
    assert.equal("5", epochs_left(run))
  end)

  it("gives way to the ceiling, the oldest first; the newest, the bests and what is pinned do not", function()
    local fields = { keep = { last = 9, ceiling = 300, pin = { "*_epoch2.pth" } } }
    local run, _, policy = play(fields, acc(0.1, 0.2, 0.9, 0.3, 0.4, 0.5))
    assert.equal("2 3 6", epochs_left(run))
    run.epoch, run.metrics, run.time = 7, { acc = 0.1 }, 420
    local plan = policy.plan_save(policy, run)
    same({ { "model_epoch6.pth" }, { "ceiling = 300" } }, { plan.retire, plan.why })
    assert.equal("2 3 5 6", epochs_left((play({ keep = { last = 9, ceiling = "0.4KB", pin = "*_epoch2.pth" } },
                                              acc(0.1, 0.2, 0.9, 0.3, 0.4, 0.5)))))
    refuses("keep.ceiling must be a number or a size such as '20GB', not 'lots'", { keep = { ceiling = "lots" } })
  end)

  it("says what kept a file until now", function()
    local run, _, policy = play({ keep = { last = 2, best = 1 } }, acc(0.9, 0.1, 0.2))
    run.epoch, run.metrics = 4, { acc = 0.95 }
    local plan = policy.plan_save(policy, run)
    same({ { "model_epoch1.pth", "model_epoch2.pth" }, { "best = 1", "last = 2" } }, { plan.retire, plan.why })
    same({ retire = {}, why = {} }, policy.plan_prune(policy, run))
    policy.keep = { last = 1 }
    same({ retire = { "model_epoch2.pth" }, why = { "no pool wants it" } }, policy.plan_prune(policy, run))
  end)

  it("is one that there is", function()
    refuses("keep.every has no 'epoch'; there are epochs, steps, minutes, hours, days", { keep = { every = { epoch = 3 } } })
    refuses("keep.every.minutes must be a number above 0, not '0'", { keep = { every = { minutes = 0 } } })
    refuses("keep.every must be a table such as { epochs = 10 }", { keep = { every = 10 } })
    refuses("keep.pin must be a list of globs or a function, not boolean", { keep = { pin = true } })
    refuses("keep must be a table or false, not string", { keep = "all" })
  end)

  it("knows the best of what is there", function()
    local run, _, policy = play({ keep = { last = 9 } }, acc(0.1, 0.9, NAN, 0.5))
    table.remove(run.files, fake.has_file(run, "model_epoch2.pth"))
    same({ { file = "model_epoch4.pth", reasons = { "best #1" } }, { file = "model_epoch1.pth", reasons = { "best #2" } } },
         policy.ranking(policy, run))
  end)
end)

describe("when", function()
  local function saved(when, rows)
    local run, list = fake.run {}, {}
    local policy = policy_of { when = when, keep = false, name = "e{epoch}-s{step}.pth" }
    for i, row in ipairs(rows) do
      run.epoch, run.step, run.time, run.signal, run.final = row[1], row[2], row[3] or 60 * i, row.signal, row.final
      run.metrics = { acc = row.acc }
      if fake.save(policy, run).file then list[#list + 1] = i end
      fake.save_best(policy, run)
    end
    return table.concat(list, " "), run
  end
  local function each(n)
    local rows = {}
    for i = 1, n do rows[i] = { i, 10 * i } end
    return rows
  end

  it("is every call without it", function() assert.equal("1 2 3", (saved(nil, each(3)))) end)
  it("is every so many epochs", function() assert.equal("3 6 9", (saved({ epochs = 3 }, each(10)))) end)
  it("is every so many steps, hit or not", function()
    assert.equal("3 6 8", (saved({ steps = 25 }, { { 1, 8 }, { 1, 16 }, { 1, 32 }, { 2, 40 }, { 2, 48 }, { 2, 56 }, { 3, 64 },
                                                   { 3, 80 } })))
  end)
  it("is so long after the last one, and the first", function()
    assert.equal("1 4 6", (saved({ minutes = 5 }, { { 1, 1, 0 }, { 2, 2, 100 }, { 3, 3, 299 }, { 4, 4, 300 }, { 5, 5, 599 },
                                                    { 6, 6, 700 } })))
    assert.equal("1 3", (saved({ hours = 0.5 }, { { 1, 1, 5000 }, { 2, 2, 6000 }, { 3, 3, 4000 } }))) -- the clock went back
  end)
  it("is any of several", function()
    assert.equal("1 4 5", (saved({ epochs = 5, minutes = 3 }, each(5))))
  end)
  it("is a request, and the end, unless it says no", function()
    local rows = { { 1, 1 }, { 2, 2, signal = true }, { 3, 3 }, { 4, 4, final = true } }
    assert.equal("2 4", (saved({ epochs = 10 }, rows)))
    assert.equal("", (saved({ epochs = 10, signal = false, final = false }, rows)))
    assert.equal("2 4", (saved({}, rows)))
  end)
  it("is what a function says", function()
    assert.equal("2 4", (saved(function(run) return run.epoch % 2 == 0 end, each(5))))
  end)
  it("does not keep the best from being saved, unless best = false", function()
    local rows = { { 1, 1, acc = 0.5 }, { 2, 2, acc = 0.9 }, { 3, 3, acc = 0.1 }, { 4, 4, acc = 0.8 } }
    local _, run = saved({ epochs = 4 }, rows)
    local names = {}
    for _, file in ipairs(run.files) do names[#names + 1] = file.name:match "^e(%d)" end
    same({ "1", "2", "4" }, names)
    _, run = saved({ epochs = 4, best = false }, rows)
    same({ "e4-s4.pth", "model_best.pth", "model_latest.pth" }, fake.file_names(run))
  end)
  it("goes on from a run that went back", function()
    assert.equal("3 6 8", (saved({ epochs = 3 }, { { 1, 1 }, { 2, 2 }, { 3, 3 }, { 4, 4 }, { 5, 5 }, { 6, 6 }, { 2, 2 },
                                                  { 3, 3 }, { 4, 4 } })))
  end)
  it("has fields that it knows, and numbers that are some", function()
    local function wrong(sentence, when) assert.error_matches(function() saved(when, each(1)) end, sentence, 1, true) end
    wrong("when has no 'epoch'; there are epochs, steps, minutes, hours, signal, final, best", { epoch = 3 })
    wrong("when.epochs must be a whole number above 0, not '0'", { epochs = 0 })
    wrong("when.minutes must be a number above 0, not '-1'", { minutes = -1 })
    wrong("when must be a table or a function, not string", "always")
  end)
end)

describe("a name", function()
  local function name(template, fields)
    local run = { epoch = 7, step = 70, time = 1764239462, metrics = { acc = 0.5, ["val/acc"] = 0.25 }, options = {} }
    for key, value in pairs(fields or {}) do run[key] = value end
    local policy = policy_of { name = template }
    return policy.plan_save(policy, fake.run(run)).file
  end

  local cases = {
    { "{epoch}-{date}.pth", nil, "7-2025-11-27.pth" },
    { "{epoch}-{date:%y%m%d}-{time:%Hh%M}.pth", nil, "7-251127-10h31.pth" },
    { "{date}-{time}.pth", nil, "2025-11-27-103102.pth" },
    { "{epoch}-{val/acc:.2f}.pth", nil, "7-0.25.pth" },
    { "{epoch}-{infix}.pth", { options = { infix = "a/b\n" } }, "7-a_b_.pth" },
    { "{run}-{epoch}.pth", { options = { run = "baseline" } }, "baseline-7.pth" },
    { "{infix}.pth", nil, "epoch.pth" },
  }
  for _, case in ipairs(cases) do
    it(case[1] .. " is " .. case[3], function() assert.equal(case[3], name(case[1], case[2])) end)
  end

  it("tells saves apart, or is refused", function()
    local function wrong(sentence, template) assert.error_matches(function() name(template) end, sentence, 1, true) end
    wrong("name '{acc:.2f}.pth' can give two saves the same name: it needs {epoch}, {step} or {time}", "{acc:.2f}.pth")
    wrong("can give two saves the same name", "{date}.pth")
    wrong("name '{epoch}-{time:%Q}.pth': a date has no '%Q'", "{epoch}-{time:%Q}.pth")
    wrong("name '{epoch:zz}.pth': invalid conversion", "{epoch:zz}.pth")
  end)

  it("gets the step where an earlier save of the run has it, so that nothing is overwritten", function()
    local run = play({ keep = { last = 9 } }, { { epoch = 1, step = 10, acc = 0.9 }, { epoch = 1, step = 20, acc = 0.1 },
                                                { epoch = 2, step = 30, acc = 0.2 }, { epoch = 2, step = 40, acc = 0.3 } })
    same({ "model_best.pth", "model_epoch1-s20.pth", "model_epoch1.pth", "model_epoch2-s40.pth", "model_epoch2.pth",
           "model_latest.pth" }, fake.file_names(run))
    assert.equal("model_epoch1.pth", name_of(run, "model_best.pth"))
  end)

  it("has the date of any second since long ago", function()
    assert.equal("1969-12-31 23:59:59", dates.format("%Y-%m-%d %H:%M:%S", -1))
    assert.equal("2000-02-29", dates.format("%Y-%m-%d", 951782400))
    for time = -86400 * 300000, 86400 * 800000, 86400 * 997 + 12345 do -- years of four digits
      assert.equal(os.date("!%Y-%m-%d %H:%M:%S", time), dates.format("%Y-%m-%d %H:%M:%S", time))
    end
  end)
end)
