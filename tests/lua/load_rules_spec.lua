-- load_rules_spec.lua: rule sets in a load, and the optimizer's state that follows its parameters through them: values
-- in real arrays.

local ckpt = require "ckpt"
local on = require "support.load_run"
local scratch = require "support.scratch"

local path, filled, state_dict, open, bytes_of = on.path, on.filled, on.state_dict, on.open, on.bytes_of

before_each(on.enter)
after_each(on.leave)

local function statuses(report)
  local list = {}
  for i, e in ipairs(report.entries) do list[i] = e.status end
  return table.concat(list, " ")
end

-- ---- rule sets ----

local FUSE = [[{ map = { id = "fuse", stages = { {
  { gather = { q = "blk.{i}.q.{s}", k = "blk.{i}.k.{s}" }, order = { "q", "k" }, to = "layers.{i}.qk.{s}", op = { { "cat", 0 } } },
  { "blk.{i}.out.weight", to = "layers.{i}.out.weight", op = { { "transpose", 0, 1 } } },
  { "blk.{i}.mask", drop = true },
  { "nothing.{*}", to = "x.{1}" },
} } } }]]

describe("a rule set in a load", function()
  local MODEL = { { "net.layers.0.qk.weight", { 4, 3 } }, { "net.layers.0.out.weight", { 2, 3 } } }
  local FILE = { { "blk.0.q.weight", { 2, 3 } }, { "blk.0.k.weight", { 2, 3 } }, { "blk.0.out.weight", { 3, 2 } },
                 { "blk.0.mask", { 2 } } }

  it("makes tensors of several, and the report tells by which rules", function()
    assert(ckpt.save(path "w.pth", { model = state_dict(FILE) }))
    local cp <close>, bound = open(FUSE, MODEL)
    local report = assert(cp:load())
    assert.same({ 101, 102, 103, 104, 105, 106, 201, 202, 203, 204, 205, 206 }, bound["net.layers.0.qk.weight"]:tolist())
    assert.same({ 301, 303, 305, 302, 304, 306 }, bound["net.layers.0.out.weight"]:tolist())
    assert.same({ "blk.0.q.weight, blk.0.k.weight", "cat(0)", "1.1" },
                { report.entries[1].source, report.entries[1].operations, report.entries[1].rule })
    assert.same({ "transpose(0, 1)", "1.2", { 3, 2 }, { 2, 3 } }, { report.entries[2].operations, report.entries[2].rule,
      report.entries[2].file_shape, report.entries[2].shape })
    assert.same({ { "blk.0.mask (rule 1.3)" }, { "1.4" }, {}, "fuse (by the policy)" },
                { report.dropped, report.unfired, report.unexpected, report.map })
  end)

  it("sees names without the prefixes that were stripped", function()
    local rows = {}
    for i, row in ipairs(FILE) do rows[i] = { "module." .. row[1], row[2] } end
    assert(ckpt.save(path "w.pth", { model = state_dict(rows) }))
    local cp <close>, bound = open(FUSE, MODEL)
    local report = assert(cp:load())
    assert.equal("module.blk.0.q.weight, module.blk.0.k.weight", report.entries[1].source)
    assert.equal(206, bound["net.layers.0.qk.weight"]:get(4, 3))
  end)

  it("with a mistake, or an unmet file, refuses the load and names every problem", function()
    assert(ckpt.save(path "w.pth", { model = state_dict { FILE[1], FILE[4] } }))
    local cp <close>, bound = open(FUSE, MODEL)
    local before = bytes_of(bound)
    local report, message, code, refused = cp:load()
    assert.is_nil(report)
    assert.equal("contract", code)
    assert.matches("rule 1.1", message, 1, true)
    assert.equal(1, #refused.violations)
    assert.same(before, bytes_of(bound))
    cp:close()
    local other <close> = open([[{ map = { id = "bad", stages = { { { "{i", to = "x" }, { "a", to = "b", op = { "melt" } } } } } }]],
                               MODEL)
    local _, _, _, both = other:load()
    assert.equal(2, #both.violations)
  end)

  it("takes variables from the run's options, the policy and the file's config", function()
    local SPLIT = [[{ %s map = { id = "cut", vars = { n = { option = "n", config = "n", default = 1 } }, stages = { {
      { "w", op = { { "slice", 0, 0, "n" } } } } } } }]]
    assert(ckpt.save(path "w.pth", { model = state_dict { { "w", { 3 } } }, config = { n = 3 } }))
    local function load(fields, size, set)
      local cp <close>, bound = open(SPLIT:format(fields), { { "w", { size } } }, { set = set })
      assert(cp:load())
      return bound.w:get(size)
    end
    assert.equal(103, load("", 3))
    assert.equal(102, load("vars = { n = 2 },", 2))
    assert.equal(101, load("vars = { n = 2 },", 1, { n = 1 }))
  end)

  it("may be a file, named by the run's option", function()
    scratch.write(path "mine.lua", 'return { id = "mine", stages = { { { "a.{s}", to = "b.{s}" } } } }')
    assert(ckpt.save(path "w.pth", { model = state_dict { { "a.w", { 2 } } } }))
    local cp <close>, bound = open("{}", { { "b.w", { 2 } } }, { set = { map = path "mine.lua" } })
    assert.equal("mine (by its file)", assert(cp:load()).map)
    assert.same({ 101, 102 }, bound["b.w"]:tolist())
    cp:close()
    local gone <close> = open("{}", { { "b.w", { 2 } } }, { set = { map = path "gone.lua" } })
    local _, message = gone:load()
    assert.equal(path "gone.lua" .. ": there is no such rule file", message)
  end)

  it("is found by its keys, unless more keys fit as they are", function()
    local MAPS = [[{ maps = { { id = "found", detect = { keys = { "a.{s}" } }, stages = { { { "a.{s}", to = "b.{s}" } } } } } }]]
    assert(ckpt.save(path "w.pth", { model = state_dict { { "a.w", { 2 } } } }))
    local cp <close> = open(MAPS, { { "b.w", { 2 } } })
    assert.same({ "found (found by its keys)", "matched" }, { assert(cp:load()).map, statuses(cp:plan_load()) })
    cp:close()
    local plain <close> = open(MAPS, { { "a.w", { 2 } } })
    local report = assert(plain:load())
    assert.same({ nil, "matched" }, { report.map, statuses(report) })
  end)

  it("compares the bytes of what it takes for one tensor", function()
    local TIED = [[{ map = { id = "tied", stages = { { { any = { "head.weight", "emb.weight" }, to = "emb.weight" } } } } }]]
    assert(ckpt.save(path "w.pth", { model = state_dict { { "emb.weight", { 2 } }, { "head.weight", { 2 } } } }))
    local cp <close>, bound = open(TIED, { { "emb.weight", { 2 } } })
    local before = bytes_of(bound)
    local _, message, code = cp:load()
    assert.equal("contract", code)
    assert.matches("stand for one tensor (rule 1.1), but their bytes differ", message, 1, true)
    assert.same(before, bytes_of(bound))
    local one = filled({ 2 }, 7)
    assert(ckpt.save(path "w.pth", { model = { ["emb.weight"] = one, ["head.weight"] = one:clone() } }))
    assert(cp:load())
    assert.same({ 8, 9 }, bound["emb.weight"]:tolist())
  end)
end)

-- ---- the optimizer ----

-- A file with an optimizer whose parameters have names; slots[i] of the i-th parameter, false: no state (frozen).
local function save_with_optimizer(rows, slots, names)
  local state, indices, param_names = {}, {}, {}
  for i, row in ipairs(rows) do
    indices[i], param_names[i] = i - 1, names and names[i] or row[1]
    if slots[i] then state[#state + 1] = { i - 1, slots[i] } end
  end
  local group = { lr = 0.5, params = indices, param_names = names ~= false and param_names or nil }
  assert(ckpt.save(path "w.pth", { epoch = 4, model = state_dict(rows),
                                   optimizer = { state = ckpt.ordered(state), param_groups = { group } } }))
end

local function adam(shape, start, step)
  return { step = ckpt.tensor("float32", {}, { step }), exp_avg = filled(shape, start) }
end

-- Binds exp_avg and step of each model row; gives the tensors by name.
local function bind_slots(cp, rows, group)
  local slots = {}
  for _, row in ipairs(rows) do
    slots[row[1] .. ".exp_avg"], slots[row[1] .. ".step"] = filled(row[2], -7000), ckpt.tensor("float32", {}, { 0 })
    for _, slot in ipairs { "exp_avg", "step" } do
      assert(cp:bind(group or "optimizer", row[1] .. "." .. slot, slots[row[1] .. "." .. slot]))
    end
  end
  return slots
end

local function notes(report)
  local list = {}
  for i, p in ipairs(report.parameters) do
    list[i] = ("%s <- %s %d/%d %s"):format(p.name, p.source, p.moved, p.slots, p.note or "")
  end
  return list
end

describe("the optimizer's state in a load", function()
  local FILE = { { "blk.0.q.weight", { 2, 3 } }, { "blk.0.k.weight", { 2, 3 } }, { "blk.0.out.weight", { 3, 2 } } }
  local MODEL = { { "layers.0.qk.weight", { 4, 3 } }, { "layers.0.out.weight", { 2, 3 } } }

  it("follows its parameters through the rules, scalars go along, options stay", function()
    save_with_optimizer(FILE, { adam({ 2, 3 }, 10, 5), adam({ 2, 3 }, 20, 5), adam({ 3, 2 }, 30, 6) })
    local cp <close> = open(FUSE:gsub("^{", "{ optimizer = true,"), MODEL)
    local slots = bind_slots(cp, MODEL)
    assert(cp:set("optimizer", "lr", 0.1))
    local report = assert(cp:load())
    assert.same({ 11, 12, 13, 14, 15, 16, 21, 22, 23, 24, 25, 26 }, slots["layers.0.qk.weight.exp_avg"]:tolist())
    assert.same({ 31, 33, 35, 32, 34, 36 }, slots["layers.0.out.weight.exp_avg"]:tolist())
    assert.same({ 5, 6, 0.1 }, { slots["layers.0.qk.weight.step"]:item(), slots["layers.0.out.weight.step"]:item(),
      cp:get("optimizer", "lr") })
    assert.same({ "layers.0.qk.weight <- blk.0.q.weight 2/2 ", "layers.0.out.weight <- blk.0.out.weight 2/2 " }, notes(report))
  end)

  it("is left alone in a pre-training that does not ask for it", function()
    save_with_optimizer(FILE, { adam({ 2, 3 }, 10, 5), adam({ 2, 3 }, 20, 5), adam({ 3, 2 }, 30, 6) })
    local cp <close> = open(FUSE, MODEL)
    local slots = bind_slots(cp, MODEL)
    local before = bytes_of(slots)
    assert.same({}, assert(cp:load()).parameters)
    assert.same(before, bytes_of(slots))
  end)

  local reported = {
    { "a parameter that was frozen in the file", slots = { true, true, false },
      note = "layers.0.out.weight <- blk.0.out.weight 0/2 the file has no state for it" },
    { "one of several sources without state", slots = { true, false, true },
      note = "layers.0.qk.weight <- blk.0.q.weight 1/2 the file has no state for one of its sources" },
    { "names that the file's optimizer does not know", slots = { true, true, true }, names = { "x", "y", "z" },
      note = "layers.0.out.weight <- blk.0.out.weight 0/2 the file's optimizer has no parameter of that name" },
    { "a rule that computes", slots = { true, true, true }, scale = true,
      note = "layers.0.out.weight <- blk.0.out.weight 1/2 its rule computes new values, which a moment cannot follow" },
  }
  for _, case in ipairs(reported) do
    it("reports " .. case[1], function()
      local slots = {}
      for i, row in ipairs(FILE) do slots[i] = case.slots[i] and adam(row[2], 10 * i, i) end
      save_with_optimizer(FILE, slots, case.names)
      local fields = FUSE:gsub("^{", "{ optimizer = true,")
      if case.scale then fields = fields:gsub('{ "transpose", 0, 1 }', '%0, { "scale", 2 }') end
      local cp <close> = open(fields, MODEL)
      bind_slots(cp, MODEL)
      local report = assert(cp:load())
      local found = false
      for _, note in ipairs(notes(report)) do found = found or note:find(case.note, 1, true) ~= nil end
      assert.is_true(found, table.concat(notes(report), "\n"))
    end)
  end

  it("overlaps like its parameter, and a reset head starts afresh", function()
    local rows = { { "head.weight", { 2, 3 } }, { "last.weight", { 2 } } }
    save_with_optimizer(rows, { adam({ 2, 3 }, 10, 5), adam({ 2 }, 20, 5) })
    local model = { { "head.weight", { 3, 2 } }, { "last.weight", { 2 } } }
    local cp <close> = open('{ optimizer = true, on_mismatch = "overlap", reset = { "last.*" } }', model)
    local slots = bind_slots(cp, model)
    local report = assert(cp:load())
    assert.same({ 11, 12, 14, 15, -6995, -6994 }, slots["head.weight.exp_avg"]:tolist())
    assert.same({ -6999, -6998 }, slots["last.weight.exp_avg"]:tolist())
    assert.same({ "head.weight <- head.weight 2/2 ", "last.weight <- nil 0/2 the parameter itself is not loaded" }, notes(report))
  end)

  it("of a file without names is matched by place", function()
    local rows = { { "a", { 2 } }, { "b", { 2 } } }
    save_with_optimizer(rows, { adam({ 2 }, 10, 5), adam({ 2 }, 20, 6) }, false)
    local cp <close> = open("{ optimizer = true }", rows)
    local slots = bind_slots(cp, rows)
    assert(cp:load())
    assert.same({ 11, 12 }, slots["a.exp_avg"]:tolist())
    assert.equal(6, slots["b.step"]:item())
  end)

  it("that the file does not have is a violation", function()
    assert(ckpt.save(path "w.pth", { model = state_dict { { "a", { 2 } } } }))
    local cp <close> = open("{ optimizer = true }", { { "a", { 2 } } })
    bind_slots(cp, { { "a", { 2 } } })
    local _, message = cp:load()
    assert.equal(path "w.pth" .. ": load.optimizer is set, but the file has no 'optimizer'", message)
  end)

  it("follows a renaming on a resume too, with its options", function()
    local rows = { { "old.weight", { 2 } }, { "b", { 2 } } }
    save_with_optimizer(rows, { adam({ 2 }, 10, 5), adam({ 2 }, 20, 6) })
    local model = { { "new.weight", { 2 } }, { "b", { 2 } } }
    local policy = ([[return { resume = { %q }, load = { map = { resume = { id = "renamed",
      table = { { "old.weight", "new.weight" }, { "b", "b" } } } } } }]]):format(path "w.pth")
    local cp <close>, bound = open(nil, model, { policy = policy, weights = "", auto_resume = true })
    local slots = bind_slots(cp, model)
    assert(cp:set("optimizer", "lr", 0.1))
    local report = assert(cp:load())
    assert.equal("resume", report.mode)
    assert.same({ 101, 102 }, bound["new.weight"]:tolist())
    assert.same({ 11, 12 }, slots["new.weight.exp_avg"]:tolist())
    assert.same({ 5, 0.5, 5 }, { slots["new.weight.step"]:item(), cp:get("optimizer", "lr"), cp:next_epoch() })
    assert.same({ "new.weight <- old.weight 2/2 ", "b <- b 2/2 " }, notes(report))
  end)
end)
