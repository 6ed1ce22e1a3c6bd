-- examples_spec.lua: the scripts of scripts/examples do what they say.

local ckpt = require "ckpt"
local cli = require "support.cli"
local scratch = require "support.scratch"

local SCRIPTS = os.getenv "CKPT_TOP" .. "/scripts/examples/"

before_each(cli.enter)
after_each(cli.leave)

local function iota(shape, first)
  local n, values = 1, {}
  for _, size in ipairs(shape) do n = n * size end
  for i = 1, n do values[i] = (first or 0) + i - 1 end
  return assert(ckpt.tensor("float32", shape, values))
end

local function run(status, name, ...)
  local out, err, got = cli.run("run", SCRIPTS .. name, ...)
  assert(got == status, ("status %d, not %d: %s%s"):format(got, status, out, err))
  return ((out .. err):gsub(cli.dir:gsub("%p", "%%%0") .. "/", "@"))
end

describe("slim.lua", function()
  before_each(function() assert(os.execute("mkdir " .. cli.quote(cli.path "out"))) end)

  it("keeps the weights, in bfloat16, and leaves the optimizer behind", function()
    cli.save("a.pth", ckpt.ordered {
      { "epoch", 3 }, { "optimizer", { state = { [0] = { exp_avg = iota { 4 } } }, param_groups = { { lr = 0.1 } } } },
      { "model", ckpt.ordered { { "w", iota({ 2, 2 }, 0.5) }, { "n", assert(ckpt.tensor("int64", {}, { 7 })) } } },
    })
    cli.save("b.pth", { model = { w = iota { 2 } }, ema = { w = iota({ 2 }, 10) } })
    cli.save("bare.pt", ckpt.ordered { { "w", iota { 3 } } })
    local out = run(0, "slim.lua", "@out", "@a.pth", "@b.pth", "@bare.pt")
    assert.matches("^@a.pth %-> @out/a.safetensors: model, 2 tensors, %d+ %-> %d+ bytes\n@b.pth %-> @out/b.safetensors: " ..
      "ema, 1 tensors, %d+ %-> %d+ bytes\n@bare.pt %-> @out/bare.safetensors: all of it, 1 tensors", out)
    local a <close> = assert(ckpt.open(cli.path "out/a.safetensors"))
    local b <close> = assert(ckpt.open(cli.path "out/b.safetensors"))
    assert.same({ 2, "bfloat16", { 0.5, 1.5, 2.5, 3.5 }, "int64", { 7 }, cli.path "a.pth" }, { #a:list(), a:at "w".dtype,
      a:at "w":reshape { 4 }:tolist(), a:at "n".dtype, a:at "n":reshape { 1 }:tolist(), a.metadata.source })
    assert.same({ 10.0, 11.0 }, b:at "w":tolist())
  end)

  it("goes on after a bad file, and says so", function()
    scratch.write(cli.path "bad.pth", "")
    cli.save("good.pth", { model = { w = iota { 2 } } })
    assert.matches("slim: @bad.pth: the file is empty\n", (run(1, "slim.lua", "@out", "@bad.pth", "@good.pth")))
    assert.equal(1, #assert(ckpt.open(cli.path "out/good.safetensors")):list())
    assert.equal("usage: ckpt run slim.lua OUT-DIR FILE...\n", (run(2, "slim.lua", "@out")))
  end)
end)

describe("split_qkv.lua", function()
  local function vit(extra)
    local rows = { { "cls_token", iota { 1, 1, 2 } }, { "pos_embed", iota { 1, 3, 2 } },
      { "patch_embed.proj.weight", iota { 2, 3, 2, 2 } }, { "patch_embed.proj.bias", iota { 2 } } }
    for i = 0, 11 do
      local b = ("blocks.%d."):format(i)
      for _, row in ipairs { { "norm1.weight", { 2 } }, { "norm1.bias", { 2 } }, { "attn.qkv.weight", { 6, 2 } },
                             { "attn.qkv.bias", { 6 } }, { "attn.proj.weight", { 2, 2 } }, { "attn.proj.bias", { 2 } },
                             { "norm2.weight", { 2 } }, { "norm2.bias", { 2 } }, { "mlp.fc1.weight", { 8, 2 } },
                             { "mlp.fc1.bias", { 8 } }, { "mlp.fc2.weight", { 2, 8 } }, { "mlp.fc2.bias", { 2 } } } do
        rows[#rows + 1] = { b .. row[1], iota(row[2], 100 * i) }
      end
    end
    for _, row in ipairs(extra or {}) do rows[#rows + 1] = row end
    cli.save("vit.pth", ckpt.ordered { { "model", ckpt.ordered(rows) } })
  end

  it("splits what is fused and renames the rest", function()
    vit { { "norm.weight", iota { 2 } }, { "norm.bias", iota { 2 } }, { "head.weight", iota { 5, 2 } }, { "head.bias", iota { 5 } } }
    assert.equal("@vit.pth -> @hf.safetensors: 152 tensors became 200\n", run(0, "split_qkv.lua", "@vit.pth", "@hf.safetensors"))
    local cp <close> = assert(ckpt.open(cli.path "hf.safetensors"))
    local at = "encoder.layer.11.attention.attention."
    for i, part in ipairs { "query", "key", "value" } do
      local first = 1100 + (i - 1) * 4
      assert.same({ first, first + 1, first + 2, first + 3 }, cp:at(at .. part .. ".weight"):tolist())
      assert.same({ 1100 + (i - 1) * 2, 1100 + (i - 1) * 2 + 1 }, cp:at(at .. part .. ".bias"):tolist())
    end
    for _, name in ipairs { "embeddings.cls_token", "embeddings.position_embeddings", "layernorm.bias", "classifier.weight",
                            "embeddings.patch_embeddings.projection.weight", "encoder.layer.0.layernorm_after.weight",
                            "encoder.layer.3.attention.output.dense.bias", "encoder.layer.9.intermediate.dense.weight",
                            "encoder.layer.9.output.dense.weight", "encoder.layer.0.layernorm_before.bias" } do
      assert.is_not_nil(cp:at(name), name)
    end
    assert.same({ 8, 2 }, cp:at "encoder.layer.9.intermediate.dense.weight".shape)
  end)

  it("writes nothing where a name has no rule or rows do not part in three", function()
    vit { { "dist_token", iota { 1 } } }
    assert.equal("split_qkv: @vit.pth: no rule for dist_token; nothing was written\n",
      run(1, "split_qkv.lua", "@vit.pth", "@hf.safetensors"))
    vit { { "blocks.12.attn.qkv.bias", iota { 7 } } }
    assert.equal("split_qkv: @vit.pth: 'blocks.12.attn.qkv.bias': 7 rows are no three equal parts\n",
      run(1, "split_qkv.lua", "@vit.pth", "@hf.safetensors"))
    assert.is_nil(io.open(cli.path "hf.safetensors"))
    assert.equal("split_qkv: @none.pth: there is no such file\n", run(3, "split_qkv.lua", "@none.pth", "@hf.safetensors"))
  end)
end)
