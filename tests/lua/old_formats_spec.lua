-- old_formats_spec.lua: legacy streams, tar and bare pickles from Lua: which save of several, what follows the last one,
-- state dicts inside whole modules, the source of their classes, and conversion.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local function path(name) return os.getenv("CKPT_TOP") .. "/tests/data/old/" .. name end

local function open(name, options) return assert(ckpt.open(path(name), options)) end

-- The whole of it in comparable form: Python's repr, and digests of all tensors.
local function digest(cp)
  local words = { tostring(cp:at()) }
  for _, entry in ipairs(cp:list()) do
    words[#words + 1] = ("%s %s %d %s"):format(entry.name, entry.tensor.dtype, entry.storage, entry.tensor:sha256())
  end
  return table.concat(words, "\n")
end

describe("a file of several saves", function()
  after_each(gate)

  it("opens at the first", function()
    local cp <close> = open "two_saves.pth"
    assert.equal("torch-legacy", cp.format)
    assert.equal(2, cp.saves)
    assert.equal(0, cp.trailing)
    assert.equal(1, cp:at("epoch"))
    assert.same({ 1, 2 }, cp:at("w"):tolist())
  end)

  it("opens at the one that is asked for", function()
    local cp <close> = open("two_saves.pth", { save = 2, verify = true })
    assert.equal(2, cp:at("epoch"))
    assert.same({ 3, 4 }, cp:at("w"):tolist())
    local list <close> = open("several.pkl", { save = 3 })
    assert.equal(3, list.saves)
    assert.equal("list", ckpt.type(list:at()))
  end)

  it("has no more than it has", function()
    for _, row in ipairs { { "two_saves.pth", 3, "the file holds 2" }, { "tar.pth", 2, "the file holds 1 only" },
                           { "bare_protocol0.pkl", 2, "the file holds 1 only" } } do
      local cp, message, code = ckpt.open(path(row[1]), { save = row[2] })
      assert.is_nil(cp)
      assert.equal("notfound", code)
      assert.equal(path(row[1]) .. (": there is no save %d: "):format(row[2]) .. row[3], message)
    end
  end)

  it("counts from 1", function()
    for _, save in ipairs { 0, -1, 1.5, "one" } do
      assert.has_error(function() ckpt.open(path "two_saves.pth", { save = save }) end)
    end
  end)

  it("may end with bytes that are none, or a save that is cut off", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    local whole = scratch.read(path "two_saves.pth")
    scratch.write(dir .. "/junk.pth", whole .. "junk")
    scratch.write(dir .. "/cut.pth", whole:sub(1, -2))
    local junk <close> = assert(ckpt.open(dir .. "/junk.pth", { verify = true }))
    assert.equal(2, junk.saves)
    assert.equal(4, junk.trailing)
    local cut <close> = assert(ckpt.open(dir .. "/cut.pth"))
    assert.equal(1, cut.saves)
    assert.equal(#whole // 2 - 1, cut.trailing)
    local good, message, code = cut:verify()
    assert.is_nil(good)
    assert.equal("corrupt", code)
    assert.equal("file+0x26c: storage '7' needs 8 bytes, the file has 7 more: it is cut off", message)
  end)
end)

describe("an old file", function()
  after_each(gate)

  it("of a whole module gives its state dict and its source", function()
    local cp <close> = open "python2.pth"
    local sd = assert(cp:state_dict("model._parameters"))
    assert.equal(2, #sd)
    assert.same({ 1, 2, 3, 4 }, sd.weight:tolist())
    assert.is_true(sd.weight.requires_grad)
    assert.is_false(sd.frozen.requires_grad)
    local source, file = cp:source("model")
    assert.equal("class Net(nn.Module): pass\n", source)
    assert.equal("/home/me/oldnet.py", file)
    assert.is_nil(cp:source("old"))
    assert.is_nil(cp:source("nothing"))
    local tar <close> = open "tar.pth"
    assert.equal("class Net(nn.Module): pass\n", (tar:source("net")))
  end)

  it("is what it was when it is written anew", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    for _, name in ipairs(scratch.names(path "")) do
      local cp <close> = open(name)
      assert(ckpt.save(dir .. "/new.pth", cp))
      local new <close> = assert(ckpt.open(dir .. "/new.pth", { verify = true }))
      assert.equal("torch-zip", new.format)
      assert.equal(digest(cp), digest(new), name)
    end
  end)
end)
