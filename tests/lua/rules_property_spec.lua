-- rules_property_spec.lua: whatever makes plans fast changes none. Random rule sets are planned for random keys twice: as
-- ever, and straight: each key is held against each pattern in turn, by the general matcher, without skeletons, tables of
-- whole keys, the order of earlier keys, short ways, or results that are remembered. Both plans are the same in every field.
--
-- RULES_RUNS says how many (600 unless it is set, 150 under a sanitizer), RULES_SEED from which seed on (1). A failure
-- names its seed.
local ckpt = require "ckpt"
local gate = require "support.gate"
local pattern = require "policies.rules.pattern"
local quick = require "policies.rules.quick"
local random_rules = require "support.random_rules"
local rules = require "policies.rules"

local RUNS = math.tointeger(os.getenv "RULES_RUNS" or os.getenv "SANITIZED" == "1" and "150" or "600")
local SEED = math.tointeger(os.getenv "RULES_SEED" or "1")

-- ---- plans as text ----

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if math.type(a) and math.type(b) then return a < b end
    return tostring(a) < tostring(b)
  end)
  return keys
end

local function text_of(value)
  if type(value) ~= "table" then return ("%s:%s"):format(math.type(value) or type(value), tostring(value)) end
  local out = {}
  for i, key in ipairs(sorted_keys(value)) do out[i] = tostring(key) .. "=" .. text_of(value[key]) end
  return "{" .. table.concat(out, " ") .. "}"
end

-- ---- straight ----

-- A compiled set all of whose patterns are tried on each key, in order.
local function straighten(compiled)
  for _, stage in ipairs(compiled.stages) do
    stage.open, stage.literal = stage.matchers, {}
    for _, m in ipairs(stage.matchers) do
      if m.pattern then m.pattern.fast, m.pattern.chunks, m.pattern.literal = nil, {}, nil end
    end
  end
  return compiled
end

local function plan_straight(set, sources, options)
  local renamer, may_match = quick.renamer, pattern.may_match
  quick.renamer, pattern.may_match = function() return nil end, function() return true end
  local ok, plan = pcall(rules.plan, straighten(rules.compile(set)), sources, options)
  quick.renamer, pattern.may_match = renamer, may_match
  return assert(ok and plan, plan)
end

-- What a plan does not use, said without an order.
local function unused(plan, sources, target)
  local used, names, out = {}, {}, {}
  for _, item in ipairs(target or {}) do names[item.name] = true end
  for _, output in ipairs(plan.outputs) do
    for _, from in ipairs((not target or names[output.to]) and output.sources or {}) do used[from] = true end
  end
  for _, item in ipairs(plan.dropped) do used[item.from] = true end
  for _, check in ipairs(plan.checks) do used[check.a], used[check.b] = true, true end
  for _, source in ipairs(sources) do
    if not used[source.name] then out[#out + 1] = source.name end
  end
  return out
end

-- ---- the runs ----

local met = { compiled = 0, outputs = 0, quick = 0, operated = 0, problems = 0, tied = 0, dropped = 0, unused = 0 }

-- Counts what the short way did, so that the specs know that there was something to compare.
local function watched(f, ...)
  local operate, renamer = quick.operate, quick.renamer
  function quick.renamer(...)
    local rename = renamer(...)
    return rename and function(key)
      local name, m = rename(key)
      if name then met.quick = met.quick + 1 end
      return name, m
    end
  end
  local result = table.pack(pcall(f, ...))
  quick.operate, quick.renamer = operate, renamer
  assert(result[1], result[2])
  return result[2]
end

local function count(plan)
  met.compiled = met.compiled + 1
  met.outputs, met.problems = met.outputs + #plan.outputs, met.problems + #plan.problems
  met.dropped, met.unused = met.dropped + #plan.dropped, met.unused + #plan.unused
  for _, output in ipairs(plan.outputs) do
    if output.tied_to then met.tied = met.tied + 1 end
    if output.ops ~= "" then met.operated = met.operated + 1 end
  end
end

local function compare(seed)
  local set, sources, options = random_rules.make(seed)
  local compiled = rules.compile(set)
  if not compiled then return end
  local plan = watched(rules.plan, compiled, sources, options)
  local straight = plan_straight(set, sources, options)
  local again = rules.plan(compiled, sources, options) -- with what the first plan left in the compiled set
  local text = text_of(plan)
  assert(text == text_of(straight), ("seed %d: the plan is\n%s\nand straight\n%s"):format(seed, text, text_of(straight)))
  assert(text == text_of(again), ("seed %d: another time the plan is another"):format(seed))
  assert.same(unused(plan, sources, options.target), plan.unused, ("seed %d: unused"):format(seed))
  count(plan)
end

describe("plans of random rule sets", function()
  after_each(gate)

  it("are the same the short way and straight", function()
    for seed = SEED, SEED + RUNS - 1 do compare(seed) end
    assert.is_true(met.compiled > RUNS // 2, "most sets compile: " .. met.compiled)
    for what, n in pairs(met) do assert.is_true(n > RUNS // 20, ("%s: %d of %d runs"):format(what, n, RUNS)) end
  end)

  it("are the same for many layers", function()
    local set = { id = "layers", stages = { {}, { { "blocks.{i}.norm{k}.w", to = "b{i}.n{k+1}" } } } }
    local kinds, sources = { "attn.q", "attn.k", "norm1", "norm2", "mlp.up" }, {}
    for i, kind in ipairs(kinds) do
      set.stages[1][i] = { "layers.{i}." .. kind .. ".w", to = "blocks.{i+1}." .. kind .. ".w",
        op = i < 3 and { "transpose", 0, 1 } or nil }
    end
    for layer = 0, 199 do
      for _, kind in ipairs(kinds) do
        sources[#sources + 1] = { name = ("layers.%d.%s.w"):format(layer, kind), shape = { 2, 3 }, dtype = "float32" }
      end
      if layer % 7 == 0 then table.remove(sources, #sources - 1) end
      if layer % 11 == 0 then sources[#sources + 1] = { name = ("layers.0%d.attn.q.w"):format(layer) } end
    end
    assert.equal(text_of(plan_straight(set, sources, {})), text_of(rules.plan(rules.compile(set), sources, {})))
  end)
end)

assert(ckpt.infer, "operations are checked by the module")
