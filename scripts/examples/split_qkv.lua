-- split_qkv.lua: a vision transformer with fused attention (timm, DINO, OpenAI CLIP) under the names of Hugging Face.
--
--   ckpt run scripts/examples/split_qkv.lua vit_base.pth vit_hf.safetensors
--
-- Fused attention keeps the projections of queries, keys and values in one matrix, one below the other:
-- blocks.3.attn.qkv.weight of 2304x768 holds three of 768x768. Hugging Face wants them apart. The rest are names.
-- A rule set for `ckpt convert --map` would say the same in ten lines (policies/maps/README.md); a script is for what
-- no rule can say, and this one shows what there is to work with: state dicts, slices, renaming, checks.

local ckpt = require "ckpt"

-- Lua patterns, tried in this order on every name; %1 is the first thing in parentheses. The first that fits, wins.
local NAMES = {
  { "^blocks%.(%d+)%.norm1%.(%w+)$",     "encoder.layer.%1.layernorm_before.%2" },
  { "^blocks%.(%d+)%.norm2%.(%w+)$",     "encoder.layer.%1.layernorm_after.%2" },
  { "^blocks%.(%d+)%.attn%.proj%.(%w+)$", "encoder.layer.%1.attention.output.dense.%2" },
  { "^blocks%.(%d+)%.mlp%.fc1%.(%w+)$",  "encoder.layer.%1.intermediate.dense.%2" },
  { "^blocks%.(%d+)%.mlp%.fc2%.(%w+)$",  "encoder.layer.%1.output.dense.%2" },
  { "^patch_embed%.proj%.(%w+)$",        "embeddings.patch_embeddings.projection.%1" },
  { "^cls_token$",                       "embeddings.cls_token" },
  { "^pos_embed$",                       "embeddings.position_embeddings" },
  { "^norm%.(%w+)$",                     "layernorm.%1" },
  { "^head%.(%w+)$",                     "classifier.%1" },
}

local FUSED = "^blocks%.(%d+)%.attn%.qkv%.(%w+)$"
local PARTS = { "query", "key", "value" }

local function renamed(name)
  for _, rule in ipairs(NAMES) do
    if name:find(rule[1]) then return (name:gsub(rule[1], rule[2])) end
  end
end

-- Three views of one tensor, a third of the rows each: nothing is copied. Dimensions and indices count from 1, and both
-- ends of a slice belong to it.
local function split(tensor)
  local rows = tensor.shape[1]
  if rows % 3 ~= 0 then return nil, ("%d rows are no three equal parts"):format(rows) end
  local third, views = rows // 3, {}
  for i = 1, 3 do views[i] = tensor:slice(1, (i - 1) * third + 1, i * third) end
  return views
end

-- The new state dict as { name, tensor } pairs, which ckpt.ordered keeps in this order; and the names nobody knew.
local function converted(sd)
  local out, unknown = {}, {}
  for name, tensor in pairs(sd) do
    local layer, kind = name:match(FUSED)
    local new = renamed(name)
    if layer then
      local views, message = split(tensor)
      if not views then return nil, ("'%s': %s"):format(name, message) end
      for i, part in ipairs(PARTS) do
        out[#out + 1] = { ("encoder.layer.%s.attention.attention.%s.%s"):format(layer, part, kind), views[i] }
      end
    elseif new then
      out[#out + 1] = { new, tensor }
    else
      unknown[#unknown + 1] = name
    end
  end
  return out, unknown
end

local from, to = arg[1], arg[2]
if not to then
  io.stderr:write("usage: ckpt run split_qkv.lua FILE OUT\n")
  return 2
end

local cp, message = ckpt.open(from, { verify = true })
if not cp then
  io.stderr:write("split_qkv: ", message, "\n")
  return 3
end
-- Finds the weights where trainers keep them ("model", "state_dict", ...), or takes the file itself for them.
local sd = assert(cp:state_dict())
local pairs_of, unknown = converted(sd)
if not pairs_of then
  io.stderr:write("split_qkv: ", from, ": ", unknown, "\n")
  return 1
end
-- A name that was left out without a word would be a weight that silently stays as it was initialised.
if #unknown > 0 then
  io.stderr:write("split_qkv: ", from, ": no rule for ", table.concat(unknown, ", "), "; nothing was written\n")
  return 1
end
-- The three views lie in one storage: clone would copy them now, but safetensors takes each for itself anyway.
local report
report, message = ckpt.save(to, ckpt.ordered(pairs_of), { metadata = { format = "pt" } })
if not report then
  io.stderr:write("split_qkv: ", message, "\n")
  return 3
end
print(("%s -> %s: %d tensors became %d"):format(from, to, #sd, #pairs_of))
