-- simulate_spec.lua: `ckpt simulate`: what it shows, what logs it reads, and that it does what a run does.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"

local path, says, refuses, json = cli.path, cli.says, cli.refuses, cli.json

local function write(name, text) scratch.write(path(name), text) end

local LOG = [[
epoch,acc,loss
1,.5,3
2,.6,2
3,.6,1
4,nan,
5,.4,1.5
6,.7,0.5
]]

before_each(cli.enter)
after_each(cli.leave)

describe("simulate", function()
  it("shows every save, best and removal, and why", function()
    write("log.csv", LOG)
    write("p.lua", "return { keep = { last = 2, best = 1 } }")
    assert.equal([[
 epoch  acc  loss  decision
     1  0.5     3  save, best (first)
     2  0.6     2  save, best (+0.1)
     3  0.6     1  save, best (equal, the later wins)  retire epoch 1: last = 2
     4  nan     -  save, not best: acc is nan          retire epoch 2: last = 2
     5  0.4   1.5  save, not best: no gain on 0.6000
     6  0.7   0.5  save, best (+0.1)                   retire epoch 3: best = 1; retire epoch 4: last = 2
best: epoch 6. At most 4 files, 1.6 MB on disk at once.
kept at the end:
  model_epoch5.pth  last 2 of 2
  model_epoch6.pth  best #1, last 1 of 2
]], says(0, "simulate", "@log.csv", "--policy", "@p.lua", "--bytes", "411838"))
  end)

  it("shows another policy's defects: with Pet's, NaN removes the best", function()
    write("log.csv", LOG)
    local value = json(0, "simulate", "@log.csv", "--policy", "pet", "--json")
    local nan = value.rows[4].save_best
    assert.same({ "model_epoch4- nan.pth", true, "model_epoch3-0.60.pth" }, { nan.file, nan.result, nan.retire[1].file })
    assert.equal("model_epoch5-0.40.pth", value.rows[5].save_best.file)
  end)

  it("tells as JSON what it did, in the words of the plans", function()
    write("log.csv", "epoch,step,time,acc\n3,30,2025-11-27T10:31:02Z,0.5\n4,40,2025-11-27 11:31:02,inf\n")
    local value = json(0, "simulate", "@log.csv", "--json", "--bytes", "10")
    local first, second = value.rows[1], value.rows[2]
    assert.same({ 3, 30, 1764239462 }, { first.epoch, first.step, first.time })
    assert.equal(1764243062, second.time)
    assert.same({ acc = "inf" }, second.metrics)
    assert.same({ "model_epoch3.pth", { "model_latest.pth" }, {} }, { first.save.file, first.save.aliases, first.save.retire })
    assert.same({ true, true, "first" }, { first.save_best.reuse, first.save_best.result, first.save_best.reason })
    assert.equal("acc is inf, which is never better", second.save_best.reason)
    assert.same({ file = "model_epoch3.pth", epoch = 3 }, value.best)
    assert.same({ 2, 20, {} }, { value.most_files, value.most_bytes, value.warnings })
    assert.same({ file = "model_epoch4.pth", why = "last 1 of 3" }, value.kept[2])
  end)

  it("follows triggers: the last row is the end of the run", function()
    write("p.lua", "return { when = { epochs = 3 }, best = { metric = 'none' } }")
    write("log.csv", "acc\n1\n2\n3\n4\n5\n")
    local function saved(...)
      local list = {}
      for i, row in ipairs(json(0, "simulate", "@log.csv", "--policy", "@p.lua", "--json", ...).rows) do
        if type(row.save.file) == "string" then list[#list + 1] = i end
      end
      return table.concat(list, " ")
    end
    assert.equal("3 5", saved())
    assert.equal("3", saved "--unfinished")
    assert.matches("\n     1    1  not due\n", says(0, "simulate", "@log.csv", "--policy", "@p.lua"), 1, true)
  end)

  it("goes on from a run that is there, and does not touch it", function()
    write("p.lua", "return { keep = { last = 1, best = 1 } }")
    do
      local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "p.lua" })
      assert(cp:bind("model", "w", ckpt.tensor("float32", { 4 })))
      cp:set_metric("acc", 0.9)
      assert(cp:save(1) and cp:save_best(1))
    end
    local before = scratch.names(path "run")
    write("log.csv", "epoch,acc\n2,.1\n3,.95\n")
    local value = json(0, "simulate", "@log.csv", "--policy", "@p.lua", "--dir", "@run", "--json")
    assert.equal("model_epoch1.pth", value.rows[2].save.retire[1].file)
    assert.equal("best = 1", value.rows[2].save.retire[1].why)
    assert.is_true(value.most_bytes > 3000)
    assert.same(before, scratch.names(path "run"))
    assert.matches("Nothing in @run was changed.", says(0, "simulate", "@log.csv", "--dir", "@run"), 1, true)
    refuses(3, "@none: there is no such directory", "simulate", "@log.csv", "--dir", "@none")
  end)

  it("exits with 1 where the policy fails, and shows what is done then", function()
    write("log.csv", "acc\n1\n2\n")
    write("p.lua", "return { plan_save = function(_, run) if run.epoch == 2 then error 'no' end\n" ..
      "return { file = run.epoch .. '.pth', aliases = {}, retire = {} } end }")
    local out, err, status = cli.run("simulate", "@log.csv", "--policy", "@p.lua")
    assert.equal(1, status)
    assert.matches("^ckpt: epoch 2: %S+p.lua:1: no: checkpoint saved, nothing deleted\n$", err)
    assert.matches("model_epoch2.pth", out, 1, true)
    refuses(3, "nonesuch: there is no such policy file, nor a built-in policy of that name (built in: default, pet)",
      "simulate", "@log.csv", "--policy", "nonesuch")
  end)

  it("does what a run does", function()
    write("log.csv", LOG)
    write("p.lua", "return { keep = { last = 1, best = 2, every = { epochs = 4 } }, best = { metric = 'loss', mode = 'min' } }")
    local value = json(0, "simulate", "@log.csv", "--policy", "@p.lua", "--json")
    local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "p.lua" })
    assert(cp:bind("model", "w", ckpt.tensor("float32", { 4 })))
    for _, row in ipairs(value.rows) do
      for name, metric in pairs(row.metrics) do cp:set_metric(name, tonumber(metric) or 0 / 0) end
      assert(cp:save(row.epoch))
      assert(cp:save_best(row.epoch) == row.save_best.result)
    end
    local names = {}
    for i, item in ipairs(assert(cp:kept())) do names[i] = item.file .. " " .. item.why end
    for i, item in ipairs(value.kept) do value.kept[i] = item.file .. " " .. item.why end
    assert.same(value.kept, names)
    assert.equal(3, #names)
  end)
