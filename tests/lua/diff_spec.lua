-- diff_spec.lua: `ckpt diff A B`: every kind of difference in text and JSON, tolerances, exit statuses.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

before_each(cli.enter)
after_each(cli.leave)

local nan = 0 / 0

local function tensor(values, dtype) return assert(ckpt.tensor(dtype or "float32", { #values }, values)) end

local function pickles(a, b)
  scratch.write(cli.path "a.pth", tiny_zip.checkpoint(a))
  scratch.write(cli.path "b.pth", tiny_zip.checkpoint(b))
end

local function both(a, b)
  cli.save("a.pth", a)
  cli.save("b.pth", b)
end

local function diff(status, ...) return cli.says(status, "diff", "@a.pth", "@b.pth", ...) end
local function json(status, ...) return cli.json(status, "diff", "@a.pth", "@b.pth", "--json", ...) end

local function trainer(epoch, w)
  return { epoch = epoch, lr = 0.1, name = "run", model = ckpt.ordered { { "w", w }, { "b", tensor { 1, 2 } } } }
end

describe("diff of equal checkpoints", function()
  it("says so and exits with 0", function()
    both(trainer(3, tensor { 1, 2, 3 }), trainer(3, tensor { 1, 2, 3 }))
    assert.equal("the same: 2 tensors, 3 plain values\n", diff(0))
    local report = json(0)
    assert.is_true(report.same)
    assert.same({ 2, 2, 3 }, { report.compared, report.same_tensors, report.plain_compared })
    for _, kind in ipairs { "missing", "extra", "shapes", "dtypes", "layouts", "values", "plain" } do
      assert.same({}, report[kind])
    end
    assert.same({ cli.path "a.pth", cli.path "b.pth" }, { report.a, report.b })
    assert.is_nil(report.order)
  end)

  it("takes a NaN for itself, unless asked not to", function()
    both({ w = tensor { nan, 1 }, loss = nan }, { w = tensor { nan, 1 }, loss = nan })
    assert.equal("the same: 1 tensor, 1 plain value\n", diff(0))
    assert.equal("  values  w  1/2  abs 0         rel 0  NaN 1\n  value  loss  nan -> nan\n" ..
      "different: 1 of 1 tensor, 1 plain value\n", diff(1, "--nan-differs"))
  end)

  it("joins aliases: tied in one, written twice in the other", function()
    local shared = tensor { 1, 2 }
    both({ a = shared, b = shared }, { a = tensor { 1, 2 }, b = tensor { 1, 2 } })
    assert.equal("the same: 2 tensors, 0 plain values\n", diff(0))
  end)

  it("holds an object with itself", function()
    local p = "cm\nNet\n)\x81}X\1\0\0\0aK\1sb."
    pickles(p, p)
    assert.equal("the same: 0 tensors, 2 plain values\n", diff(0))
  end)
end)

describe("diff finds", function()
  it("keys that one lacks", function()
    both({ a = tensor { 1 }, only = { x = 1, w = tensor { 1, 2 } } }, { a = tensor { 1 }, more = tensor({ 1 }, "int64") })
    assert.equal("  only in A  only.w  float32  2\n  only in B  more  int64    1\n  only in A  only.x  1\n" ..
      "different: 1 only in A, 1 only in B, 1 plain value\n", diff(1))
    local report = json(1)
    assert.same({ "only.w" }, report.missing)
    assert.same({ "more" }, report.extra)
    assert.same({ { name = "only.x", a = 1 } }, report.plain)
  end)

  it("shapes and dtypes; equal values of another dtype are equal on request", function()
    both({ s = tensor { 1, 2 }, t = tensor { 1, 2 } }, { s = tensor { 1, 2, 3 }, t = tensor({ 1, 2 }, "float16") })
    assert.equal("  shape  s  2 -> 3\n  dtype  t  float32 -> float16\ndifferent: 2 of 2 tensors\n", diff(1))
    assert.equal("  shape  s  2 -> 3\ndifferent: 1 of 2 tensors\n", diff(1, "--ignore-dtype"))
    assert.equal("the same: 1 tensor, 0 plain values\n", diff(0, "--ignore-dtype", "--select", "t"))
    local report = json(1)
    assert.same({ { name = "s", a = { 2 }, b = { 3 } } }, report.shapes)
    assert.same({ { name = "t", a = "float32", b = "float16" } }, report.dtypes)
  end)

  it("values, with the largest differences; tolerances let them pass", function()
    both({ w = tensor { 1, 2, 4, 8 } }, { w = tensor { 1, 2.5, 4, 10 } })
    assert.equal("  values  w  2/4  abs 2         rel 0.2\ndifferent: 1 of 1 tensor\n", diff(1))
    assert.same({ { name = "w", differing = 2, beyond = 2, unordered = 0, of = 4, first = 1, max_abs = 2, max_rel = 0.2 } },
      json(1).values)
    assert.equal("  values  w  1/4  abs 2         rel 0.2\ndifferent: 1 of 1 tensor\n", diff(1, "--tolerance", "0.5"))
    assert.equal("the same: 1 tensor, 0 plain values\n", diff(0, "--tolerance", "2"))
    assert.equal("the same: 1 tensor, 0 plain values\n", diff(0, "--rtol", "0.2"))
  end)

  it("a NaN beside a number and an infinity, whatever the tolerance", function()
    both({ w = tensor { 1, math.huge, 3 } }, { w = tensor { nan, 2, 3 } })
    assert.equal("  values  w  2/3  abs inf       rel inf  NaN 1\ndifferent: 1 of 1 tensor\n",
      diff(1, "--tolerance", "1e300"))
    assert.equal("inf", json(1).values[1].max_abs)
  end)

  it("plain values of every kind", function()
    both({ e = 3, f = 0.5, s = "adam", b = true, n = ckpt.none, l = { 1, 2 }, y = ckpt.bytes "\1\2", k = 1, close = 0.1 },
      { e = 4, f = 0.25, s = "sgd", b = false, n = 1, l = { 1, 3, 4 }, y = ckpt.bytes "\1\3", k = 1.0,
        close = 0.1 + 1e-17 * 2 })
    assert.equal([[
  value      b      True -> False
  value      close  0.10000000000000001 -> 0.10000000000000002
  value      e      3 -> 4
  value      f      0.5 -> 0.25
  value      k      int 1 -> float 1
  value      l[1]   2 -> 3
  value      n      None -> int 1
  value      s      'adam' -> 'sgd'
  value      y      b'\x01\x02' -> b'\x01\x03'
  only in B  l[2]   4
different: 10 plain values
]], diff(1))
    local plain = {}
    for _, item in ipairs(json(1).plain) do plain[item.name] = item end
    assert.same({ name = "e", a = 3, b = 4 }, plain.e)
    assert.same({ name = "l[2]", b = 4 }, plain["l[2]"])
    assert.same("b'\\x01\\x02'", plain.y.a)
    assert.same({ "adam", "sgd" }, { plain.s.a, plain.s.b })
  end)

  it("long strings where they part", function()
    local long = ("x"):rep(300)
    both({ s = long .. "a" .. long }, { s = long .. "b" .. long })
    assert.equal("  value  s  '...xxxxxxxaxxxxxxxx...' -> '...xxxxxxxbxxxxxxxx...'\ndifferent: 1 plain value\n", diff(1))
  end)

  it("sets without regard to order, and what became another kind", function()
    local set = "c__builtin__\nset\n](%s)\x85R."
    pickles((set:gsub("%%s%)", "K\1K\2e")), (set:gsub("%%s%)", "K\2K\1e")))
    assert.equal("the same: 0 tensors, 1 plain value\n", diff(0))
    pickles((set:gsub("%%s%)", "K\1K\2e")), (set:gsub("%%s%)", "K\2K\3e")))
    assert.equal("  value  (top level)  {1, 2} -> {2, 3}\ndifferent: 1 plain value\n", diff(1))
    both({ x = 3, w = 1 }, { x = { y = 1 }, w = tensor { 1 } })
    assert.matches("  value      w    int 1 %-> tensor float32 1\n", diff(1))
    assert.matches("only in B  x.y  1\n", diff(1))
    assert.matches("  value      x    int 3 %-> dict", diff(1))
  end)

  it("classes of objects", function()
    pickles("cm\nNet\n)\x81.", "cm\nMlp\n)\x81.")
    assert.equal("  value  (top level)  m.Net -> m.Mlp\ndifferent: 1 plain value\n", diff(1))
    assert.same({ { name = "", a = "m.Net", b = "m.Mlp" } }, json(1).plain)
  end)

  it("layout and order, when asked", function()
    local a, b = tensor { 1 }, tensor { 2 }
    both(ckpt.ordered { { "a", a }, { "b", b } }, ckpt.ordered { { "b", b }, { "a", a } })
    assert.equal("the same: 2 tensors, 0 plain values\n", diff(0))
    assert.equal("  order      tensor 1 is a in A, b in B\ndifferent: the order\n", diff(1, "--order"))
    assert.same({ place = 1, a = "a", b = "b" }, json(1, "--order").order)
    local torch = "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0\x30X\3\0\0\0cpuK\4tQ" ..
      "K\0K\2K\2\x86%s\x86%s}tR."
    local function write(name, stride, grad)
      scratch.write(cli.path(name), tiny_zip.zip {
        { "archive/data.pkl", "\x80\2" .. torch:gsub("%%s", stride, 1):gsub("%%s", grad, 1) },
        { "archive/byteorder", "little" }, { "archive/data/0", ("<ffff"):pack(1, 2, 2, 1) }, { "archive/version", "3\n" },
      })
    end
    write("a.pth", "K\2K\1", "\x89")
    write("b.pth", "K\1K\2", "\x88")
    assert.equal("the same: 1 tensor, 0 plain values\n", diff(0))
    assert.equal("  layout  (top level)  (2, 1) -> (1, 2) grad\ndifferent: 1 of 1 tensor\n", diff(1, "--layout"))
    assert.same({ { name = "", a = { stride = { 2, 1 }, requires_grad = false },
                    b = { stride = { 1, 2 }, requires_grad = true } } }, json(1, "--layout").layouts)
  end)
end)

describe("diff's list", function()
  it("is cut, unless --all", function()
    local a, b = {}, {}
    for i = 1, 15 do a[("k%02d"):format(i)], b[("k%02d"):format(i)] = i, i + 1 end
    both(a, b)
    local out = diff(1)
    assert.matches("k10  10 %-> 11\n  %.%.%. 5 more: %-%-all\ndifferent: 15 plain values\n$", out)
    assert.matches("k15  15 %-> 16\ndifferent", (diff(1, "--all")))
    assert.equal(15, #json(1).plain)
  end)

  it("shows paths that fit", function()
    both({ model = { w = tensor { 1 } }, ema = { w = tensor { 1 } }, epoch = 1 },
      { model = { w = tensor { 2 } }, ema = { w = tensor { 1 } }, epoch = 2 })
    assert.equal("the same: 1 tensor, 0 plain values\n", diff(0, "--select", "ema.*"))
    assert.matches("^  values  model.w", diff(1, "--select", "model.*"))
    assert.equal("the same: no path fits nothing*\n", diff(0, "--select", "nothing*"))
  end)

  it("shows no control characters", function()
    both({ ["a\27[31m"] = "x\27[0m" }, { ["a\27[31m"] = "y\27[0m" })
    assert.equal("  value  a\\x1b[31m  'x\\x1b[0m' -> 'y\\x1b[0m'\ndifferent: 1 plain value\n", diff(1))
  end)
end)

describe("diff refuses", function()
  it("bad usage", function()
    cli.refuses(2, "missing argument 'B' (see: ckpt diff --help)", "diff", "@a.pth")
    cli.refuses(2, "'-1' is not a number of 0 or more (see: ckpt diff --help)", "diff", "@a", "@b", "--rtol=-1")
  end)

  it("a bad file on either side", function()
    both({ w = tensor { 1 } }, { w = tensor { 1 } })
    cli.refuses(3, "@none.pth: there is no such file", "diff", "@a.pth", "@none.pth")
    cli.refuses(3, "@none.pth: there is no such file", "diff", "@none.pth", "@a.pth")
    scratch.write(cli.path "b.pth", "hello, world")
    local out, err, status = cli.run("diff", "@a.pth", "@b.pth", "--json")
    assert.same({ "", 3 }, { out, status })
    assert.matches("^ckpt: %S+/b.pth: not a checkpoint: it begins with the bytes 68 65, [^\n]+\n$", err)
  end)
end)
