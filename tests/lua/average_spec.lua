-- average_spec.lua: ckpt.mean and `ckpt average`: numbers, what is taken from the newest, the structure, refusals.

local ckpt = require "ckpt"
local cli = require "support.cli"
local gate = require "support.gate"
local scratch = require "support.scratch"

local path, says, refuses, json = cli.path, cli.says, cli.refuses, cli.json

local function save(name, value) assert(ckpt.save(path(name), value)) end

local function open(name) return assert(ckpt.open(path(name), { verify = true })) end

describe("ckpt.mean", function()
  after_each(gate)

  local function mean(dtype, ...)
    local list = {}
    for i, numbers in ipairs { ... } do list[i] = ckpt.tensor(dtype, { #numbers }, numbers) end
    local made = assert(ckpt.mean(list))
    assert.equal(dtype, made.dtype)
    return made:tolist()
  end

  it("sums and divides in float64, whatever the dtype, and rounds once", function()
    assert.same({ 2.0, 0.25 }, mean("float64", { 1, 0.5 }, { 3, 0.0 }))
    assert.same({ 1.0 }, mean("float32", { 1e8 }, { 1 }, { -1e8 }, { 3 })) -- in float32 the 1 would be lost
    assert.same({ 60000.0 }, mean("float16", { 60000 }, { 60000 })) -- the sum is beyond float16
    assert.same({ (("<f"):unpack(("<f"):pack(2 / 3))) }, mean("float32", { 1 }, { 1 }, { 0 }))
    assert.same({ 2.0 }, mean("bfloat16", { 1 }, { 3 }))
    assert.same({ { 2.0, -1.0 }, { 0.0, 0.5 } }, mean("complex64", { { 1, -2 }, 0 }, { { 3, 0 }, { 0, 1 } }))
  end)

  it("of equal tensors is that tensor, bit for bit; in float64 but for the last one", function()
    local numbers = {}
    math.randomseed(7)
    for i = 1, 2000 do numbers[i] = (math.random() - 0.5) * 10 ^ math.random(-300, 300) end
    numbers[1] = -0.0
    local wide = ckpt.tensor("float64", { 2000 }, numbers)
    assert.equal(0, assert(ckpt.mean { wide, wide, wide }:compare(wide, { rtol = 2 ^ -52, atol = 0 })).beyond)
    for _, dtype in ipairs { "float32", "float16", "bfloat16" } do
      local one = ckpt.tensor("float64", { 40, 50 }, numbers):to(dtype):clone()
      assert.is_true(assert(ckpt.mean { one, one, one }):equal(one))
    end
  end)

  it("is of views, of one tensor, of none without elements", function()
    local t = ckpt.tensor("float32", { 2, 3 }, { 1, 2, 3, 4, 5, 6 })
    assert.same({ 1.0, 4.0, 2.0, 5.0, 3.0, 6.0 }, assert(ckpt.mean { t:transpose(1, 2), t:transpose(1, 2) }):tolist())
    assert.is_true(assert(ckpt.mean { t }):equal(t))
    assert.same({}, assert(ckpt.mean { ckpt.tensor("float32", { 0, 3 }), ckpt.tensor("float32", { 0, 3 }) }):tolist())
  end)

  it("keeps what is not finite", function()
    local made = assert(ckpt.mean { ckpt.tensor("float32", { 2 }, { 0 / 0, 1 / 0 }), ckpt.tensor("float32", { 2 }, { 1, 1 }) })
    assert.is_true(made:get(1) ~= made:get(1))
    assert.equal(math.huge, made:get(2))
  end)

  it("refuses what has no mean", function()
    local f, d, i = ckpt.tensor("float32", { 2 }), ckpt.tensor("float64", { 2 }), ckpt.tensor("int64", { 2 })
    local function says_no(sentence, code, ...)
      local made, message, got = ckpt.mean { ... }
      assert.same({ nil, sentence, code }, { made, message, got })
    end
    says_no("tensors 1 and 3 of a mean are of float32 and float64", "argument", f, f, d)
    says_no("tensors 1 and 2 of a mean are of different shapes", "shape", f, ckpt.tensor("float32", { 3 }))
    says_no("a mean is of floating numbers, not of int64", "unsupported", i, i)
    assert.error_matches(function() ckpt.mean {} end, "a list of tensors is expected")
    assert.error_matches(function() ckpt.mean { 1 } end, "every entry is a tensor")
  end)
end)

describe("average", function()
  before_each(cli.enter)
  after_each(cli.leave)

  local function checkpoint(epoch, w, more)
    local value = { epoch = epoch, model = ckpt.ordered { { "w", ckpt.tensor("float32", { 2 }, { w, -w }) },
      { "h", ckpt.tensor("float16", {}, { w }) }, { "n", ckpt.tensor("int64", {}, { 10 * epoch }) },
      { "on", ckpt.tensor("bool", {}, { epoch % 2 == 0 }) } }, optimizer = { lr = 0.1 * epoch } }
    for key, item in pairs(more or {}) do value[key] = item end
    return value
  end

  local function save_three()
    save("a.pth", checkpoint(2, 1))
    save("b.pth", checkpoint(4, 2))
    save("c.pth", checkpoint(3, 6))
  end

  it("averages floating tensors and takes the others from the newest, in the first one's order", function()
    save_three()
    assert.matches("^@out.pth: the mean of @a.pth,\n  @b.pth, @c.pth\n  2 tensors averaged, 2 taken from @b.pth, %S+ KB\n$",
      says(0, "average", "@a.pth", "@b.pth", "@c.pth", "-o", "@out.pth"))
    local out <close> = open "out.pth"
    local sd = out:state_dict("model")
    assert.same({ "w", "h", "n", "on" }, ckpt.keys(sd))
    assert.same({ 3.0, -3.0 }, sd.w:tolist())
    assert.same({ "float32", "float16" }, { sd.w.dtype, sd.h.dtype })
    assert.same({ 3.0, 40, true }, { sd.h:item(), sd.n:item(), sd.on:item() })
    assert.same({ "model" }, ckpt.keys(out:at()))
  end)

  it("keeps what lies beside the model where it is asked to", function()
    save_three()
    says(0, "average", "@a.pth", "@b.pth", "-o", "@out.pth", "--all")
    local out <close> = open "out.pth"
    assert.same({ 2, 0.2, 1.5 }, { out:at "epoch", out:at "optimizer.lr", out:at("model.w"):get(1) })
  end)

  it("averages a bare state dict, one inside others, and one that --path names", function()
    for i, w in ipairs { 1, 3 } do
      local sd = { w = ckpt.tensor("float32", { 1 }, { w }) }
      save(("flat%d.pth"):format(i), sd)
      save(("deep%d.pth"):format(i), { state = { net = sd }, x = 1 })
      save(("ema%d.pth"):format(i), { model = sd, ema = { w = ckpt.tensor("float32", { 1 }, { 10 * w }) } })
    end
    says(0, "average", "@flat1.pth", "@flat2.pth", "-o", "@out.pth")
    do
      local out <close> = open "out.pth"
      assert.equal(2.0, out:at("w"):item())
    end
    says(0, "average", "@deep1.pth", "@deep2.pth", "--path", "state.net", "-o", "@out.pth")
    do
      local out <close> = open "out.pth"
      assert.equal(2.0, out:at("state.net.w"):item())
      assert.is_nil(out:at "x")
    end
    says(0, "average", "@ema1.pth", "@ema2.pth", "--path", "ema", "-o", "@out.pth", "--all")
    local out <close> = open "out.pth"
    assert.same({ 20.0, 1.0 }, { out:at("ema.w"):item(), out:at("model.w"):item() })
  end)

  it("keeps tied tensors tied, and writes safetensors", function()
    for i = 1, 2 do
      local w = ckpt.tensor("float32", { 2 }, { i, 2 * i })
      save(("t%d.pth"):format(i), { model = ckpt.ordered { { "emb", w }, { "head", w } } })
    end
    says(0, "average", "@t1.pth", "@t2.pth", "-o", "@out.pth")
    do
      local out <close> = open "out.pth"
      assert.is_true(out:at("model.emb"):shares_storage(out:at("model.head")))
      assert.same({ 1.5, 3.0 }, out:at("model.head"):tolist())
    end
    says(0, "average", "@t1.pth", "@t2.pth", "-o", "@out.safetensors")
    local out <close> = open "out.safetensors"
    assert.same({ 1.5, 3.0 }, out:at("model.emb"):tolist())
  end)

  local function train()
    scratch.write(path "p.lua", "return { keep = false, best = { metric = 'loss', mode = 'min' } }")
    local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "p.lua" })
    local w, n = ckpt.tensor("float64", { 1 }), ckpt.tensor("int64", {})
    assert(cp:bind("model", "w", w) and cp:bind("model", "n", n, true))
    for epoch, row in ipairs { { 0.9, 4 }, { 0.5, 1 }, { 0.7, 3 }, { 0.8, 0 / 0 } } do
      w:fill(epoch)
      n:fill(epoch)
      cp:set_metric("acc", row[1])
      cp:set_metric("loss", row[2])
      assert(cp:save(epoch) and cp:save_best(epoch) ~= nil)
    end
  end

  it("takes the best of a run, by the policy or by a metric of the ledger", function()
    train()
    local value = json(0, "average", "@run", "--best", "2", "--policy", "@p.lua", "-o", "@out.pth", "--json")
    assert.same({ { file = path "run/model_epoch2.pth", epoch = 2 }, { file = path "run/model_epoch3.pth", epoch = 3 } },
      value.inputs)
    assert.same({ 1, 1, path "run/model_epoch3.pth" }, { value.averaged, value.taken, value.newest })
    do
      local out <close> = open "out.pth"
      assert.same({ 2.5, 3 }, { out:at("model.w"):item(), out:at("model.n"):item() })
    end
    says(0, "average", "@run", "--best", "3", "--metric", "acc", "-o", "@out.pth")
    do
      local out <close> = open "out.pth"
      assert.same({ 8 / 3, 4 }, { out:at("model.w"):item(), out:at("model.n"):item() })
    end
    says(0, "average", "@run", "--best", "1", "--metric", "acc", "--mode", "min", "-o", "@out.pth")
    local out <close> = open "out.pth"
    assert.equal(2.0, out:at("model.w"):item())
  end)

  it("refuses what does not agree, all of it at once, and writes nothing", function()
    save_three()
    save("d.pth", { epoch = 1, model = { w = ckpt.tensor("float32", { 3 }), h = ckpt.tensor("float32", {}),
                                         on = ckpt.tensor("bool", {}), z = ckpt.tensor("int8", {}) } })
    refuses(1, "@d.pth: 'w' is float32 3, in @a.pth it is float32 2; @d.pth: 'h' is float32 scalar, in @a.pth it is " ..
      "float16 scalar; @d.pth: 'n' is missing; @d.pth: 'z' is not in @a.pth", "average", "@a.pth", "@d.pth", "-o", "@out.pth")
    assert.is_nil(io.open(path "out.pth"))
    refuses(3, "@none.pth: there is no such file", "average", "@a.pth", "@none.pth", "-o", "@out.pth")
    train()
    refuses(2, "@run: 3 checkpoints with the policy's metric are there, --best asks for 9", "average", "@run", "--best", "9",
      "--policy", "@p.lua", "-o", "@out.pth")
    refuses(2, "@run: 0 checkpoints with the metric 'f1' are there, --best asks for 1", "average", "@run", "--best", "1",
      "--metric", "f1", "-o", "@out.pth")
    refuses(2, "--best K is of one run directory that is there", "average", "@a.pth", "--best", "2", "-o", "@out.pth")
    refuses(2, "--metric goes with --best K", "average", "@a.pth", "@b.pth", "--metric", "acc", "-o", "@out.pth")
  end)
end)
