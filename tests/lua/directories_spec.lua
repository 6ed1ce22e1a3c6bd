-- directories_spec.lua: torch.distributed.checkpoint directories (tests/data/dcp) by way of the module and the command.

local ckpt = require "ckpt"
local scratch = require "support.scratch"

local TOP = os.getenv "CKPT_TOP" or "."
local CKPT = os.getenv "CKPT" or "build/ckpt"
local DATA = TOP .. "/tests/data/dcp/"

describe("a torch.distributed.checkpoint directory", function()
  it("opens as the dict that was saved", function()
    local cp <close> = assert(ckpt.open(DATA .. "sharded", { verify = true }))
    assert.equal("torch-dcp", cp.format)
    local sd = assert(cp:state_dict("model"))
    assert.same({ 4, 6 }, sd["rows"].shape)
    assert.same({ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 }, sd["uneven"]:tolist())
    assert.equal(3, cp:at("model.epoch"))
  end)

  it("opens by its .metadata", function()
    local cp <close> = assert(ckpt.open(DATA .. "plain/.metadata"))
    assert.equal("plain", cp:at("name"))
  end)

  it("converts to a file with the same tensors", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    local out = dir .. "/out.pth"
    assert.is_true(os.execute(("'%s' convert '%snested' '%s' > /dev/null"):format(CKPT, DATA, out)))
    local cp <close> = assert(ckpt.open(out))
    local theirs <close> = assert(ckpt.open(DATA .. "nested.pth"))
    assert.equal("torch-zip", cp.format)
    local a, b = assert(cp:list()), assert(theirs:list())
    assert.equal(#b, #a)
    for i = 1, #a do
      assert.equal(b[i].name, a[i].name)
      assert.same(b[i].tensor:tolist(), a[i].tensor:tolist())
    end
  end)

  it("is refused where a file of it is missing", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    assert(os.execute(("cp '%splain/.metadata' '%s'"):format(DATA, dir)))
    local cp, message, code = ckpt.open(dir)
    assert.is_nil(cp)
    assert.equal("corrupt", code)
    assert.matches("the file '__0_0.distcp', which .metadata names, is missing", message, 1, true)
  end)
end)
