-- safetensors_spec.lua: ckpt.save in several formats, sharded sets, cp.metadata; the safetensors library byte by byte.

local ckpt = require "ckpt"
local dkjson = require "dkjson"
local gate = require "support.gate"
local scratch = require "support.scratch"

local TOP = os.getenv "CKPT_TOP" or "."
local SHARED = os.getenv "CKPT_SHARED" or TOP .. "/../shared"
local CKPT = os.getenv "CKPT" or "build/ckpt"
local DATA = TOP .. "/tests/data/safetensors/"

local dir
local function path(name) return dir .. "/" .. name end

local function in_directory(test)
  return function()
    dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    test()
  end
end

local function tensor(n, first)
  local numbers = {}
  for i = 1, n do numbers[i] = (first or 0) + i end
  return assert(ckpt.tensor("float32", { n }, numbers))
end

local function names(list)
  local out = {}
  for i, entry in ipairs(list) do out[i] = entry.name end
  return out
end

local function keys(name)
  local cp <close> = assert(ckpt.open(path(name)))
  return names((cp:list()))
end

-- name -> dtype, shape, digest
local function contents(cp)
  local out = {}
  for _, entry in ipairs((cp:list())) do
    local t = entry.tensor
    local said = { t.dtype, t.shape, t:sha256() }
    out[entry.name] = said
    for _, alias in ipairs(entry.aliases) do out[alias] = said end
  end
  return out
end

