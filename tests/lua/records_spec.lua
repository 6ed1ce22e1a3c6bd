-- records_spec.lua: what a file is made of, from Lua: its records and their checksums, everything in it with its path.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local dir, path

setup(function()
  dir = scratch.dir()
  path = dir .. "/a.pth"
  local w = ckpt.tensor("float32", { 2 }, { 1, 2 })
  assert(ckpt.save(path, { model = { w = w, tied = w }, epoch = 3, tags = { "x" } }))
end)

teardown(function() scratch.remove(dir) end)

-- Changes one byte of the record's payload: the first 1.0 of the file.
local function spoil()
  local file <close> = assert(io.open(path, "rb"))
  local text = file:read("a")
  local at = assert(text:find("\0\0\x80\x3f\0\0\0\x40", 1, true))
  local bad = dir .. "/bad.pth"
  local out <close> = assert(io.open(bad, "wb"))
  out:write(text:sub(1, at - 1), "\1", text:sub(at + 1))
  return bad
end

describe("the records of a zip file", function()
  after_each(gate)

  it("are listed with their sizes and checksums, and each can be checked", function()
    local cp <close> = assert(ckpt.open(path))
    local records, by_name = cp:records(), {}
    for i, record in ipairs(records) do
      by_name[record.name] = record
      assert.is_true(cp:check_record(i))
    end
    assert.equal(8, by_name["a/data/0"].bytes)
    assert.equal(2, by_name["a/version"].bytes)
    assert.equal("integer", math.type(by_name["a/data/0"].crc))
    assert.is_true(cp:check_contents())
  end)

  it("that do not fit their checksum are named", function()
    local cp <close> = assert(ckpt.open(spoil()))
    for i, record in ipairs(cp:records()) do
      local ok, message, code = cp:check_record(i)
      if record.name == "a/data/0" then
        assert.is_nil(ok)
        assert.equal("corrupt", code)
        assert.matches("data/0", message, 1, true)
      else
        assert.is_true(ok)
      end
    end
  end)
end)

describe("the entries of a checkpoint", function()
  after_each(gate)

  it("are everything in it, containers before what is in them", function()
    local cp <close> = assert(ckpt.open(path))
    local seen = {}
    for entry in assert(cp:entries()) do seen[#seen + 1] = ("%d %s %s"):format(entry.depth, entry.kind, entry.name) end
    assert.same({ "0 dict ", "1 int epoch", "1 dict model", "2 tensor model.tied", "1 list tags", "2 str tags[0]" }, seen)
  end)

  it("name the further paths of what is shared", function()
    local cp <close> = assert(ckpt.open(path))
    for entry in assert(cp:entries()) do
      if entry.kind == "tensor" then assert.same({ "model.w" }, entry.aliases) end
    end
  end)
end)
