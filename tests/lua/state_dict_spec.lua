-- state_dict_spec.lua: state dicts: found in files, built, renamed, and what they leave out.
local ckpt = require "ckpt"
local python = require "support.python"
local scratch = require "support.scratch"
local gate = require "support.gate"

local function tensor(x) return assert(ckpt.tensor("float32", { 1 }, { x or 0 })) end

local function sd_of(...)
  local rows = {}
  for i, name in ipairs { ... } do rows[i] = { name, tensor(i) } end
  return ckpt.state_dict(rows)
end

-- name=first element, in order
local function shown(sd)
  local out = {}
  for name, t in pairs(sd) do out[#out + 1] = ("%s=%d"):format(name, t:tolist()[1]) end
  return table.concat(out, " ")
end

describe("a state dict", function()
  local dir

  before_each(function() dir = scratch.dir() end)
  after_each(function()
    scratch.remove(dir)
    gate()
  end)

  local function file(value)
    assert(ckpt.save(dir .. "/file.pth", value))
    return dir .. "/file.pth"
  end

  it("is built of rows and keeps their order", function()
    local sd = sd_of("z", "a", "m")
    assert.equal("z=1 a=2 m=3", shown(sd))
    assert.equal(3, #sd)
    assert.same({ "z", "a", "m" }, ckpt.keys(sd))
    assert.equal(2, sd.a:tolist()[1])
    assert.is_nil(sd.x)
    assert.is_nil(sd[1])
    assert.equal("state dict of 3 tensors", tostring(sd))
    assert.equal(0, #ckpt.state_dict())
    assert.equal(0, #ckpt.state_dict {})
    for _, rows in ipairs { { 5 }, { { "a" } }, { { 1, tensor() } }, { { "a", 5 } }, { a = tensor(), { "b", tensor() } },
                            { w = tensor() } } do
      assert.error_matches(function() ckpt.state_dict(rows) end, "a list of {name, tensor} expected")
    end
    assert.error_matches(function() ckpt.state_dict { { "a\0b", tensor() } } end, "NUL")
  end)

  it("takes, replaces and gives away tensors", function()
    local sd = sd_of("a", "b")
    sd.c = tensor(7)
    sd.a = tensor(8)
    sd.b = nil
    sd.b = nil
    assert.equal("a=8 c=7", shown(sd))
    assert.is_true(ckpt.remove(sd, "a"))
    assert.is_false(ckpt.remove(sd, "a"))
    assert.equal("c=7", shown(sd))
    assert.has_error(function() sd.d = 5 end)
    assert.has_error(function() ckpt.remove(sd) end)
  end)

  it("renames one entry in its place", function()
    local sd = sd_of("a", "b", "c")
    assert.is_true(ckpt.rename(sd, "b", "x"))
    assert.is_true(ckpt.rename(sd, "a", "a"))
    assert.equal("a=1 x=2 c=3", shown(sd))
    assert.same({ nil, "there is no 'b'", "notfound" }, { ckpt.rename(sd, "b", "y") })
    assert.same({ nil, "two entries would be named 'c'", "exists" }, { ckpt.rename(sd, "a", "c") })
    assert.equal("a=1 x=2 c=3", shown(sd))
    assert.has_error(function() ckpt.rename(sd, "a") end)
    assert.error_matches(function() ckpt.rename({}, "a", "b") end, "ckpt.value expected")
    assert.error_matches(function() ckpt.rename(ckpt.value { 1 }, "a", "b") end, "a dict or a state dict expected")
  end)

  it("strips and adds prefixes", function()
    local sd = sd_of("module.a", "module.module.b", "c", "module.")
    assert.equal(2, ckpt.strip_prefix(sd, "module."))
    assert.equal("a=1 module.b=2 c=3 module.=4", shown(sd))
    assert.equal(0, ckpt.strip_prefix(sd, "x."))
    assert.equal(4, ckpt.add_prefix(sd, "p."))
    assert.equal("p.a=1 p.module.b=2 p.c=3 p.module.=4", shown(sd))
    assert.equal(1, #sd["p.a"].shape)
    local clash = sd_of("module.a", "b", "a")
    assert.same({ nil, "two entries would be named 'a'", "exists" }, { ckpt.strip_prefix(clash, "module.") })
    assert.equal("module.a=1 b=2 a=3", shown(clash))
  end)

  it("renames the keys of a dict of a checkpoint as well", function()
    local d = ckpt.value(ckpt.ordered { { "module.a", 1 }, { 5, 2 }, { "b", 3 }, { "module.nul\0", 4 } })
    assert.equal(2, ckpt.strip_prefix(d, "module."))
    assert.equal("{'a': 1, 5: 2, 'b': 3, 'nul\\x00': 4}", tostring(d))
    assert.equal(3, ckpt.add_prefix(d, "m."))
    assert.is_true(ckpt.rename(d, "m.b", "x"))
    assert.equal("{'m.a': 1, 5: 2, 'x': 3, 'm.nul\\x00': 4}", tostring(d))
    assert.equal(3, d.x)
    assert.is_nil(d["m.b"])
    local result, message, code = ckpt.rename(d, "x", "m.a")
    assert.same({ nil, "two keys would become 'm.a'", "exists" }, { result, message, code })
    assert.equal(3, d.x)
    local many = ckpt.value(ckpt.dict {})
    for i = 1, 100 do many["module.k" .. i] = i end
    assert.equal(100, ckpt.strip_prefix(many, "module."))
    for i = 1, 100 do assert.equal(i, many["k" .. i]) end
  end)

  it("is found where people keep it, and tells where", function()
    local sd = sd_of("w", "b")
    for _, key in ipairs { "state_dict", "model_state_dict", "model", "module", "network", "net", "params", "ema" } do
      local found, skipped, where = ckpt.state_dict(file { [key] = sd, epoch = 3, optimizer = { 1 } })
      assert.equal("w=1 b=2", shown(found))
      assert.same({}, skipped)
      assert.equal(key, where)
    end
    local path = file { model = { state_dict = sd } }
    assert.equal("model.state_dict", select(3, ckpt.state_dict(path)))
    local cp <close> = assert(ckpt.open(path))
    assert.equal("model.state_dict", select(3, cp:state_dict()))
    assert.equal("model.state_dict", select(3, ckpt.state_dict(cp)))
    assert.equal("model.state_dict", select(3, ckpt.state_dict(cp:at(""))))
    assert.equal("", select(3, ckpt.state_dict(ckpt.dict { w = tensor() })))
    assert.equal("b=2 w=1", shown(ckpt.state_dict(ckpt.dict { w = sd.w, b = sd.b })))
  end)

  it("is taken from where it is told", function()
    local path = file { model = sd_of("a"), other = { ema = sd_of("b") }, list = { 1 } }
    local sd, skipped, where = ckpt.state_dict(path, "other.ema")
    assert.same({ "b=1", "other.ema" }, { shown(sd), where })
    assert.same({}, skipped)
    assert.same({ nil, "the checkpoint has no 'nothing'", "notfound" }, { ckpt.state_dict(path, "nothing") })
    local none, message, code = ckpt.state_dict(path, "list")
    assert.same({ nil, "a value of kind list where a state dict was expected", "type" }, { none, message, code })
    local cp <close> = assert(ckpt.open(path))
    sd, skipped, where = cp:state_dict ""
    assert.equal(0, #sd)
    assert.same({ "list", "model", "other" }, skipped)
    assert.equal("", where)
    assert.same({ nil, "the checkpoint has no 'x'", "notfound" }, { cp:state_dict "x" })
  end)

  it("names what it leaves out", function()
    local sd, skipped = ckpt.state_dict(file { state_dict = ckpt.ordered {
      { "w", tensor(1) }, { "extra", ckpt.dict {} }, { 5, "five" }, { ckpt.tuple { 1 }, 1 }, { "b", tensor(2) },
    } })
    assert.equal("w=1 b=2", shown(sd))
    assert.same({ "extra", "5", "(1,)" }, skipped)
    local _, message, code = ckpt.state_dict(file { state_dict = ckpt.items { { "w", tensor() }, { 5, tensor() } } })
    assert.equal("key 1 of the dict is of kind int, a state dict has names only", message)
    assert.equal("type", code)
  end)

  it("is refused with the keys that are there", function()
    assert.same({ nil, "no state dict is at the top level; the keys there are 'epoch', 'optimizer'", "notfound" },
                { ckpt.state_dict(file { epoch = 1, optimizer = { state = { 1 } } }) })
    assert.same({ nil, "several state dicts are there, none under a usual key: 'a', 'b'", "notfound" },
                { ckpt.state_dict(file { a = sd_of("w"), b = sd_of("w"), c = 1 }) })
    assert.same({ nil, "a list, in which no state dict is", "notfound" }, { ckpt.state_dict(file { 1 }) })
    assert.equal("notfound", select(3, ckpt.state_dict(dir .. "/none.pth")))
    assert.has_error(function() ckpt.state_dict("a\0b") end)
    assert.has_error(function() ckpt.state_dict(print) end)
  end)

  it("is the state dict of a module that was saved whole", function()
    local sd, skipped, where = ckpt.state_dict("tests/data/module.pth")
    local cp <close> = assert(ckpt.open("tests/data/module.pth"))
    assert.equal("net", where)
    assert.same({}, skipped)
    assert.same(ckpt.totable(cp:at("names")), ckpt.keys(sd))
    assert.is_true(sd["0.weight"]:shares_storage(sd["again.weight"]))
  end)

  it("is a dict of tensors for PyTorch", function()
    if not python.torch() then return pending "no PyTorch" end
    local sd = assert(ckpt.state_dict("tests/data/module.pth"))
    ckpt.add_prefix(sd, "net.")
    assert(ckpt.save(dir .. "/sd.pth", { state_dict = sd }))
    local output = python.run(dir, [[
d = torch.load("sd.pth")["state_dict"]
assert list(d)[0] == "net.0.weight" and d["net.0.weight"] is d["net.again.weight"], list(d)
print("right")
]])
    assert.equal("right\n", output:match("[^\n]*\n$"))
  end)
end)