describe("files of the safetensors library", function()
  after_each(gate)

  for _, case in ipairs { "dtypes", "views", "nested", "names", "none" } do
    it("are what we write: " .. case, in_directory(function()
      local cp <close> = assert(ckpt.open(DATA .. case .. ".pth"))
      local report = assert(ckpt.save(path "out.safetensors", cp))
      assert.same({ files = { "out.safetensors" }, tied = {}, copied = {}, dropped = {} }, report)
      assert.equal(scratch.read(DATA .. case .. ".safetensors"), scratch.read(path "out.safetensors"))
    end))

    it("are read, and written as they were: " .. case, in_directory(function()
      local cp <close> = assert(ckpt.open(DATA .. case .. ".safetensors"))
      local source <close> = assert(ckpt.open(DATA .. case .. ".pth"))
      assert.equal("safetensors", cp.format)
      assert.same(contents(source), contents(cp))
      assert(ckpt.save(path "out.safetensors", cp))
      assert.equal(scratch.read(DATA .. case .. ".safetensors"), scratch.read(path "out.safetensors"))
      assert(ckpt.save(path "out.pth", cp))
      local back <close> = assert(ckpt.open(path "out.pth"))
      assert.equal("torch-zip", back.format)
      assert.same(contents(cp), contents(back))
    end))
  end

  it("have their metadata", in_directory(function()
    local source <close> = assert(ckpt.open(DATA .. "nested.pth"))
    assert(ckpt.save(path "out.safetensors", source, { metadata = { format = 'pt "é"\n' } }))
    assert.equal(scratch.read(DATA .. "metadata.safetensors"), scratch.read(path "out.safetensors"))
    local cp <close> = assert(ckpt.open(path "out.safetensors"))
    assert.equal('pt "é"\n', cp.metadata.format)
    assert.equal(1, #cp.metadata)
    assert(ckpt.save(path "again.safetensors", cp)) -- kept
    assert.equal(scratch.read(path "out.safetensors"), scratch.read(path "again.safetensors"))
    assert(ckpt.save(path "other.safetensors", cp, { metadata = {} })) -- left out when the caller says so
    assert.equal(scratch.read(DATA .. "nested.safetensors"), scratch.read(path "other.safetensors"))
    assert.is_nil(source.metadata)
    assert.same({ "__metadata__" }, assert(ckpt.save(path "a.pth", cp)).dropped) -- a pth file has no place for it
    assert.same({}, assert(ckpt.save(path "a.pth", source)).dropped)
  end))

  it("of ../shared are read", in_directory(function()
    local file = io.open(SHARED .. "/data/torch/model.safetensors")
    if not file then return pending("../shared/data is not there") end
    file:close()
    local cp <close> = assert(ckpt.open(SHARED .. "/data/torch/model.safetensors"))
    assert.same({ "w", "b" }, names((cp:list())))
    assert(ckpt.save(path "out.safetensors", cp))
    assert.equal(scratch.read(cp.path), scratch.read(path "out.safetensors"))
  end))
end)

describe("ckpt.save", function()
  after_each(gate)

  it("tells what it did", in_directory(function()
    local w = tensor(8)
    local value = ckpt.ordered { { "embed", w }, { "head", w }, { "epoch", 3 }, { "note", "x" } }
    local report = assert(ckpt.save(path "a.safetensors", value, { tensors_only = true }))
    assert.same({ files = { "a.safetensors" }, tied = { { name = "head", kept = "embed" } }, copied = {},
                  dropped = { "epoch", "note" } }, report)
    local cp <close> = assert(ckpt.open(path "a.safetensors"))
    local tensors = cp:list()
    assert.equal(1, #tensors)
    assert.same({ "head" }, tensors[1].aliases)
    assert.equal("embed", cp.metadata.head)
    assert.same({ files = { "b.pth" }, tied = {}, copied = {}, dropped = {} }, assert(ckpt.save(path "b.pth", value)))
  end))

  it("names what the format cannot hold, and writes nothing", in_directory(function()
    local value = { w = tensor(2), epoch = 3, lr = { 0.1, 0.2 } }
    local report, message, code = ckpt.save(path "a.safetensors", value)
    assert.is_nil(report)
    assert.equal("unsupported", code)
    assert.equal("safetensors holds tensors only, not: 'epoch', 'lr[0]', 'lr[1]'; tensors_only drops them", message)
    value = { w = tensor(2), c = ckpt.tensor("complex128", { 2 }) }
    report, message, code = ckpt.save(path "a.safetensors", value)
    assert.is_nil(report)
    assert.equal("unsupported", code)
    assert.equal("safetensors has no place for these tensors: 'c'; drop_unsupported leaves them out", message)
    assert.same({}, scratch.names(dir))
    assert.same({ "c" }, assert(ckpt.save(path "a.safetensors", value, { drop_unsupported = true })).dropped)
    assert.same({ "w" }, keys "a.safetensors")
  end))

  it("takes the format from the options before the name", in_directory(function()
    for _, case in ipairs { { "a.bin", "safetensors", "safetensors" }, { "a.safetensors", "pth", "torch-zip" } } do
      assert(ckpt.save(path(case[1]), { w = tensor(2) }, { format = case[2] }))
      local cp <close> = assert(ckpt.open(path(case[1])))
      assert.equal(case[3], cp.format)
    end
    local report, message, code = ckpt.save(path "a", { w = tensor(2) }, { format = "gguf" })
    assert.is_nil(report)
    assert.equal("'gguf' is no format to save in: 'pth' and 'safetensors' are", message)
    assert.equal("argument", code)
  end))

  it("takes an empty table for no tensors", in_directory(function()
    assert(ckpt.save(path "a.safetensors", {}))
    assert.same({}, keys "a.safetensors")
  end))

  it("raises for options that are none", in_directory(function()
    local value = { w = tensor(2) }
    for _, case in ipairs {
      { { tensor_only = true }, "there is no option 'tensor_only'" },
      { { "pth" }, "there is no option '1'" },
      { { format = 3 }, "'format' must be a string, not a number" },
      { { tensors_only = "yes" }, "'tensors_only' must be a boolean, not a string" },
      { { shard_size = "5GB" }, "'shard_size' must be a number, not a string" },
      { { shard_size = 0 }, "'shard_size' must be a positive integer, a number of bytes" },
      { { shard_size = 1.5 }, "'shard_size' must be a positive integer" },
      { { metadata = "x" }, "'metadata' must be a table, not a string" },
      { { metadata = { a = 1 } }, "'metadata' must map strings to strings" },
      { { metadata = { "x" } }, "'metadata' must map strings to strings" },
      { { metadata = { a = "x\0" } }, "'metadata' must hold no NUL byte" },
      { true, "table expected" },
    } do
      local ok, message = pcall(ckpt.save, path "a.safetensors", value, case[1])
      assert.is_false(ok)
      assert.truthy(message:find(case[2], 1, true), message)
    end
    assert.same({}, scratch.names(dir))
  end))
end)

describe("a sharded set", function()
  after_each(gate)

  local function model()
    return ckpt.ordered { { "a", tensor(4) }, { "b", tensor(4, 10) }, { "c", tensor(2, 20) } }
  end

  for _, ext in ipairs { "safetensors", "bin" } do
    it("of ." .. ext .. " files is written and read as one state dict", in_directory(function()
      local report = assert(ckpt.save(path("model." .. ext), model(), { shard_size = 24 }))
      local first, second = "model-00001-of-00002." .. ext, "model-00002-of-00002." .. ext
      assert.same({ first, second, "model." .. ext .. ".index.json" }, report.files)
      local index = dkjson.decode(scratch.read(path("model." .. ext .. ".index.json")))
      assert.same({ metadata = { total_size = 40 }, weight_map = { a = first, b = second, c = second } }, index)
      local cp <close> = assert(ckpt.open(dir, { verify = true }))
      assert.equal("sharded", cp.format)
      assert.equal(40, cp.metadata.total_size)
      local sd = assert(cp:state_dict())
      assert.same({ 21, 22 }, sd.c:tolist())
      assert(ckpt.save(path("whole." .. ext), cp))
      assert.same({ "a", "b", "c" }, keys("whole." .. ext))
    end))
  end

  it("keeps what its shards say of themselves", in_directory(function()
    assert(ckpt.save(path "m.safetensors", model(), { shard_size = 24, metadata = { format = "pt" } }))
    local cp <close> = assert(ckpt.open(path "m.safetensors.index.json"))
    assert.equal("pt", cp.metadata.format)
    assert(ckpt.save(path "whole.safetensors", cp))
    local whole <close> = assert(ckpt.open(path "whole.safetensors"))
    assert.equal("pt", whole.metadata.format)
    assert.equal(1, #whole.metadata)
  end))

  it("is not replaced in part", in_directory(function()
    assert(ckpt.save(path "m.safetensors", model(), { shard_size = 24 }))
    local before = scratch.names(dir)
    local report, message, code = ckpt.save(path "m.safetensors", model(), { shard_size = 24 })
    assert.is_nil(report)
    assert.equal("exists", code)
    assert.truthy(message:find("a set cannot be replaced as a whole", 1, true))
    assert.same(before, scratch.names(dir))
  end))

  it("with a shard gone names it", in_directory(function()
    assert(ckpt.save(path "m.safetensors", model(), { shard_size = 24 }))
    os.remove(path "m-00002-of-00002.safetensors")
    local cp, message, code = ckpt.open(dir)
    assert.is_nil(cp)
    assert.equal("notfound", code)
    assert.equal(path "m.safetensors.index.json: " ..
      "shard 'm-00002-of-00002.safetensors', which holds tensor 'b', is not there", message)
  end))
end)

describe("ckpt inspect --json", function()
  after_each(gate)

  it("shows the metadata", in_directory(function()
    assert(ckpt.save(path "a.safetensors", { w = tensor(2) }, { metadata = { format = "pt", author = "é\n" } }))
    local pipe = assert(io.popen(("'%s' inspect --json '%s'"):format(CKPT, path "a.safetensors")))
    local said = dkjson.decode(pipe:read "a")
    pipe:close()
    assert.equal("safetensors", said.format)
    assert.same({ format = "pt", author = "é\n" }, said.metadata)
  end))
end)
