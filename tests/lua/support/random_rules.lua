-- random_rules.lua: random rule sets and the keys of a file that they fit more or less: rules are made of the keys, so that
-- they meet. All of it follows from the seed.
local M = {}

local KINDS = { "attn.q", "attn.k", "norm1", "norm2", "mlp.up", "conv1", "w00", "gate" }
local ENDS = { "weight", "bias", "running_mean", "w" }
local NUMBERS = { "0", "1", "2", "3", "10", "007", "123456789012345678", "9223372036854775807", "99999999999999999999" }
local SHAPES = { { 4, 4 }, { 4, 4 }, { 4, 4 }, { 2, 6 }, { 4 }, {}, { 2, 4, 2 } }
local DTYPES = { "float32", "float32", "float16", "int64" }

local function pick(list) return list[math.random(#list)] end
local function one_in(n) return math.random(n) == 1 end

-- ---- keys ----

local function number() return one_in(8) and pick(NUMBERS) or tostring(math.random(0, 3)) end

local function key()
  local form = math.random(5)
  if form == 1 then return ("layers.%s.%s.%s"):format(number(), pick(KINDS), pick(ENDS)) end
  if form == 2 then return ("m.layers.%s.%s.%s"):format(number(), pick(KINDS), pick(ENDS)) end
  if form == 3 then return ("block%s.%s.%s"):format(number(), number(), pick(ENDS)) end
  if form == 4 then return ("%s%s"):format(pick(KINDS), number()) end
  return pick(KINDS) .. "." .. pick(ENDS)
end

local function source(name)
  if one_in(12) then return { name = name } end
  return { name = name, shape = pick(SHAPES), dtype = pick(DTYPES),
    identity = one_in(6) and "view" .. math.random(2) or nil }
end

local function sources()
  local list, seen = {}, {}
  for _ = 1, math.random(3, 40) do
    local name = key()
    if not seen[name] then list[#list + 1], seen[name] = source(name), true end
  end
  for layer = 0, one_in(3) and 4 or -1 do -- what models are like: the same keys, layer by layer
    for _, kind in ipairs(KINDS) do
      local name = ("h.%d.%s.weight"):format(layer, kind)
      list[#list + 1] = source(name)
    end
  end
  return list
end

-- ---- patterns: a key with captures for some of its parts ----

local function abstract(name, captures)
  local out = {}
  for word, dot in name:gmatch("([^.]*)(%.?)") do
    local digits = word:match("%d+$")
    if digits and not one_in(3) then
      captures[#captures + 1] = ("ijk"):sub(#captures % 3 + 1, #captures % 3 + 1)
      word = word:sub(1, -#digits - 1) .. "{" .. captures[#captures] .. "}"
    elseif word ~= "" and one_in(4) then
      word = "{" .. (one_in(2) and "s" or "*") .. "}"
      captures[#captures + 1] = word == "{*}" and "*" or "s"
    end
    out[#out + 1] = word .. dot
  end
  return table.concat(out)
end

local function pattern(list)
  local captures, name = {}, pick(list).name
  if one_in(20) then return "glob:" .. name:gsub("%d+", "*", 1), captures end
  if one_in(20) then return "lua:^" .. name:gsub("%p", "%%%0"):gsub("%d+", "(%%d+)", 1) .. "$", captures end
  return abstract(name, captures), captures
end

-- ---- templates ----

local HOLES = { "{i}", "{i}", "{i}", "{i+1}", "{i+1}", "{i-1}", "{2*i}", "{i%2}", "{i*4611686018427387904}", "{v}", "{t[i]}",
                "{rank(i)}", "{i+v}", "{1}", "{d}", "{n}" }

local function hole(capture)
  if capture == "*" or capture == "s" then return "{" .. capture .. "}" end
  return (pick(HOLES):gsub("i", capture))
end

local function template(captures)
  local out = { pick { "x", "y.z", "100%", "w%s" } }
  for _, capture in ipairs(captures) do
    if not one_in(10) then out[#out + 1] = hole(capture) .. pick { ".", "", "_" } end
  end
  out[#out + 1] = pick { "", "weight", "w", "bias" }
  return table.concat(out, pick { ".", "" })
end

-- ---- rules ----

local OPS = { { "transpose", 0, 1 }, { "rope_split", 2 }, { "flip", 0 }, { "flip", 0, 1 }, { "cast", "float16" },
              { "scale", 2 }, { "slice", 0, 1, 3 }, { "unsqueeze", 0 }, { "reshape", { -1 } }, { "scale", "v+1" },
              { "index_select", 0, { 1, 0 } }, { "pad", 0, 1, 0, 0.5 } }

local function some_ops()
  local list = {}
  for i = 1, one_in(4) and 2 or 1 do list[i] = pick(OPS) end
  return one_in(2) and #list == 1 and list[1] or list
end

local function when(captures)
  local form = math.random(5)
  if form == 1 then return { ndim = 2 } end
  if form == 2 then return { dtype = "float32" } end
  if form == 3 and captures[1] and captures[1] ~= "*" then return { [captures[1]] = pick { 1, "attn" } } end
  if form == 4 then return { var = { v = math.random(0, 1) * 3 } } end
  return function(_, tensor) return #tensor.name % 2 == 0 end
end

local function rewrite()
  local kind = pick { "sub", "seg", "tail" }
  local pair = pick { { "weight", "w" }, { "attn", "a" }, { "w", "weight" }, { ".w", ".kernel" }, { "1", "one" } }
  return { [kind] = pair, pass = one_in(2) or nil, op = one_in(4) and some_ops() or nil }
end

local function grouped(list)
  local first = pick(list).name
  if one_in(2) then return { any = { first, (pick(list).name) }, to = one_in(2) and "any.of" or nil } end
  return { gather = { "h.{i}.attn.q.weight", "h.{i}.attn.k.weight" }, to = "h.{i}.qk", op = { "cat", 0 },
    optional = one_in(2) }
end

local function plain(list)
  local text, captures = pattern(list)
  local rule = { text }
  local form = math.random(12)
  if form == 1 then rule.drop = true elseif form == 2 then rule.keep = true else
    rule.to = not one_in(6) and template(captures) or nil
    rule.op = one_in(3) and some_ops() or nil
    rule.tie = one_in(12) and template(captures) or nil
  end
  if form == 3 then rule.to, rule.op = { template(captures), "half.{i}" }, { "chunk", 0, 2 } end
  if one_in(6) then rule.when = when(captures) end
  if one_in(10) then rule.target = true end
  return rule
end

local function rule(list)
  local form = math.random(14)
  if form == 1 then return rewrite() end
  if form == 2 then return grouped(list) end
  if form == 3 then
    return { map = function(name) return #name % 5 == 0 and name .. "!" or nil end }
  end
  return plain(list)
end

local function stages(list)
  local out = {}
  for s = 1, pick { 1, 1, 2, 3 } do
    out[s] = {}
    for r = 1, math.random(1, 12) do out[s][r] = rule(list) end
  end
  return out
end

-- Names of targets: some that rules may make, and some of the file.
local function target(list)
  local out = {}
  for i = 1, math.random(10) do out[i] = source(one_in(2) and template { "i" } or pick(list).name) end
  return out
end

---@param seed integer
---@return table set, table[] sources, table options
function M.make(seed)
  math.randomseed(seed)
  local list = sources()
  local set = { id = "random", stages = stages(list), vars = { v = 3, d = { dim = { "{*}", 0 }, default = 5 },
    n = { count = "h.{i}.norm1.weight" } }, lookup = { t = { [0] = "zero", "one", "two" } }, exact = one_in(8) or nil,
    peel = one_in(3) and { "m.", "layers.", mode = pick { "all", "each" } } or nil,
    expect = one_in(4) and { fired = "all", forbid = { "{*}.bias" }, unused = { "h.{*}" } } or nil }
  return set, list, { target = one_in(3) and target(list) or nil }
end

return M
