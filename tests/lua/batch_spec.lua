-- batch_spec.lua: `ckpt convert IN... --out-dir DIR`: which files, under which names, what is skipped, what is told.

local ckpt = require "ckpt"
local cli = require "support.cli"
local dkjson = require "dkjson"
local scratch = require "support.scratch"

before_each(cli.enter)
after_each(cli.leave)

local function tensor(values, dtype) return assert(ckpt.tensor(dtype or "float32", { #values }, values)) end
local function mkdir(name) assert(os.execute("mkdir -p " .. cli.quote(cli.path(name)))) end
local function exists(name) return os.execute("test -e " .. cli.quote(cli.path(name))) == true end
local function save(name, values) cli.save(name, ckpt.ordered { { "w", tensor(values or { 1, 2 }) } }) end

-- Names below a directory, without what the batch keeps for itself.
local function files(name)
  return table.concat(scratch.lines(("cd %s && find . -type f ! -name '.*' ! -name convert.jsonl -printf '%%P\\n' | sort")
    :format(cli.quote(cli.path(name)))), " ")
end

-- What a batch says of each file, by its new name; the scratch directory as `@`.
local function batch(status, ...)
  local out, err, got = cli.run("convert", "--json", ...)
  assert(got == status, ("status %d, not %d: %s%s"):format(got, status, out, err))
  local by_out, n = {}, 0
  for line in out:gmatch "[^\n]+" do
    local entry = assert(dkjson.decode(line))
    by_out[entry.out:match "([^/]+)$"], n = entry, n + 1
  end
  return by_out, n, err
end

-- What it says to people, every run of blanks as one, sizes in bytes as "n B".
local function text(status, ...)
  return (cli.says(status, "convert", ...):gsub(" +", " "):gsub("%f[%d][%d.]+ K?B%f[%s]", "n B"))
end

describe("a batch of files", function()
  it("gives each its name in the directory, and its suffix to the format", function()
    for _, name in ipairs { "a.pth", "b.pt", "c.safetensors", "d.e" } do save(name) end
    text(0, "@a.pth", "@b.pt", "@c.safetensors", "@d.e", "--out-dir", "@out", "--format", "safetensors")
    assert.equal("a.safetensors b.safetensors c.safetensors d.e.safetensors", files "out")
    text(0, "@a.pth", "@b.pt", "@c.safetensors", "--out-dir", "@same")
    assert.equal("a.pth b.pt c.safetensors", files "same")
    text(0, "@a.pth", "@b.pt", "@c.safetensors", "--out-dir", "@pth", "--format", "pth")
    assert.equal("a.pth b.pt c.pth", files "pth")
  end)

  it("takes the checkpoints of a directory and keeps its sub-directories", function()
    for _, name in ipairs { "zoo/deep/er", "zoo/empty", "zoo/.hidden" } do mkdir(name) end
    for _, name in ipairs { "zoo/a.pth", "zoo/deep/a.pth", "zoo/deep/er/b.bin", "zoo/.hidden/c.pth" } do save(name) end
    scratch.write(cli.path "zoo/notes.txt", "x")
    assert(os.execute(("ln -s .. %s/zoo/deep/round"):format(cli.quote(cli.dir))))
    text(0, "@zoo", "--out-dir", "@zoo/out", "--format", "safetensors")
    assert.equal("a.safetensors deep/a.safetensors deep/er/b.safetensors", files "zoo/out")
    assert.matches("0 converted, 3 skipped", (text(0, "@zoo", "--out-dir", "@zoo/out", "--format", "safetensors")))
    text(0, "@zoo/", "--out-dir", "@globbed", "--format", "pth", "--glob", "*.bin")
    assert.equal("deep/er/b.bin", files "globbed")
    text(0, "@zoo", "--out-dir", "@below", "--format", "pth", "--glob", "deep/a*")
    assert.equal("deep/a.pth", files "below")
  end)

  it("takes a set by its index and a distributed checkpoint by its directory", function()
    mkdir "zoo"
    cli.save("all.pth", ckpt.ordered { { "a", tensor { 1, 2, 3 } }, { "b", tensor { 4, 5, 6 } } })
    cli.says(0, "convert", "@all.pth", "@zoo/set.safetensors", "--shard-size", "12")
    assert(os.execute(("cp -r %s/nested %s/zoo/dcp"):format(os.getenv "CKPT_DATA":gsub("/[^/]*$", "/dcp"), cli.quote(cli.dir))))
    text(0, "@zoo", "--out-dir", "@out", "--format", "pth", "--tensors-only")
    assert.equal("dcp.pth set.pth", files "out")
    assert.equal("the same: 2 tensors, 0 plain values\n", cli.says(0, "diff", "@all.pth", "@out/set.pth"))
  end)

  it("applies every option to each file", function()
    for i = 1, 3 do cli.save(i .. ".pth", ckpt.ordered { { "epoch", i }, { "m", { w = tensor { i } } } }) end
    local lines = batch(0, "@1.pth", "@2.pth", "@3.pth", "--out-dir", "@out", "--format", "safetensors", "--select", "m",
      "--dtype", "bfloat16", "--metadata", "by=me", "--shard-size", "1GB")
    for i = 1, 3 do
      local cp <close> = assert(ckpt.open(cli.path("out/" .. i .. ".safetensors")))
      assert.same({ "bfloat16", { i + 0.0 }, "me" }, { cp:at "w".dtype, cp:at "w":tolist(), cp.metadata.by })
      local line = lines[i .. ".safetensors"]
      assert.same({ "converted", cli.path(i .. ".pth"), 1, { ["float32 -> bfloat16"] = 1 } },
        { line.status, line["in"], line.tensors, line.cast })
    end
  end)

  it("writes sets, and knows them again", function()
    cli.save("a.pth", ckpt.ordered { { "a", tensor { 1, 2, 3 } }, { "b", tensor { 4, 5, 6 } } })
    local call = { "@a.pth", "--out-dir", "@out", "--format", "safetensors", "--shard-size", "12" }
    assert.equal(3, #batch(0, table.unpack(call))["a.safetensors"].files)
    assert.equal("skipped", batch(0, table.unpack(call))["a.safetensors"].status)
  end)
end)

describe("a batch that is run again", function()
  local call = { "@zoo", "--out-dir", "@out", "--format", "pth" }
  local function statuses()
    local by_out = batch(0, table.unpack(call))
    return by_out["a.pth"].status .. " " .. by_out["b.pth"].status
  end

  before_each(function()
    mkdir "zoo"
    save "zoo/a.pth"
    save "zoo/b.pth"
  end)

  it("skips what is done, and does again what has changed", function()
    assert.equal("converted converted", statuses())
    assert.equal("skipped skipped", statuses())
    save("zoo/b.pth", { 5, 6, 7 })
    assert.equal("skipped converted", statuses())
    scratch.write(cli.path "out/a.pth", "somebody's own")
    assert.equal("converted skipped", statuses())
    assert(os.remove(cli.path "out/b.pth"))
    assert.equal("skipped converted", statuses())
    assert.equal("skipped skipped", statuses())
  end)

  it("does everything again for other options, and back", function()
    assert.equal("converted converted", statuses())
    assert.equal(2, select(2, batch(0, "@zoo", "--out-dir", "@out", "--format", "pth", "--dtype", "float16")))
    assert.equal("float16", assert(ckpt.open(cli.path "out/a.pth")):at "w".dtype)
    assert.equal("converted converted", statuses())
    assert.equal("float32", assert(ckpt.open(cli.path "out/a.pth")):at "w".dtype)
  end)

  it("is not led astray by a line that was cut off", function()
    assert.equal("converted converted", statuses())
    local log = cli.path "out/convert.jsonl"
    local lines = scratch.read(log)
    scratch.write(log, lines:sub(1, -20))
    assert.equal("skipped skipped", statuses()) -- the last file is there, and is another than before
    local count = select(2, scratch.read(log):gsub('"event":"done"', ""))
    assert.equal(3, count) -- two whole lines, and one that was cut off
    assert.equal("skipped skipped", statuses())
  end)

  it("takes what was there before it began for what it is", function()
    mkdir "out"
    scratch.write(cli.path "out/a.pth", "somebody's own")
    local stat = scratch.lines(("stat -c '%%i %%Y' %s/zoo/a.pth"):format(cli.quote(cli.dir)))
    assert.truthy(stat[1])
    assert.equal("converted converted", statuses())
    assert.equal(1, #assert(ckpt.open(cli.path "out/a.pth")):list())
  end)

  it("tries again what has failed", function()
    scratch.write(cli.path "zoo/b.pth", "junk")
    local by_out, _, err = batch(1, table.unpack(call))
    assert.same({ "converted", "failed", "format" }, { by_out["a.pth"].status, by_out["b.pth"].status, by_out["b.pth"].code })
    assert.matches("^ckpt: 1 of 2 files failed:\n  %S+/zoo/b.pth: not a checkpoint", err)
    save "zoo/b.pth"
    assert.equal("skipped converted", statuses())
  end)
end)

describe("a batch tells", function()
  it("what it did in a table, and what failed and why", function()
    mkdir "zoo"
    save "zoo/a.pth"
    cli.save("zoo/b.pth", { 1, tensor { 1e6 } })
    scratch.write(cli.path "zoo/c.pth", "")
    assert.equal(" files tensors read written\n converted 1 1 n B n B\n skipped 0\n failed 2\n" ..
      "1 converted, 0 skipped, 2 failed in 00:00:\n" ..
      " @zoo/b.pth: safetensors holds tensors only, not: '[0]' (--tensors-only or --drop GLOB leaves them out)\n" ..
      " @zoo/c.pth: the file is empty\n", text(1, "@zoo", "--out-dir", "@out", "--format", "safetensors"))
    assert(os.remove(cli.path "zoo/c.pth"))
    assert.matches("\nnote: something was dropped from 1 file: %-%-json names it\nnote: values too large for the dtype in 1 " ..
      "file: %-%-json names them\n", (text(0, "@zoo", "--out-dir", "@out", "--format", "safetensors", "--tensors-only",
      "--dtype", "float16")))
  end)

  it("no control characters", function()
    scratch.write(cli.path "a\27[2J.pth", "")
    assert.matches("\n @a\\x1b%[2J.pth: the file is empty\n$", (text(1, "@a\27[2J.pth", "--out-dir", "@out")))
  end)
end)

describe("a batch that maps", function()
  local RULES = [[return { id = "mine", exact = true, stages = { {
    { "w", to = "conv.weight", op = { { "reshape", { "n", 2 } }, { "transpose", 0, 1 } } },
  } }, vars = { n = { config = "n" } } }]]

  before_each(function()
    mkdir "zoo/b"
    save("zoo/a.pth", { 1, 2, 3, 4 })
    save("zoo/b/b.pth", { 1, 2, 3, 4, 5, 6 })
    scratch.write(cli.path "mine.lua", RULES)
    scratch.write(cli.path "zoo/config.json", '{"n":2}')
    scratch.write(cli.path "zoo/b/config.json", '{"n":3}')
  end)

  local function run(status) return batch(status, "@zoo", "--out-dir", "@out", "--format", "pth", "--map", "@mine.lua") end
  local function shape(name) return assert(ckpt.open(cli.path(name))):at "conv.weight".shape end

  it("every file by the same rules, with the config beside it", function()
    run(0)
    assert.same({ { 2, 2 }, { 2, 3 } }, { shape "out/a.pth", shape "out/b/b.pth" })
    assert.equal("skipped", run(0)["b.pth"].status)
  end)

  it("again when the rules or a config have changed", function()
    run(0)
    scratch.write(cli.path "zoo/b/config.json", '{ "n": 3 }')
    local by_out = run(0)
    assert.same({ "skipped", "converted" }, { by_out["a.pth"].status, by_out["b.pth"].status })
    scratch.write(cli.path "mine.lua", (RULES:gsub(", { \"transpose\", 0, 1 }", "")))
    by_out = run(0)
    assert.same({ "converted", "converted" }, { by_out["a.pth"].status, by_out["b.pth"].status })
    assert.same({ 3, 2 }, shape "out/b/b.pth")
  end)

  it("and tells of a file that the rules do not fit, with the rule and its line", function()
    scratch.write(cli.path "zoo/config.json", '{"n":7}')
    local by_out = run(1)
    assert.same({ "failed", "converted", "policy" }, { by_out["a.pth"].status, by_out["b.pth"].status, by_out["a.pth"].code })
    assert.matches("zoo/a.pth: .*mine.lua:2: rule 1.1: reshape", by_out["a.pth"].message)
  end)

  it("and refuses wrong rules before anything is written", function()
    scratch.write(cli.path "mine.lua", 'return { id = "x", stages = { { { "w", op = { "nonsense" } }, { "{" } } } }')
    local out, err, status = cli.run("convert", "@zoo", "--out-dir", "@out", "--format", "pth", "--map", "@mine.lua")
    assert.same({ "", false }, { out, exists "out" })
    assert.truthy(status == 1 or status == 2)
    assert.matches("mine.lua:1: .*nonsense.*\n.*mine.lua:1: ", err)
  end)
end)

describe("a batch refuses, before anything is written,", function()
  local function refuses(sentence, ...)
    cli.refuses(2, sentence, "convert", ...)
    assert.is_false(exists "out")
  end

  it("two inputs that would become one file", function()
    mkdir "a"
    mkdir "b"
    save "a/x.pth"
    save "b/x.pt"
    refuses("@a/x.pth and @b/x.pt would both become @out/x.safetensors: name the directory that they are in, or convert " ..
      "them apart", "@a/x.pth", "@b/x.pt", "--out-dir", "@out", "--format", "safetensors")
    text(0, "@a/x.pth", "@a/x.pth", "--out-dir", "@once", "--format", "safetensors")
    assert.equal("x.safetensors", files "once")
  end)

  it("to overwrite what it reads", function()
    save "x.pth"
    cli.refuses(2, "@x.pth would be overwritten by what @x.pth becomes: choose another --out-dir", "convert", "@x.pth",
      "--out-dir", "@.")
    assert.is_false(exists "convert.jsonl")
  end)

  it("calls that make no sense", function()
    save "x.pth"
    save "y.e"
    mkdir "none"
    refuses("several inputs want --out-dir DIR (see: ckpt convert --help)", "@x.pth", "@x.pth", "@x.pth")
    refuses("@y.e: into what format? --format pth or --format safetensors", "@x.pth", "@y.e", "--out-dir", "@out")
    refuses("there is no checkpoint in @none", "@none", "--out-dir", "@out")
    refuses("a .pth file has no place for --metadata", "@x.pth", "--out-dir", "@out", "--metadata", "a=b")
    refuses("--memory must be at least 67.1 MB", "@x.pth", "--out-dir", "@out", "--memory", "1MB")
    refuses("'0' is not a number from 1 to 256 (see: ckpt convert --help)", "@x.pth", "--out-dir", "@out", "--jobs", "0")
  end)

  it("a directory that cannot be made", function()
    save "x.pth"
    local _, err, status = cli.run("convert", "@x.pth", "--out-dir", "@x.pth/out")
    assert.equal(3, status)
    assert.matches("^ckpt: %S+/x.pth/out: ", err)
  end)
end)
