-- module_spec.lua: what is left of the module: names and versions, alignment, the fields of tensors and checkpoints.
local ckpt = require "ckpt"
local scratch = require "support.scratch"
local gate = require "support.gate"

describe("the module", function()
  after_each(gate)

  it("tells its version, its dtypes and its names", function()
    assert.matches("^%d+%.%d+%.%d+$", ckpt.version)
    assert.equal("uint8", ckpt.dtypes[1])
    for _, name in ipairs(ckpt.dtypes) do assert.equal(name, ckpt.dtype(ckpt.value(ckpt.dtype(name)))) end
    local api = ckpt.api()
    local found = {}
    for _, name in ipairs(api.functions) do
      assert.equal("function", type(ckpt[name]), name)
      found[name] = true
    end
    for name, value in pairs(ckpt) do assert.equal(type(value) == "function", found[name] or false, name) end
    assert.same({ "dtypes", "none", "version" }, api.fields)
  end)

  it("counts what lives", function()
    local before = ckpt.live()
    local d = ckpt.value { 1 }
    assert.equal(before + 1, ckpt.live())
    local inner <close> = ckpt.value { d }
    assert.equal(before + 2, ckpt.live())
    assert.equal("[[1]]", tostring(inner))
  end)

  it("aligns names by their suffixes", function()
    local targets = { "backbone.conv1.weight", "backbone.fc.weight", "other" }
    assert.same({ 1, 2, false }, ckpt.align(targets, { "conv1.weight", "weight" }))
    assert.same({ 1, false, false }, ckpt.align(targets, { "conv1.weight", "eight" }, "."))
    assert.error_matches(function() ckpt.align({ 1 }, {}) end, "every entry must be a string")
  end)

  it("gives the fields of tensors", function()
    local t = ckpt.tensor("int16", { 2, 3 }, { 1, 2, 3, 4, 5, 6 })
    assert.same({ "int16", 2, 6, 12, 0, false }, { t.dtype, t.ndim, t.numel, t.nbytes, t.offset, t.requires_grad })
    assert.is_true(t:is_contiguous())
    assert.is_false(t:is_meta())
    assert.is_false(t:clone():shares_storage(t))
    assert.same({ 2, 1, 5, 4 }, t:index_select(2, { 2, 1 }):tolist())
  end)

  it("gives the fields of checkpoints and verifies them", function()
    local path = "tests/data/values.pth"
    local cp <close> = assert(ckpt.open(path))
    assert.same({ "torch-zip", path, #scratch.read(path) }, { cp.format, cp.path, cp.bytes })
    assert.is_true(cp:verify())
    assert.equal("checkpoint tests/data/values.pth", tostring(cp))
    local tensors, objects = cp:list()
    assert.equal("weight", tensors[4].name)
    assert.equal("argparse.Namespace", objects[2].class)
    assert.equal(-7, cp:at("int"))
    assert.is_nil(cp:at("nothing"))
  end)

  it("passes options of a run to its policy", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    scratch.write(dir .. "/policy.lua", [[
return { plan_save = function(_, run) return { file = run.options.name .. ".pth", aliases = {}, retire = {} } end,
         plan_load = function() return nil end }
]])
    local run <close> = assert(ckpt.checkpointer { dir = dir .. "/run", policy = dir .. "/policy.lua" })
    assert(run:set_option("name", "told"))
    assert(run:save(1))
    assert.same({ "told.pth" }, { scratch.names(dir .. "/run")[2] })
  end)
end)
