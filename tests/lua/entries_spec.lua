-- entries_spec.lua: cp:entries(), everything in a file with its paths; cp:records(), cp:check_record(i) and
-- cp:check_contents(), what verify looks at part by part; storages in cp:list().

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

local dir, cp

before_each(function() dir = scratch.dir() end)
after_each(function()
  if cp then cp:close() end
  cp = nil
  scratch.remove(dir)
  gate()
end)

local function open(value)
  assert(ckpt.save(dir .. "/f.pth", value))
  cp = assert(ckpt.open(dir .. "/f.pth"))
  return cp
end

local function entries()
  local list = {}
  for entry in assert(cp:entries()) do
    list[#list + 1] = ("%d %s %s%s"):format(entry.depth, entry.kind, entry.name, entry.opaque and " " .. entry.class or "")
    for _, alias in ipairs(entry.aliases) do list[#list + 1] = "=" .. alias end
  end
  return list
end

describe("cp:entries()", function()
  it("gives containers before their parts, and scalars at each of their paths", function()
    local shared = { 1, "x" }
    open(ckpt.ordered { { "a", shared }, { "b", shared }, { "t", ckpt.tuple {} }, { "w", ckpt.tensor("float32", { 2 }) } })
    assert.same({ "0 dict ", "1 list a", "=b", "2 int a[0]", "2 str a[1]", "2 int b[0]", "2 str b[1]", "1 tuple t",
                  "1 tensor w" }, entries())
  end)

  it("gives the values themselves, tensors with their storage", function()
    open { n = 7, w = ckpt.tensor("float32", { 2 }) }
    local found = {}
    for entry in assert(cp:entries()) do found[entry.name] = entry end
    assert.equal(7, found.n.value)
    assert.same({ 2 }, found.w.value.shape)
    assert.same({ 8, false, "integer" }, { found.w.storage_bytes, found.w.big_endian, math.type(found.w.storage) })
    assert.is_nil(found.n.storage)
    assert.equal(2, #found[""].value)
  end)

  it("names the class of an object, and ends on cycles", function()
    scratch.write(dir .. "/o.pth", tiny_zip.checkpoint "\x80\2cm\nNet\n)\x81q\1}X\1\0\0\0ah\1sb.")
    cp = assert(ckpt.open(dir .. "/o.pth"))
    assert.same({ "0 object  m.Net", "=a" }, entries())
  end)

  it("outlives the checkpoint's variable, not its closing", function()
    open { 1, 2 }
    local next_entry = assert(cp:entries())
    assert.equal("", next_entry().name)
    cp:close()
    cp = nil
    assert.error_matches(function() next_entry() end, "closed")
  end)
end)

describe("cp:records()", function()
  it("lists records with their checksums, and reads one", function()
    open { w = ckpt.tensor("float32", { 100 }) }
    local records, at = cp:records(), nil
    for i, record in ipairs(records) do
      if record.name == "f/data/0" then at = i end
    end
    assert.equal(400, records[at].bytes)
    assert.equal("integer", math.type(records[at].crc))
    assert.is_true(cp:check_record(at))
    assert.error_matches(function() cp:check_record(#records + 1) end, "there is no such record")
    assert.error_matches(function() cp:check_record(0) end, "there is no such record")
  end)

  it("finds changed bytes where they are", function()
    open { w = ckpt.tensor("float32", { 2 }, { 1.5, 2.5 }) }
    cp:close()
    local bytes = scratch.read(dir .. "/f.pth")
    scratch.write(dir .. "/f.pth", (bytes:gsub(("<f"):pack(2.5):gsub("%p", "%%%0"), "abcd")))
    cp = assert(ckpt.open(dir .. "/f.pth"))
    for i, record in ipairs(cp:records()) do
      local ok, message, code = cp:check_record(i)
      assert.equal(record.name ~= "f/data/0" or nil, ok)
      if not ok then
        assert.matches("^record 'f/data/0' %(byte %d+%): its CRC%-32 is %x+, the directory says %x+: the bytes have changed$",
          message)
        assert.equal("corrupt", code)
      end
    end
  end)

  it("has none in a format without records", function()
    scratch.write(dir .. "/f.pkl", "\x80\2K\1.")
    cp = assert(ckpt.open(dir .. "/f.pkl"))
    assert.same({}, cp:records())
  end)
end)

describe("cp:check_contents()", function()
  it("passes a whole file and finds a save that is cut off", function()
    open { w = ckpt.tensor("float32", { 2 }) }
    assert.is_true(cp:check_contents())
    cp:close()
    scratch.write(dir .. "/f.pkl", "\x80\2K\1.\x80\2]K")
    cp = assert(ckpt.open(dir .. "/f.pkl"))
    local ok, message, code = cp:check_contents()
    assert.is_nil(ok)
    assert.equal("corrupt", code)
    assert.matches("byte", message)
  end)
end)

describe("t:storage()", function()
  it("is the same for tensors over one storage, and only for them", function()
    local t, u = ckpt.tensor("float32", { 4 }), ckpt.tensor("float32", { 4 })
    assert.equal(t:storage(), t:slice(1, 1, 2):storage())
    assert.not_equal(t:storage(), u:storage())
    open { w = t, v = t:slice(1, 2, 3), u = u }
    local list = cp:list()
    local found = {}
    for _, entry in ipairs(list) do found[entry.name] = entry.tensor:storage() end
    assert.equal(found.w, found.v)
    assert.not_equal(found.w, found.u)
  end)
end)
