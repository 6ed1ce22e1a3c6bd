-- maps_library_spec.lua: the rule sets that come with the policies, on the complete keys and shapes of the models that they are
-- for (tests/data/maps/), and on what they must refuse. Values are compared in tests/e2e/maps_sets.sh.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local ckpt = require "ckpt"
local layouts = require "layouts"
local rules = require "policies.rules"

local SETS = { "beit3_to_timm", "detectron_c2_to_detectron2", "dinov2_reg_to_timm", "dinov2_to_timm", "hf_bert_gamma_beta",
  "hf_llama_to_meta", "lstm_to_burn", "lstm_to_keras", "lstm_to_onnx", "meta_llama_to_hf", "mixtral_merge_experts",
  "mixtral_split_experts", "openai_clip_vit_to_timm", "parametrizations_to_weight_norm", "peel_wrappers", "phi3_to_llama",
  "rgb_to_bgr", "torch_to_keras", "torchvision_resnet_to_detectron2", "torchvision_vgg16_to_keras", "vgg16_reducedfc",
  "vgg16_reducedfc_rules", "weight_norm_to_parametrizations" }
local LISTS = { vgg16_reducedfc_rules = "vgg16_reducedfc" }
-- A list whose own set is asked for by name may be what another set finds.
local FOUND = { torch_to_keras = { resnet18 = "torchvision_resnet_to_detectron2", basic = "torchvision_resnet_to_detectron2" } }

-- What does not come back, even with the original at hand: dropped, cut or added up. Any of these patterns.
local GONE = { torchvision_resnet_to_detectron2 = { "^fc%." }, dinov2_to_timm = { "^mask_token$" },
  dinov2_reg_to_timm = { "^mask_token$", "^cls_token$", "^pos_embed$" }, hf_bert_gamma_beta = { "position_ids$" },
  meta_llama_to_hf = { "^rope%.freqs$" }, hf_llama_to_meta = { "inv_freq$" }, torch_to_keras = { "num_batches_tracked$" },
  openai_clip_vit_to_timm = { "^[^v]" }, lstm_to_keras = { "%.bias_" },
  detectron_c2_to_detectron2 = { "_momentum$", "^bbox_pred", "^mask_fcn_logits" },
  beit3_to_timm = { "%.text_embed%.", "mask_token$", "%.B%.", "embed_positions" } }

local function list(name) return layouts.read(root .. "tests/data/maps/" .. name .. ".txt") end

local function model_of(name, model)
  for _, m in ipairs(list(name)) do
    if m.name == model then return m end
  end
  error(name .. " lists no " .. model)
end

local function set_of(name) return require("policies.maps." .. name) end

local function compile(set)
  local compiled, problems = rules.compile(set)
  local texts = {}
  for i, p in ipairs(problems) do texts[i] = rules.problem_text(p) end
  return assert(compiled, table.concat(texts, "; "))
end

local compiled = {}
for _, name in ipairs(SETS) do compiled[name] = compile(set_of(name)) end

local function problems_of(plan)
  local texts = {}
  for i, p in ipairs(plan.problems) do texts[i] = rules.problem_text(p) end
  return table.concat(texts, "\n")
end

