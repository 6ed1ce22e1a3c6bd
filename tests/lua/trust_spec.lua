-- trust_spec.lua: `lenient` and `limits` of ckpt.open, and what the command line says them by.

local ckpt = require "ckpt"
local gate = require "support.gate"
local scratch = require "support.scratch"

local PATH = "tests/data/optdigits.pth"

-- The same checkpoint with a comment behind its end record, as a download page might put it there.
local function with_comment(to)
  local whole = scratch.read(PATH)
  scratch.write(to, whole:sub(1, -3) .. string.pack("<s2", "a comment"))
end

local function run(command)
  local pipe <close> = assert(io.popen(("%s %s 2>&1"):format(os.getenv("CKPT"), command)))
  local text = pipe:read("a")
  local _, _, status = pipe:close()
  return status, text
end

describe("how far a file is believed", function()
  after_each(gate)

  it("is for a caller of ckpt.open to say", function()
    local cp <close> = assert(ckpt.open(PATH, { limits = { depth = 50, entries = 7 } }))
    assert.equal("torch-zip", cp.format)
    for name, text in pairs { depth = "levels deep", opcodes = "more than 2 opcodes", entries = "at most 2 are read" } do
      local none, message, code = ckpt.open(PATH, { limits = { [name] = 2 } })
      assert.is_nil(none)
      assert.equal("limit", code)
      assert.truthy(message:find(text, 1, true), message)
    end
    for _, wrong in ipairs { 0, -1, 1.5, "many" } do
      assert.has_error(function() ckpt.open(PATH, { limits = { memo = wrong } }) end)
    end
  end)

  it("is not far for an archive that can be read in two ways", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    local path = dir .. "/commented.pth"
    with_comment(path)
    local none, message, code = ckpt.open(path)
    assert.is_nil(none)
    assert.equal("corrupt", code)
    assert.truthy(message:find("can be read in more than one way", 1, true), message)
    local cp <close> = assert(ckpt.open(path, { lenient = true, verify = true }))
    assert.equal(4, #cp:list())
  end)

  it("is an option of the commands", function()
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    local path = dir .. "/commented.pth"
    with_comment(path)
    for _, command in ipairs { "inspect %s", "verify %s", "diff " .. PATH .. " %s", "convert %s " .. dir .. "/out.pth" } do
      command = command:format(path)
      local status, text = run(command)
      assert.truthy(status ~= 0 and text:find("in more than one way", 1, true), text)
      status, text = run(command .. " --lenient")
      assert.equal(0, status, text)
      status, text = run(command .. " --lenient --limit opcodes=2")
      assert.truthy(status ~= 0 and text:find("more than 2 opcodes", 1, true), text)
    end
  end)
end)
