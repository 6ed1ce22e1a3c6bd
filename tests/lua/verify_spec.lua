-- verify_spec.lua: `ckpt verify PATH...`: every failure of a file, several files, run directories.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

before_each(cli.enter)
after_each(cli.leave)

local function save_small(name)
  cli.save(name, { epoch = 1, a = cli.iota("float32", { 3 }, 3), b = cli.iota("float32", { 200 }, 200) })
end

-- What the command says, blanks and line ends alike as one blank.
local function says(status, ...) return (cli.says(status, "verify", ...):gsub("%s+", " "):gsub(" $", "")) end

local function damage_data(name, value) cli.damage(name, ("<f"):pack(value)) end

describe("verify of files", function()
  it("tells what was checked", function()
    save_small "small.pth"
    assert.matches("^@small.pth: ok, torch zip, [%d.]+ KB, 2 tensors, %d+ of %d+ records with a checksum$",
      says(0, "@small.pth"))
    local report = cli.json(0, "verify", "@small.pth", "--json")
    assert.is_true(report.ok)
    assert.same({}, report.resume)
    local file = report.files[1]
    assert.same({ cli.path "small.pth", true, "torch-zip", 2 }, { file.file, file.ok, file.format, file.tensors })
    assert.equal(file.records, file.checksums)
    assert.same({}, file.failures)
    assert.equal(#scratch.read(cli.path "small.pth"), file.bytes)
  end)

  it("finds every changed record, not only the first", function()
    save_small "small.pth"
    damage_data("small.pth", 3)
    damage_data("small.pth", 150)
    local out = cli.says(1, "verify", "@small.pth")
    for _, record in ipairs { 0, 1 } do
      assert.matches(("@small.pth: record 'small/data/%d' %%(byte %%d+%%): its CRC%%-32 is %%x+, the directory says %%x+: " ..
        "the bytes have changed\n"):format(record), out)
    end
    assert.matches("\n1 of 1 file failed\n$", out)
    local failures = cli.json(1, "verify", "@small.pth", "--json").files[1].failures
    assert.equal(2, #failures)
    assert.equal("small/data/1", failures[2].record)
    assert.equal("corrupt", failures[2].code)
    assert.equal(0, failures[2].byte % 64)
  end)

  it("says how many records carry a checksum", function()
    local bytes = tiny_zip.checkpoint "\x80\2]."
    local at = assert(bytes:find("archive/version", #bytes - 100, true)) - 46 + 16 -- CRC in the directory
    local without = bytes:sub(1, at - 1) .. "\0\0\0\0" .. bytes:sub(at + 4)
    local head = assert(without:find("archive/version", 1, true)) - 30 + 14
    without = without:sub(1, head - 1) .. "\0\0\0\0" .. without:sub(head + 4)
    scratch.write(cli.path "f.pth", without)
    assert.matches("ok, torch zip, %d+ B, 0 tensors, 2 of 3 records with a checksum$", says(0, "@f.pth"))
  end)

  it("goes on with the next file; 1 for a bad one, 3 for one that is not there", function()
    save_small "a.pth"
    scratch.write(cli.path "b.pth", "hello, world")
    local out = cli.says(1, "verify", "@b.pth", "@a.pth")
    assert.matches("^@b.pth: not a checkpoint: it begins with the bytes 68 65, ", out)
    assert.matches("\n@a.pth: ok, .*\n1 of 2 files failed\n$", out)
    out = cli.says(3, "verify", "@b.pth", "@none.pth", "@a.pth")
    assert.matches("\n@none.pth: there is no such file\n@a.pth: ok, .*\n2 of 3 files failed\n$", out)
    local files = cli.json(3, "verify", "@b.pth", "@none.pth", "@a.pth", "--json").files
    assert.same({ false, false, true }, { files[1].ok, files[2].ok, files[3].ok })
    assert.same({ "format", "notfound" }, { files[1].failures[1].code, files[2].failures[1].code })
    cli.save("c.pth", {})
    assert.matches("all 2 files are whole$", says(0, "@a.pth", "@c.pth"))
  end)

  it("shows no control characters", function()
    scratch.write(cli.path "a\27[31m.pth", "hello, world")
    assert.matches("^@a\\x1b%[31m.pth: not a checkpoint", cli.says(1, "verify", "@a\27[31m.pth"))
  end)

  it("refuses bad usage", function()
    cli.refuses(2, "missing argument 'PATH' (see: ckpt verify --help)", "verify")
  end)
end)

-- A run of some epochs; each file has its own bytes.
local function train(accuracies)
  scratch.write(cli.path "policy.lua", 'local p = require "policies.default"()\np.keep = { last = 9 }\nreturn p')
  local cp <close> = assert(ckpt.checkpointer { dir = cli.path "run", policy = cli.path "policy.lua" })
  local w = cli.iota("float32", { 300 }, 300)
  assert(cp:bind("model", "w", w))
  for epoch, acc in ipairs(accuracies) do
    assert(w:copy_(cli.iota("float32", { 300 }, 300)))
    assert(cp:set_metric("acc", acc))
    assert(cp:save(epoch))
  end
end

describe("verify of a run", function()
  local function verify(status, ...) return says(status, "@run", "--policy", "@policy.lua", ...) end

  it("tells what a resume takes and why not the others", function()
    train { 0.5, 0.6, 0.7 }
    local out = verify(0)
    assert.matches("@run/model_epoch3.pth: ok, ", out)
    assert.matches("resume takes epoch 3 %(model_epoch3.pth, verified%) not model_epoch1.pth: its epoch is 1 " ..
      "not model_epoch2.pth: its epoch is 2 all 3 files are whole$", out)
    local report = cli.json(0, "verify", "@run", "--policy", "@policy.lua", "--json")
    assert.equal(cli.path "run/model_epoch3.pth", report.resume[1].path)
    assert.same({ "its epoch is 1", "its epoch is 2" }, { report.files[1].not_resumed, report.files[2].not_resumed })
    assert.is_nil(report.files[3].not_resumed)
  end)

  it("takes the newest that is whole", function()
    train { 0.5, 0.6, 0.7 }
    damage_data("run/model_epoch3.pth", 150)
    local out = verify(1)
    assert.matches("@run/model_epoch3.pth: record 'model_epoch3/data/0' %(byte %d+%): its CRC%-32 is", out)
    assert.matches("resume takes epoch 2 %(model_epoch2.pth, verified%) not model_epoch1.pth: its epoch is 1 " ..
      "not model_epoch3.pth: it fails 1 of 3 files failed$", out)
  end)

  it("says when nothing can be resumed", function()
    train { 0.5 }
    damage_data("run/model_epoch1.pth", 150)
    assert.matches("resume takes nothing: @run/model_epoch1.pth: record .* not model_epoch1.pth: it fails 1 of 1 file failed$",
      verify(1))
    assert.matches("corrupt", select(2, cli.json(1, "verify", "@run", "--policy", "@policy.lua", "--json")))
  end)

  it("leaves files of another kind alone, but not a checkpoint's name", function()
    train { 0.5 }
    scratch.write(cli.path "run/notes.txt", "hello, world")
    assert.matches("^@run/model_epoch1.pth: ok, .*verified%)$", verify(0))
    scratch.write(cli.path "run/other.pth", "hello, world")
    assert.matches("@run/other.pth: not a checkpoint: .* 1 of 2 files failed$", verify(1))
  end)

  it("takes an empty directory for a run that has not begun", function()
    assert(os.execute("mkdir " .. cli.quote(cli.path "empty")))
    assert.equal("@empty: no checkpoints resume takes nothing: a run here starts from scratch", says(0, "@empty"))
  end)

  it("refuses a policy that fails", function()
    train { 0.5 }
    scratch.write(cli.path "bad.lua", "return {")
    local _, err, status = cli.run("verify", "@run", "--policy", "@bad.lua")
    assert.matches("bad.lua:1: unexpected symbol", err)
    assert.equal(1, status)
  end)
end)
