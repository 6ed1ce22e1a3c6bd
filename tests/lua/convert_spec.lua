-- convert_spec.lua: `ckpt convert IN OUT`: formats, parts, dtypes, what is dropped, and that nothing is lost silently.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

before_each(cli.enter)
after_each(cli.leave)

local function tensor(values, dtype) return assert(ckpt.tensor(dtype or "float32", { #values }, values)) end
local function convert(...) return (cli.says(0, "convert", ...):gsub("\n +", "\n  ")) end
local function json(...) return (cli.json(0, "convert", "--json", ...)) end

-- What is in a file: "path=value" of everything, in order; tensors as their numbers.
local function contents(name)
  local cp <close> = assert(ckpt.open(cli.path(name)))
  local out = {}
  for entry in assert(cp:entries()) do
    local value = entry.value
    if entry.kind == "tensor" then
      out[#out + 1] = ("%s=%s %s"):format(entry.name, value.dtype, table.concat(value:tolist(), ","))
    elseif type(value) ~= "userdata" then
      out[#out + 1] = ("%s=%s"):format(entry.name, tostring(value))
    end
    for _, alias in ipairs(entry.kind == "tensor" and entry.aliases or {}) do out[#out + 1] = alias .. "=same" end
  end
  return table.concat(out, " ")
end

local function save_run(name)
  cli.save(name, ckpt.ordered {
    { "epoch", 3 }, { "model", ckpt.ordered { { "w", tensor { 1, 2 } }, { "n", tensor({ 7 }, "int64") } } },
    { "optimizer", { lr = 0.5, state = { m = tensor { 3, 4 } } } }, { "list", { 1, tensor { 9 } } },
  })
end

local ALL = "epoch=3 model.w=float32 1.0,2.0 model.n=int64 7 optimizer.lr=0.5 optimizer.state.m=float32 3.0,4.0 " ..
  "list[0]=1 list[1]=float32 9.0"

describe("convert to another format", function()
  it("takes it from the suffix or from --format", function()
    cli.save("a.pth", { model = { w = tensor { 1, 2 } } })
    assert.matches("^@a.pth %-> @b.safetensors: 1 tensor, %d+ B\n$", convert("@a.pth", "@b.safetensors"))
    assert.equal("model.w=float32 1.0,2.0", contents "b.safetensors")
    convert("@b.safetensors", "@c.pt")
    assert.equal("model.w=float32 1.0,2.0", contents "c.pt")
    assert.equal("torch-zip", json("@b.safetensors", "@d", "--format", "pth").format)
    local report = json("@a.pth", "@e", "--format", "safetensors")
    assert.same({ cli.path "a.pth", cli.path "e", "torch-zip", "safetensors", { "e" }, 1 },
      { report["in"], report.out, report.from, report.format, report.files, report.tensors })
    assert.equal(#scratch.read(cli.path "e"), report.bytes)
    cli.refuses(2, "@f.onnx: what format is it? --format pth or --format safetensors", "convert", "@a.pth", "@f.onnx")
    cli.refuses(2, "argument for option '--format' must be one of 'pth', 'safetensors' (see: ckpt convert --help)", "convert",
      "@a.pth", "@f", "--format", "onnx")
  end)

  it("names what the format has no place for, and writes nothing", function()
    save_run "a.pth"
    cli.refuses(3, "@a.pth: safetensors holds tensors only, not: 'epoch', 'optimizer.lr', 'list[0]' (--tensors-only or --drop " ..
      "GLOB leaves them out)", "convert", "@a.pth", "@b.safetensors")
    cli.save("c.pth", { z = ckpt.tensor("complex128", { 2 }), w = tensor { 1 } })
    local _, err, status = cli.run("convert", "@c.pth", "@b.safetensors")
    assert.equal(3, status)
    assert.matches("^ckpt: %S+/c.pth: .*'z'.*%(%-%-drop%-unsupported or %-%-drop GLOB leaves them out%)\n$", err)
    assert.is_nil(io.open(cli.path "b.safetensors"))
    assert.matches("\n  dropped: z\n$", convert("@c.pth", "@b.safetensors", "--drop-unsupported"))
    assert.equal("w=float32 1.0", contents "b.safetensors")
  end)

  it("leaves out plain values when told so, and tells them", function()
    save_run "a.pth"
    assert.matches("\n  dropped: epoch, optimizer.lr, list%[0%]\n$", convert("@a.pth", "@b.safetensors", "--tensors-only"))
    for _, part in ipairs { "list[1]=float32 9.0", "model.n=int64 7", "model.w=float32 1.0,2.0",
                            "optimizer.state.m=float32 3.0,4.0" } do
      assert.truthy((contents "b.safetensors"):find(part, 1, true))
    end
    assert.equal(4, #assert(ckpt.open(cli.path "b.safetensors")):list())
    assert.matches("dropped: epoch", convert("@a.pth", "@c.pth", "--tensors-only"))
    assert.same({ "epoch", "optimizer.lr", "list[0]" }, json("@a.pth", "@c.pth", "--tensors-only").dropped)
  end)

  it("writes tied tensors once and restores them; overlapping views become copies", function()
    local w = tensor { 1, 2, 3 }
    cli.save("a.pth", ckpt.ordered { { "a", w }, { "b", w }, { "part", w:slice(1, 1, 2) } })
    local out = convert("@a.pth", "@b.safetensors")
    assert.matches("\n  tied, written once: b = a\n  no longer shared: part\n$", out)
    local report = json("@a.pth", "@b.safetensors")
    assert.same({ { name = "b", kept = "a" } }, report.tied)
    assert.same({ "part" }, report.copied)
    assert.equal("a=float32 1.0,2.0,3.0 b=same part=float32 1.0,2.0", contents "b.safetensors")
    assert.same({ tied = {}, copied = {} }, { tied = json("@a.pth", "@c.pth").tied, copied = json("@a.pth", "@c.pth").copied })
  end)

  it("shards with an index", function()
    cli.save("a.pth", { a = ckpt.tensor("float32", { 300 }), b = ckpt.tensor("float32", { 300 }) })
    local out = convert("@a.pth", "@b.safetensors", "--shard-size", "1.5KB")
    assert.matches("2 tensors, [%d.]+ KB\n  3 files, opened by b.safetensors.index.json\n$", out)
    assert.equal(2, #assert(ckpt.open(cli.path "b.safetensors.index.json")):list())
    assert.same({ "c-00001-of-00002.pth", "c-00002-of-00002.pth", "c.pth.index.json" },
      json("@a.pth", "@c.pth", "--shard-size", "1500B").files)
    convert("@b.safetensors.index.json", "@whole.pth")
    assert.equal("the same: 2 tensors, 0 plain values\n", cli.says(0, "diff", "@a.pth", "@whole.pth"))
    for _, word in ipairs { "x", "0", "5XB", "-1" } do
      cli.refuses(2, ("'%s' is not a size, such as 500MB or 5GB (see: ckpt convert --help)"):format(word), "convert", "@a.pth",
        "@d.pth", "--shard-size=" .. word)
    end
  end)

  it("carries metadata along where the format has a place for it", function()
    cli.save("a.pth", { w = tensor { 1 } })
    convert("@a.pth", "@b.safetensors", "--metadata", "format=pt", "--metadata", "by=me=you")
    local function metadata(name)
      local cp <close> = assert(ckpt.open(cli.path(name)))
      local found = {}
      for key, value in pairs(cp.metadata or {}) do found[key] = value end
      return found
    end
    assert.same({ format = "pt", by = "me=you" }, metadata "b.safetensors")
    convert("@b.safetensors", "@c.safetensors", "--metadata", "by=them", "--dtype", "float16")
    assert.same({ format = "pt", by = "them" }, metadata "c.safetensors")
    assert.matches("\n  dropped: __metadata__\n", convert("@b.safetensors", "@d.pth"))
    assert.matches("\n  dropped: __metadata__\n", convert("@b.safetensors", "@d.pth", "--dtype", "float16"))
    cli.refuses(2, "a .pth file has no place for --metadata", "convert", "@a.pth", "@d.pth", "--metadata", "a=b")
  end)
end)

describe("convert a part", function()
  it("a subtree becomes the whole", function()
    save_run "a.pth"
    assert.matches("2 tensors", convert("@a.pth", "@b.safetensors", "--select", "model"))
    assert.equal("n=int64 7 w=float32 1.0,2.0", (contents "b.safetensors":gsub("^(w.*) (n.*)$", "%2 %1")))
    convert("@a.pth", "@c.pth", "--select", "optimizer")
    assert.equal("lr=0.5 state.m=float32 3.0,4.0", contents "c.pth")
  end)

  it("tensors by their names keep them", function()
    save_run "a.pth"
    convert("@a.pth", "@b.pth", "--select", "model.*", "--select", "list?1]")
    assert.equal("model.w=float32 1.0,2.0 model.n=int64 7 list[1]=float32 9.0", contents "b.pth")
    convert("@a.pth", "@c.pth", "--select", "model.w")
    assert.equal("model.w=float32 1.0,2.0", contents "c.pth")
    cli.refuses(2, "@a.pth: nothing in it fits nothing.* or x", "convert", "@a.pth", "@d.pth", "--select", "nothing.*",
      "--select", "x")
  end)

  it("and what is tied stays so", function()
    local w = tensor { 1 }
    cli.save("a.pth", { m = ckpt.ordered { { "a", w }, { "b", w }, { "c", w:reshape { 1 } } } })
    convert("@a.pth", "@b.pth", "--select", "m.*")
    assert.equal("m.a=float32 1.0 m.b=same m.c=float32 1.0", contents "b.pth")
    assert.same({ "tied: m.a = m.b, m.c" }, (cli.json(0, "inspect", "@b.pth", "--json")).warnings)
  end)

  it("drops what is named: values, tensors, containers, fields", function()
    save_run "a.pth"
    assert.matches("\n  dropped: epoch, optimizer, list%[0%]\n$",
      convert("@a.pth", "@b.pth", "--drop", "epoch", "--drop", "optim*", "--drop", "list?0]"))
    assert.equal("model.w=float32 1.0,2.0 model.n=int64 7 list[1]=float32 9.0", contents "b.pth")
    assert.same({ "optimizer.lr", "optimizer.state" }, json("@a.pth", "@c.pth", "--drop", "optimizer.*").dropped)
    assert.equal("epoch=3 model.w=float32 1.0,2.0 model.n=int64 7 list[0]=1 list[1]=float32 9.0", contents "c.pth")
    assert.equal(ALL, contents "a.pth")
  end)

  it("drops a second name alone", function()
    local w = tensor { 1 }
    cli.save("a.pth", { m = ckpt.ordered { { "a", w }, { "b.c", w }, { "d", w } } })
    assert.same({ "m.b.c" }, json("@a.pth", "@b.pth", "--drop", "m.b.c").dropped)
    assert.equal("m.a=float32 1.0 m.d=same", contents "b.pth")
    assert.same({ "m.a", "m.d" }, json("@a.pth", "@b.pth", "--drop", "m.?").dropped)
    assert.equal("m.b.c=float32 1.0", contents "b.pth")
  end)

  it("drops under keys that are no strings, and attributes", function()
    cli.save("a.pth", { state = ckpt.items { { 0, 1 }, { 2.5, 2 }, { true, 3 }, { ckpt.tuple { 1, 2 }, 4 } },
                        m = ckpt.ordered({ { "w", tensor { 1 } } }, { _metadata = { v = 1 } }) })
    assert.same({ "m._metadata", "state.0", "state.2.5", "state.(1, 2)" },
      json("@a.pth", "@b.pth", "--drop", "state.0", "--drop", "state.2.5", "--drop", "*(1, 2)", "--drop", "m._meta*").dropped)
    assert.equal("m.w=float32 1.0 state.True=3", contents "b.pth")
  end)

  it("refuses to drop what is part of a call or a tuple, or all of it", function()
    cli.save("a.pth", { pair = ckpt.tuple { 1, 2 }, size = ckpt.size { 3, 4 } })
    cli.refuses(2, "@a.pth: 'pair[0]' cannot be dropped alone: it is part of 'pair'", "convert", "@a.pth", "@b.pth", "--drop",
      "pair[[]0]", "--drop", "pair?0]")
    cli.refuses(2, "@a.pth: the whole checkpoint would be dropped", "convert", "@a.pth", "@b.pth", "--drop", "*")
    cli.refuses(2, "@a.pth: nothing in it fits x or y*", "convert", "@a.pth", "@b.pth", "--drop", "x", "--drop", "y*")
    assert.is_nil(io.open(cli.path "b.pth"))
  end)
end)

describe("convert to another dtype", function()
  it("casts floating tensors only", function()
    save_run "a.pth"
    assert.matches("\n  cast: 3 float32 %-> bfloat16\n$", convert("@a.pth", "@b.pth", "--dtype", "bfloat16"))
    assert.equal((ALL:gsub("float32", "bfloat16")), contents "b.pth")
    assert.same({ ["float32 -> bfloat16"] = 3, ["int64 -> int32"] = 1 },
      json("@a.pth", "@c.pth", "--dtype", "bfloat16", "--dtype-map", "int64=int32").cast)
    assert.same({ ["float32 -> float64"] = 3 },
      json("@a.pth", "@c.pth", "--dtype", "float16", "--dtype-map", "float32=float64").cast)
    cli.refuses(2, "'int8' is not a floating dtype, such as float16 or bfloat16 (see: ckpt convert --help)", "convert", "@a.pth",
      "@b.pth", "--dtype", "int8")
    cli.refuses(2, "'float32=x' is not of the form dtype=dtype (see: ckpt convert --help)", "convert", "@a.pth", "@b.pth",
      "--dtype-map", "float32=x")
  end)

  it("keeps what is tied, and tells what is no longer shared", function()
    local w = tensor { 1, 2 }
    cli.save("a.pth", ckpt.ordered { { "a", w }, { "b", w }, { "same", w:reshape { 2 } }, { "part", w:slice(1, 1, 1) } })
    local report = json("@a.pth", "@b.pth", "--dtype", "float16")
    assert.same({ "part" }, report.copied)
    assert.same({ "tied: a = b, same" }, (cli.json(0, "inspect", "@b.pth", "--json")).warnings)
  end)

  it("tells values that become infinite", function()
    cli.save("a.pth", { big = tensor { 1, 70000 }, small = tensor { 65504 }, low = tensor { -1e6 } })
    assert.matches("\n  note: values too large for the dtype in: big, low\n$", convert("@a.pth", "@b.pth", "--dtype", "float16"))
    assert.same({}, json("@a.pth", "@b.pth", "--dtype", "bfloat16").overflow)
  end)

  it("refuses a cast that would lose something", function()
    cli.save("a.pth", { z = ckpt.tensor("complex64", { 1 }) })
    local _, err, status = cli.run("convert", "@a.pth", "@b.pth", "--dtype-map", "complex64=float32")
    assert.matches("^ckpt: %S+/a.pth: tensor 'z': no cast from complex64 to float32", err)
    assert.equal(3, status)
    assert.is_nil(io.open(cli.path "b.pth"))
  end)
end)

describe("convert --sanitize", function()
  local function write(name, pickle) scratch.write(cli.path(name), tiny_zip.checkpoint(pickle)) end

  it("leaves out objects of unknown classes and tells them", function()
    write("a.pth", "\x80\2}(X\1\0\0\0acos\nsystem\nX\1\0\0\0b\x85RX\1\0\0\0eK\3u.")
    assert.matches("\n  dropped: a\n$", convert("@a.pth", "@b.pth", "--sanitize"))
    assert.equal("e=3", contents "b.pth")
    assert.same({ "a" }, json("@a.pth", "@b.pth", "--sanitize").dropped)
  end)

  it("makes plain values of what has one", function()
    write("a.pth", "\x80\2}X\1\0\0\0accollections\ndefaultdict\nc__builtin__\nint\n\x85RX\1\0\0\0kK\1ss.")
    local report = json("@a.pth", "@b.pth", "--sanitize")
    assert.same({ { name = "a", class = "collections.defaultdict", into = "dict" } }, report.changed)
    assert.matches("\n  changed: a %(collections.defaultdict to dict%)\n$", convert("@a.pth", "@b.pth", "--sanitize"))
    assert.equal("a.k=1", contents "b.pth")
    cli.refuses(2, "argument for option '--for' must be one of '2.6', '1.13' (see: ckpt convert --help)", "convert", "@a.pth",
      "@b.pth", "--for", "3")
  end)
end)

describe("convert of several saves", function()
  it("wants to know which", function()
    scratch.write(cli.path "two.pkl", "\x80\2}X\1\0\0\0aK\1s.\x80\2}X\1\0\0\0bK\2s.")
    cli.refuses(2, "@two.pkl holds 2 saves: choose one with --save N", "convert", "@two.pkl", "@b.pth")
    convert("@two.pkl", "@b.pth", "--save", "2")
    assert.equal("b=2", contents "b.pth")
    cli.refuses(3, "@two.pkl: there is no save 3: the file holds 2", "convert", "@two.pkl", "@b.pth", "--save", "3")
  end)
end)

describe("convert leaves OUT as it was", function()
  it("when IN is damaged or cannot be written", function()
    save_run "a.pth"
    scratch.write(cli.path "b.pth", "before")
    cli.damage("a.pth", ("<ff"):pack(3, 4))
    local _, err, status = cli.run("convert", "@a.pth", "@b.pth", "--dtype", "float16", "--drop", "epoch")
    assert.matches("^ckpt: %S+/a.pth: record 'a/data/%d' %(byte %d+%): its CRC%-32", err)
    assert.equal(3, status)
    assert.equal("before", scratch.read(cli.path "b.pth"))
  end)

  it("shows no control characters", function()
    cli.save("a.pth", { ["x\27[2J"] = 1, w = tensor { 1 } })
    assert.matches("\n  dropped: x\\x1b%[2J\n$", convert("@a.pth", "@b.safetensors", "--tensors-only"))
    local _, err = cli.run("convert", "@a.pth", "@b.safetensors")
    assert.is_nil(err:find "\27")
  end)
end)