end)

describe("a log", function()
  local function rows_of(text)
    write("log.csv", text)
    local list = {}
    for i, row in ipairs(json(0, "simulate", "@log.csv", "--json").rows) do
      list[i] = ("%d:%s:%s"):format(row.epoch, row.step or "-", row.metrics.acc == nil and "-" or row.metrics.acc)
    end
    return table.concat(list, " ")
  end

  local cases = {
    { "without epochs counts rows", "acc\n.5\n.6\n", "1:-:0.5 2:-:0.6" },
    { "has empty cells, blanks, short rows, empty lines", "epoch, acc ,x\n1, .5 ,\n\n2\n 3 ,,\n", "1:-:0.5 2:-:- 3:-:-" },
    { "has CRLF, a byte order mark, no newline at its end", "\xEF\xBB\xBFepoch,acc\r\n1,.5\r\n2,.25", "1:-:0.5 2:-:0.25" },
    { "has quoted cells", '"epoch","a ""b"", c","acc"\n"1","2","0.5"\n', "1:-:0.5" },
    { "has tabs", "epoch\tacc\n1\t0.5\n", "1:-:0.5" },
    { "has semicolons", "epoch;acc\n1;0.5\n", "1:-:0.5" },
    { "has NaN and infinities in any case", "acc\nNaN\nInf\n-inf\nInfinity\n", "1:-:nan 2:-:inf 3:-:-inf 4:-:inf" },
    { "has whole numbers with a point", "epoch,acc\n1.0,1e-3\n2e0,-5\n", "1:-:0.001 2:-:-5" },
    { "has several rows for one save, as Lightning's", "epoch,step,loss,acc\n0,10,.3,\n0,10,,.5\n1,20,.2,\n", "0:10:0.5 1:20:-" },
  }
  for _, case in ipairs(cases) do
    it(case[1], function() assert.equal(case[3], rows_of(case[2])) end)
  end

  it("may hold columns without numbers, which are named", function()
    write("log.csv", "epoch,acc,note\n1,.5,warm up\n2,.6,ok\n")
    assert.matches("columns without numbers: note\n", says(0, "simulate", "@log.csv"), 1, true)
  end)

  it("that is wrong is told with its line", function()
    local wrong = {
      { "@log.csv: no line of column names", "" },
      { "@log.csv: no rows under its column names", "epoch,acc\n" },
      { "@log.csv:3: column 'acc': 'much' is not a number", "epoch,acc\n1,.5\n2,much\n" },
      { "@log.csv:3: column 'acc': '0x10' is not a number", "epoch,acc\n1,.5\n2,0x10\n" },
      { "@log.csv:2: column 'epoch': '1.5' is not a whole number", "epoch,acc\n1.5,.5\n" },
      { "@log.csv:2: column 'time': 'noon' is not seconds, or a date such as 2026-11-27T10:31:02", "time,acc\nnoon,.5\n" },
      { "@log.csv:2: 3 cells under 2 columns", "epoch,acc\n1,2,3\n" },
      { "@log.csv:1: two columns are called 'acc'", "acc,acc\n1,2\n" },
      { "@log.csv:1: column 2 has no name", "acc,\n1,2\n" },
      { "@log.csv:2: a quoted cell does not end", 'acc\n"1\n' },
      { "@log.csv:2: text behind a quoted cell", 'acc\n"1"2\n' },
    }
    for _, case in ipairs(wrong) do
      write("log.csv", case[2])
      refuses(3, case[1], "simulate", "@log.csv")
    end
    refuses(3, "@none.csv: No such file or directory", "simulate", "@none.csv")
    refuses(2, "'x' is not a whole number (see: ckpt simulate --help)", "simulate", "@log.csv", "--bytes", "x")
  end)
end)