local function keys(entries)
  local out = {}
  for _, key in ipairs(entries) do
    out[#out + 1] = ("%s %s %s"):format(key.name or key.to, table.concat(key.shape, ","), key.dtype)
  end
  table.sort(out)
  return out
end

-- luassert takes its time over long lists: it is asked only where they differ.
local function assert_keys(expected, got)
  local a, b = keys(expected), keys(got)
  if table.concat(a, "\n") ~= table.concat(b, "\n") then assert.same(a, b) end
end

local function plan_of(name, sources, options) return rules.plan(compiled[name], sources, options) end

-- float32 tensors of those names, all of one shape.
local function sources(names, shape)
  local out = {}
  for i, name in ipairs(names) do out[i] = { name = name, shape = shape or { 4 }, dtype = "float32" } end
  return out
end

local function without(list_of, name)
  local out = {}
  for _, key in ipairs(list_of) do
    if key.name ~= name then out[#out + 1] = key end
  end
  assert(#out == #list_of - 1, name)
  return out
end

local function targets(plan)
  local out = {}
  for i, output in ipairs(plan.outputs) do out[i] = output.to end
  return out
end

local function found_by(entries)
  local names = {}
  for _, name in ipairs(SETS) do
    if rules.detect({ compiled[name] }, entries) then names[#names + 1] = name end
  end
  return names
end

describe("rule sets", function()
  it("are all in this spec, in the README, and named as their files are", function()
    local readme = assert(io.open(root .. "policies/maps/README.md")):read("a")
    local n = 0
    for file in io.popen("ls '" .. root .. "policies/maps'"):lines() do
      local name = file:match("^(.+)%.lua$")
      if name and name ~= "conv1_rgb2bgr" then
        n = n + 1
        assert.is_table(compiled[name], name)
        assert.equal(name, set_of(name).id)
        assert.is_string(set_of(name).from)
        assert.is_string(set_of(name).to)
        assert.matches("| `" .. name .. "` |", readme, 1, true)
      end
    end
    assert.equal(#SETS, n)
  end)

  for _, name in ipairs(SETS) do
    for _, model in ipairs(name ~= "rgb_to_bgr" and list(LISTS[name] or name) or {}) do
      it(("%s: %s, %d keys become %d"):format(name, model.name, #model.source, #model.target), function()
        local plan = plan_of(name, model.source, { config = model.config })
        assert.equal("", problems_of(plan))
        assert_keys(model.target, plan.outputs)
        assert.equal(0, #plan.collisions)
        for _, rule in ipairs(plan.unfired) do assert.is_true(rule.optional, rule.rule) end
      end)

      it(("%s: %s comes back, but for what is gone"):format(name, model.name), function()
        local plan, metas, back, expected = plan_of(name, model.source, { config = model.config }), {}, {}, {}
        for _, key in ipairs(model.target) do metas[key.name] = key end
        for i, output in ipairs(rules.undo(compiled[name], plan, model.source).outputs) do
          local same = metas[output.expr] -- a name alone
          local shape, dtype = same and same.shape, same and same.dtype
          if not same then shape, dtype = ckpt.infer(output.expr, metas) end
          back[i] = { name = output.to, shape = assert(shape, dtype), dtype = dtype }
        end
        for _, key in ipairs(model.source) do
          local gone = false
          for _, pattern in ipairs(GONE[name] or {}) do gone = gone or key.name:find(pattern) ~= nil end
          if not gone then expected[#expected + 1] = key end
        end
        assert_keys(expected, back)
      end)

      it(("%s: %s is found by the right set and no other"):format(name, model.name), function()
        local owner = (FOUND[name] or {})[model.name] or LISTS[name] or (set_of(name).detect and name)
        assert.same({ owner }, found_by(model.source))
        assert.is_nil(rules.detect({ compiled[name] }, model.target), "its own result")
      end)
    end
  end

  it("have nothing that lint complains of", function()
    for _, name in ipairs(SETS) do assert.same({}, (rules.lint(set_of(name)))) end
  end)

  it("keep the lists of torchvision's models as torchvision has them", function()
    local own = { vgg16 = "torchvision_vgg16_to_keras" }
    local generated = list "torchvision"
    assert.equal(6, #generated)
    for _, model in ipairs(generated) do
      local written = model_of(own[model.name] or "torchvision_resnet_to_detectron2", model.name)
      assert_keys(model.source, written.source)
    end
    assert_keys(model_of("torchvision", "resnet18").source, model_of("torch_to_keras", "resnet18").source)
  end)
end)

describe("rule sets and files that others made", function()
  local shared = (os.getenv "CKPT_SHARED" or "../shared") .. "/data/real"
  local FITS = { ["tiny_fair_checkpoint.pt"] = "meta_llama_to_hf" }

  it("are found by the models that they are for and by no others", function()
    local index = io.open(shared .. "/INDEX.tsv")
    if not index then return pending "no ../shared/data/real" end
    index:close()
    local n = 0
    for path in io.popen("find '" .. shared .. "' -type f"):lines() do
      local cp <close> = ckpt.open(path)
      local sd = cp and cp:state_dict()
      local entries = {}
      for name, tensor in pairs(sd or {}) do
        entries[#entries + 1] = { name = name, shape = tensor.shape, dtype = tensor.dtype }
      end
      assert.same({ FITS[path:match("[^/]+$")] }, found_by(entries), path)
      n = n + (sd and 1 or 0)
    end
    assert.is_true(n > 20)
  end)
end)

describe("maps.vgg16_reducedfc_rules", function()
  local model = model_of("vgg16_reducedfc", "vgg16_reducedfc")

  it("gives what the table gives, in the same order", function()
    local a, b = plan_of("vgg16_reducedfc", model.source), plan_of("vgg16_reducedfc_rules", model.source)
    assert.equal(30, #a.outputs)
    for i, output in ipairs(a.outputs) do
      assert.equal(output.to, b.outputs[i].to)
      assert.equal(output.from, b.outputs[i].from)
      assert.equal(output.expr, b.outputs[i].expr)
    end
  end)

  for _, key in ipairs { "34.weight", "1.weight", "23.bias", "0.running_mean", "031.weight" } do
    it("refuses " .. key .. ", which such a file does not have", function()
      local more = table.move(model.source, 1, 30, 1, {})
      more[31] = { name = key, shape = { 1 }, dtype = "float32" }
      assert.matches("no rule takes '" .. key .. "'", problems_of(plan_of("vgg16_reducedfc_rules", more)), 1, true)
    end)
  end
end)

describe("maps.rgb_to_bgr", function()
  local firsts = { { "torchvision_resnet_to_detectron2", "resnet50", "conv1.weight" },
    { "vgg16_reducedfc", "vgg16_reducedfc", "features1.0.weight", "target" }, { "dinov2_to_timm", "vitb14", "patch_embed.proj.weight" },
    { "openai_clip_vit_to_timm", "vit_b_32", "visual.conv1.weight" }, { "torchvision_vgg16_to_keras", "vgg16", "features.0.weight" } }
  for _, case in ipairs(firsts) do
    local model = model_of(case[1], case[2])
    it("reverses " .. case[3] .. " and nothing else", function()
      local entries = model[case[4] or "source"]
      local plan = plan_of("rgb_to_bgr", entries)
      assert.equal("", problems_of(plan))
      assert_keys(entries, plan.outputs)
      for _, output in ipairs(plan.outputs) do
        assert.equal(output.to == case[3] and "index_select(1, {2, 1, 0})" or "", output.ops)
      end
    end)
  end

  it("is refused the second time by its mark", function()
    local model = model_of("torchvision_resnet_to_detectron2", "resnet18")
    local marks = plan_of("rgb_to_bgr", model.source).marks
    assert.same({ input_channels = "reversed" }, marks)
    assert.matches("have been applied to it already", problems_of(plan_of("rgb_to_bgr", model.source, { marks = marks })), 1, true)
  end)

  it("refuses a file without a first convolution that it knows, and one of a single channel", function()
    assert.matches("matches nothing", problems_of(plan_of("rgb_to_bgr", sources { "fc.weight" })), 1, true)
    local gray = plan_of("rgb_to_bgr", sources({ "conv1.weight" }, { 64, 1, 7, 7 }))
    assert.matches("index_select", problems_of(gray), 1, true)
  end)
end)

describe("maps: Llama", function()
  local function wrong(kv)
    local set = { id = "wrong", include = { "meta_llama_to_hf" }, vars = { n_kv = kv } }
    return compile(set)
  end

  for _, case in ipairs { { "llama_2_7b", 32, 32 }, { "llama_3_8b", 32, 8 }, { "llama_2_70b", 64, 8 } } do
    local name, heads, kv = table.unpack(case)
    it(("%s permutes q by %d heads and k by %d"):format(name, heads, kv), function()
      for set, ops in pairs { meta_llama_to_hf = "rope_split", hf_llama_to_meta = "rope_merge" } do
        local model, n = model_of(set, name), 0
        for _, output in ipairs(plan_of(set, model.source, { config = model.config }).outputs) do
          local part = output.from:match("attention%.w([qk])%.") or output.from:match("self_attn%.([qk])_proj%.")
          local expected = part and ("%s(%d, 128)"):format(ops, part == "q" and heads or kv) or ""
          assert.equal(expected, output.ops)
          n = n + (part and 1 or 0)
        end
        assert.equal(2 * model.vars.L, n)
      end
    end)
  end

  for _, case in ipairs { { "llama_2_7b", 1 }, { "llama_3_8b", 4 } } do
    it(("%s with n_heads // n_kv heads for k is refused (llama.cpp#3364)"):format(case[1]), function()
      local model = model_of("meta_llama_to_hf", case[1])
      local plan = rules.plan(wrong "n_heads // (kv_rows // head_dim)", model.source, { config = model.config })
      local rows = model.vars.K * 128
      local why = ("%d heads of 128 are not a first dimension of %d"):format(case[2], rows)
      assert.matches(why, problems_of(plan), 1, true)
    end)
  end

  it("would take that number if it were not told the size of a head", function()
    local set = { id = "untold", stages = { { { "k", op = { "rope_split", 4 } } } } }
    assert.equal("", problems_of(rules.plan(compile(set), sources({ "k" }, { 1024, 4096 }))))
  end)

  it("cannot be wrong in that way with (64, 8): both are 8", function()
    local model = model_of("meta_llama_to_hf", "llama_2_70b")
    local a = rules.plan(wrong "n_heads // (kv_rows // head_dim)", model.source, { config = model.config })
    local b = plan_of("meta_llama_to_hf", model.source, { config = model.config })
    for i, output in ipairs(a.outputs) do assert.equal(b.outputs[i].ops, output.ops) end
  end)

  it("takes the heads of k from the shapes where the config does not say, and believes no config that they belie", function()
    local model = model_of("meta_llama_to_hf", "llama_3_8b")
    assert.equal("", problems_of(plan_of("meta_llama_to_hf", model.source, { config = { n_heads = 32 } })))
    assert.equal("", problems_of(plan_of("meta_llama_to_hf", model.source, { vars = { n_heads = "32" } })))
    for _, config in ipairs { { n_heads = 32, n_kv_heads = 4 }, { n_heads = 64, n_kv_heads = 8 }, { n_heads = 33 } } do
      assert.not_equal("", problems_of(plan_of("meta_llama_to_hf", model.source, { config = config })))
    end
    assert.matches("n_heads", problems_of(plan_of("meta_llama_to_hf", model.source)), 1, true)
  end)

  it("sees a wrong number of heads, with as many for keys, by the rotary buffer or the head_dim of the config", function()
    local said = "64 heads of 128 are not a first dimension of 4096"
    for set, key in pairs { meta_llama_to_hf = "n_heads", hf_llama_to_meta = "num_attention_heads" } do
      local with, none = model_of(set, "llama_2_7b"), model_of(set, "llama_3_8b")
      assert.matches(said, problems_of(plan_of(set, with.source, { config = { [key] = 64 } })), 1, true)
      local config = { [key] = 64, head_dim = 128 }
      assert.matches(said, problems_of(plan_of(set, none.source, { config = config })), 1, true)
    end
  end)
end)

describe("maps: what must be refused or left alone", function()
  local function refused(name, entries, why)
    assert.matches(why, problems_of(plan_of(name, entries)), 1, true)
  end

  it("BERT: a gamma that is no LayerNorm's stays", function()
    local names = { "a.LayerNorm.gamma", "a.LayerNorm.beta", "blocks.0.ls1.gamma", "blocks.0.gamma_1", "stages.0.gamma",
      "my.LayerNormed.gamma", "a.LayerNorm.gamma.x" }
    assert.same({ "a.LayerNorm.weight", "a.LayerNorm.bias", "blocks.0.ls1.gamma", "blocks.0.gamma_1", "stages.0.gamma",
      "my.LayerNormed.gamma", "a.LayerNorm.gamma.x" }, targets(plan_of("hf_bert_gamma_beta", sources(names))))
  end)

  it("BEiT-3: one of q, k, v is not there", function()
    local entries = without(model_of("beit3_to_timm", "tiny").source, "beit3.encoder.layers.1.self_attn.k_proj.A.bias")
    refused("beit3_to_timm", entries, "k_proj.A.{s}")
  end)

  it("Mixtral: an expert is not there", function()
    local entries = without(model_of("mixtral_merge_experts", "tiny").source,
      "model.layers.0.block_sparse_moe.experts.3.w3.weight")
    refused("mixtral_merge_experts", entries, "e = 3")
  end)

  it("Mixtral: the tenth expert comes after the ninth, whatever the order in the file", function()
    local model = model_of("mixtral_merge_experts", "tiny_12")
    local entries = table.move(model.source, 1, #model.source, 1, {})
    table.sort(entries, function(a, b) return a.name < b.name end)
    for _, output in ipairs(plan_of("mixtral_merge_experts", entries).outputs) do
      if output.to:find("down_proj", 1, true) then
        for e = 0, 11 do assert.matches("%.experts%." .. e .. "%.w2", output.expr.of[e + 1]) end
        assert.equal(12, #output.expr.of)
      end
    end
  end)

  it("LSTM: two directions", function()
    for _, name in ipairs { "lstm_to_burn", "lstm_to_onnx", "lstm_to_keras" } do
      local model = list(name)[2]
      local entries = table.move(model.source, 1, #model.source, 1, {})
      local prefix = name == "lstm_to_burn" and "lstm" or "encoder.rnn"
      entries[#entries + 1] = { name = prefix .. ".weight_ih_l0_reverse", shape = { 8, 3 }, dtype = "float32" }
      refused(name, entries, "is a name that no result may have")
    end
  end)

  it("LSTM: burn has one layer", function()
    local entries = table.move(list "lstm_to_burn"[2].source, 1, 6, 1, {})
    entries[7] = { name = "lstm.weight_ih_l1", shape = { 8, 2 }, dtype = "float32" }
    refused("lstm_to_burn", entries, "lstm.weight_ih_l1")
  end)

  it("Phi-3: rows that k and v cannot share evenly", function()
    local model = model_of("phi3_to_llama", "tiny")
    for _, key in ipairs(model.source) do
      if key.name:find("qkv_proj", 1, true) then key.shape[1] = key.shape[1] + 1 end
    end
    refused("phi3_to_llama", model.source, "the sizes add up to 16, dimension 0 has 17")
  end)

  it("Detectron: momenta are dropped and told, and nothing of Caffe2's names is left", function()
    local model = model_of("detectron_c2_to_detectron2", "mask_rcnn_r50_fpn")
    local plan = plan_of("detectron_c2_to_detectron2", model.source)
    local momenta = 0
    for _, key in ipairs(model.source) do momenta = momenta + (key.name:find("_momentum$") and 1 or 0) end
    assert.equal(momenta, #plan.dropped)
    assert.is_true(momenta > 50)
    for _, name in ipairs(targets(plan)) do assert.is_nil(name:find("branch") or name:find("%[") or name:find("%.[bws]$")) end
  end)

  it("wrappers: two keys that would become one", function()
    refused("peel_wrappers", sources { "module.a.weight", "a.weight" }, "two results are named 'a.weight'")
  end)

  it("ResNet: a key that the model does not have", function()
    local entries = sources { "layer1.0.se.weight" }
    for _, key in ipairs(model_of("torchvision_resnet_to_detectron2", "resnet18").source) do entries[#entries + 1] = key end
    refused("torchvision_resnet_to_detectron2", entries, "no rule takes 'layer1.0.se.weight'")
  end)
end)
