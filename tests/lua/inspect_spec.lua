-- inspect_spec.lua: `ckpt inspect` beyond its table: the tree, statistics, and what it warns of.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

before_each(cli.enter)
after_each(cli.leave)

local nan = 0 / 0

local function tensor(values, dtype) return assert(ckpt.tensor(dtype or "float32", { #values }, values)) end
local function inspect(...) return cli.says(0, "inspect", ...) end
local function json(...) return (cli.json(0, "inspect", "--json", ...)) end

-- Lines without the blanks that align them.
local function squeezed(out) return (out:gsub("(%S) +", "%1 ")) end

local function write_pickle(name, pickle) scratch.write(cli.path(name), tiny_zip.checkpoint(pickle)) end

describe("inspect --tree", function()
  it("shows everything, indented, with types and values", function()
    cli.save("a.pth", ckpt.ordered {
      { "epoch", 3 }, { "lr", 0.5 }, { "done", false }, { "name", "run" }, { "nothing", ckpt.none },
      { "model", ckpt.ordered { { "conv.weight", cli.iota("float32", { 2, 2 }, 4) } } },
      { "pair", ckpt.tuple { 1, ckpt.bytes "\1" } }, { "", {} },
    })
    local out = inspect("@a.pth", "--tree")
    assert.equal([[
  (top level) dict 8 items
    epoch int 3
    lr float 0.5
    done bool False
    name str 'run'
    nothing None None
    model dict 1 item
      conv.weight float32 2x2 16 B
    pair tuple 2 items
      [0] int 1
      [1] bytes b'\x01'
    '' list 0 items
]], (squeezed(out):gsub("^[^\n]*\n", "")))
    assert.matches("^@a.pth  torch zip, [%d.]+ KB, 1 tensor\n", out)
    assert.equal(48, #out:match("\n(    epoch +)int"))
    local list = json("@a.pth", "--tree").tree
    assert.equal(12, #list)
    assert.same({ path = "epoch", depth = 1, kind = "int", type = "int", value = 3 }, list[2])
    assert.same({ path = "model.conv.weight", depth = 2, kind = "tensor", type = "float32" }, list[8])
    assert.same({ path = "pair[1]", depth = 2, kind = "bytes", type = "bytes", value = "b'\\x01'" }, list[11])
  end)

  it("shows objects of unknown classes with their fields", function()
    write_pickle("o.pth", "\x80\2cm\nNet\n)\x81}(X\5\0\0\0depthK\3X\4\0\0\0nameX\1\0\0\0aub.")
    assert.matches("\n  %(top level%) m.Net object\n    depth int 3\n    name str 'a'\n", squeezed(inspect("@o.pth", "--tree")))
    local list = json("@o.pth", "--tree").tree
    assert.same({ "object", "m.Net" }, { list[1].kind, list[1].type })
    assert.equal("depth", list[2].path)
  end)

  it("cuts long containers, unless --all; and shows what fits", function()
    local list = {}
    for i = 1, 40 do list[i] = i end
    cli.save("l.pth", { list = list, after = { 1 } })
    local out = squeezed(inspect("@l.pth", "--tree"))
    assert.matches("%[11%] int 12\n      %.%.%. 28 more: %-%-all\n$", out)
    assert.matches("%[39%] int 40\n$", squeezed(inspect("@l.pth", "--tree", "--all")))
    assert.matches("\n      %[39%] int 40\n$", squeezed(inspect("@l.pth", "--tree", "--select", "*[39]")))
    assert.equal(44, #json("@l.pth", "--tree").tree)
  end)

  it("shows what is shared once, with its other name, and ends on cycles", function()
    local shared = { 1 }
    local loop = { shared = shared, again = shared }
    loop.loop = loop
    cli.save("c.pth", loop)
    local out = squeezed(inspect("@c.pth", "--tree"))
    assert.matches("%(top level%) dict 3 items = loop\n    again list 1 item = shared\n      %[0%] int 1\n", out)
    assert.same({ "loop" }, json("@c.pth", "--tree").tree[1].aliases)
  end)

  it("tells numpy arrays, sets and complex numbers in one line", function()
    local dtype = "cnumpy\ndtype\n(X\2\0\0\0f8\x89\x88tR(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    write_pickle("n.pth", "\x80\2](cnumpy.core.multiarray\nscalar\n(" .. dtype .. "c_codecs\nencode\n(X\8\0\0\0" ..
      "\0\0\0\0\0\0\0?X\6\0\0\0latin1tRtRc__builtin__\nset\n](K\2K\1e\x85Re.")
    local out = squeezed(inspect("@n.pth", "--tree"))
    assert.matches("    %[0%] numpy scalar ", out)
    assert.matches("\n    %[1%] set {2, 1}\n", out)
    assert.matches("note: numpy contents, which weights_only refuses", out)
  end)

  it("sends no control characters to a terminal", function()
    cli.save("odd.pth", { ["k\27[2J"] = "\27[31m" })
    assert.matches("\n    k\\x1b%[2J str '\\x1b%[31m'\n$", squeezed(inspect("@odd.pth", "--tree")))
  end)
end)

describe("inspect --stats", function()
  it("tells numbers of every tensor", function()
    cli.save("s.pth", ckpt.ordered { { "w", tensor { -1, 0, 4 } }, { "i", tensor({ 7 }, "int64") } })
    assert.equal([[
     min max mean std zeros not finite
  w -1 4 1 2.65 1 0
  i 7 7 7 - 0 0
]], (squeezed(inspect("@s.pth", "--stats")):gsub("^[^\n]*\n", "")))
    local stats = json("@s.pth", "--stats").tensors[1].stats
    assert.same({ -1, 4, 1, 3, 1, 0, 0, 0 },
      { stats.min, stats.max, stats.mean, stats.count, stats.zeros, stats.nan, stats.inf, stats.nonfinite })
    assert.is_true(math.abs(stats.std - 7 ^ 0.5) < 1e-12)
  end)

  it("warns of what is not finite", function()
    cli.save("s.pth", { bad = tensor { nan, math.huge, -math.huge, 2 }, one = tensor { nan }, good = tensor { 1 } })
    local out = inspect("@s.pth", "--stats")
    assert.matches("note: bad: 3 of 4 values are not finite %(1 NaN, 2 infinite%)\n", out)
    assert.matches("note: one: 1 of 1 value is not finite %(1 NaN, 0 infinite%)\n$", out)
    local value = json("@s.pth", "--stats")
    assert.equal(2, #value.warnings)
    assert.same({}, json("@s.pth").warnings)
  end)

  it("says where there are no numbers", function()
    cli.save("q.pth", { w = ckpt.tensor("bits8", { 2 }) })
    assert.matches("\n  w %(no numbers%)\n", squeezed(inspect("@q.pth", "--stats")))
  end)
end)

describe("inspect warns of", function()
  local function warnings(value)
    cli.save("w.pth", value)
    return json("@w.pth").warnings
  end

  it("nothing where nothing is odd", function()
    assert.same({}, warnings { w = tensor { 1, 2 }, epoch = 1 })
  end)

  it("prefixes of wrappers, nested ones and such inside names", function()
    assert.same({ "every tensor of 'model' begins with '_orig_mod.module.', as torch.compile of DataParallel name them" },
      warnings { model = { ["_orig_mod.module.w"] = tensor { 1 }, ["_orig_mod.module.b"] = tensor { 1 } } })
    assert.same({ "every tensor of the file begins with 'module.', as DataParallel names them",
                  "1 tensor of the file has '_orig_mod.' in the name, as torch.compile names them" },
      warnings { ["module.w"] = tensor { 1 }, ["module.enc._orig_mod.w"] = tensor { 1 } })
    assert.same({}, warnings { ["module.w"] = tensor { 1 }, head = tensor { 1 } })
    assert.same({ "2 tensors of the file have '_fsdp_wrapped_module.' in the name, as FullyShardedDataParallel names them" },
      warnings { ["a._fsdp_wrapped_module.w"] = tensor { 1 }, ["b._fsdp_wrapped_module.w"] = tensor { 1 } })
  end)

  it("tied weights: one tensor under two names, or two of one storage", function()
    local w = cli.iota("float32", { 4 }, 4)
    assert.same({ "tied: a = b" }, warnings { a = w, b = w })
    assert.same({ "tied: a = b" }, warnings { a = w, b = w:reshape { 4 } })
    assert.same({}, warnings { a = w:slice(1, 1, 2), b = w:slice(1, 3, 4) })
    cli.save("v.pth", { a = w:slice(1, 1, 2), b = w:slice(1, 3, 4) })
    assert.matches("note: one storage: a, b\n$", inspect("@v.pth"))
  end)

  it("slices that keep their whole storage", function()
    local big = ckpt.tensor("float32", { 100000 })
    assert.same({ "400 KB of the file belong to no tensor: a saved slice keeps the whole storage that it was cut from (head)" },
      warnings { head = big:slice(1, 1, 10) })
    assert.same({}, warnings { head = big:slice(1, 1, 10), tail = big:slice(1, 11, 100000) })
  end)

  it("float64, tensors without data", function()
    assert.same({ "2 tensors in float64: a, b (24 B)" },
      warnings { a = tensor({ 1, 2 }, "float64"), b = tensor({ 1 }, "float64"), s = ckpt.tensor("float64", {}) })
  end)

  it("records without a checksum, several saves, big-endian bytes", function()
    local pickle = "\x80\2ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\1" ..
      "tQK\0K\1\x85K\1\x85\x89}tR."
    scratch.write(cli.path "be.pth", tiny_zip.zip {
      { "archive/data.pkl", pickle }, { "archive/byteorder", "big" }, { "archive/data/0", (">f"):pack(2) },
      { "archive/version", "3\n" },
    })
    assert.same({ "big-endian file: 1 tensor, such as (top level)" }, json("@be.pth").warnings)
    assert.equal(2, json("@be.pth", "--stats").tensors[1].stats.max)
    scratch.write(cli.path "two.pkl", "\x80\2K\1.\x80\2]K\2a.")
    local value = json("@two.pkl")
    assert.equal(2, value.saves)
    assert.same({ "2 saves in one file; this is one of them (--save 1 to --save 2)" }, value.warnings)
    assert.matches("\n  %[0%]  int    2\n", inspect("@two.pkl", "--save", "2"))
    cli.refuses(3, "@two.pkl: there is no save 3: the file holds 2", "inspect", "@two.pkl", "--save", "3")
    cli.refuses(2, "'0' is not a number from 1 on (see: ckpt inspect --help)", "inspect", "@two.pkl", "--save", "0")
  end)
end)

describe("inspect's options", function()
  it("exclude each other where they do", function()
    cli.refuses(2, "option '--tree' can not be used together with option '--stats' (see: ckpt inspect --help)", "inspect", "@x",
      "--stats", "--tree")
  end)
end)

describe("inspect of real files", function()
  local shared = os.getenv "CKPT_SHARED" or "../shared"

  it("warns of checksums that are missing and tensors without data", function()
    local file = io.open(shared .. "/data/torch/nocrc.pt", "rb")
    if not file then return pending "no ../shared/data/torch" end
    file:close()
    assert.same({ "7 of 7 records without a checksum: damage would not be seen" }, json(shared .. "/data/torch/nocrc.pt").warnings)
    assert.same({ "1 tensor without data (device meta): meta" }, json(shared .. "/data/torch/params.pt").warnings)
    local out = squeezed(inspect(shared .. "/data/torch/sparse.pt", "--tree"))
    assert.matches("\n    coo sparse_coo 3x3, 3 values\n    csr sparse_csr 3x3, 3 values\n", out)
    out = squeezed(inspect(shared .. "/data/torch/quantized.pt", "--tree"))
    assert.matches("\n    pt quint8 2 2 B, per_tensor_affine, scale 0.1, zero point 3\n", out)
  end)
end)
