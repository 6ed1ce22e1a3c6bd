-- match.lua: which rule of a stage takes a key. Rules of one whole key are found by a table. For the others the key's
-- skeleton, its digits as one 0, says which may match at all; keys of one layer have one skeleton, so that most keys
-- are compared with the few rules that can take them, however many there are.
local pattern = require "policies.rules.pattern"
local quick = require "policies.rules.quick"

local M = {}

-- ---- conditions ----

local function fits(test, value)
  if value == nil then return false end
  if test.set then return test.set[value] == true end
  if test.low then return math.type(value) == "integer" and value >= test.low and value <= test.high end
  return value == test.equal
end

local function fits_vars(state, rule, vars)
  for name, wanted in pairs(vars) do -- all must hold: the order decides nothing
    local value, why = state.var_env.get(name)
    if value == nil then
      state.once(rule, "when: " .. why)
      return false
    end
    if type(wanted) == "boolean" then wanted = wanted and 1 or 0 end
    if value ~= wanted then return false end
  end
  return true
end

function M.holds(state, rule, entry, values)
  local when = rule.when
  if not when then return true end
  if when.off ~= nil then return not when.off end
  if when.call then
    local ok, result = pcall(when.call, values, { name = entry.to, shape = entry.shape, dtype = entry.dtype })
    if not ok then state.once(rule, "when raised: " .. tostring(result)) end
    return ok and result
  end
  for _, condition in ipairs(when.captures) do
    if not fits(condition.test, values[condition.name]) then return false end
  end
  if when.ndim and not (entry.shape and #entry.shape == when.ndim) then return false end
  if when.dtype and entry.dtype ~= when.dtype then return false end
  return not when.var or fits_vars(state, rule, when.var)
end

-- ---- rewrites: sub, seg, tail ----

local function plain_sub(text, find, put)
  local out, at = {}, 1
  while true do
    local i, j = text:find(find, at, true)
    if not i then break end
    out[#out + 1] = text:sub(at, i - 1)
    out[#out + 1] = put
    at = j + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

---The key after a sub, seg or tail; nil if it has nothing of the kind.
---@return string?
function M.rewrite(rule, key)
  local find, put = rule.find, rule.put
  if rule.how == "tail" then
    if #key <= #find or key:sub(-#find) ~= find then return nil end
    return key:sub(1, -#find - 1) .. put
  end
  if not key:find(find, 1, true) then return nil end
  if rule.how == "sub" then return plain_sub(key, find, put) end
  local text = "." .. key .. "."
  if not text:find("." .. find .. ".", 1, true) then return nil end
  local segments = {}
  for segment in (key .. "."):gmatch("([^.]*)%.") do segments[#segments + 1] = segment end
  if find:find(".", 1, true) then return plain_sub(text, "." .. find .. ".", "." .. put .. "."):sub(2, -2) end
  for i, segment in ipairs(segments) do segments[i] = segment == find and put or segment end
  return table.concat(segments, ".")
end

-- ---- one matcher ----

local function try_pattern(state, m, entry)
  if m.pattern.fast then return pattern.capture(m.pattern, entry.to) end
  local ok, values = pcall(pattern.capture, m.pattern, entry.to)
  if ok then return values end
  local why = type(values) == "table" and ("is too costly for '%s'"):format(entry.to)
    or ": " .. tostring(values):gsub("^.-:%d+: ", "")
  state.once(m.rule, ("pattern '%s' %s"):format(m.pattern.text, why))
  return nil
end

-- { key =, ops = } of a map rule; nil if it does not take the key.
local function try_map(state, rule, entry)
  local tensor = { name = entry.to, shape = entry.shape, dtype = entry.dtype }
  local ok, key, operations = pcall(rule.call, entry.to, tensor)
  if not ok then
    state.once(rule, "map raised: " .. tostring(key))
    return nil
  end
  if key == nil then return nil end
  return { made = key, ops = operations }
end

-- The captures, or what a rewrite or a function gives; nil: the rule does not take the key.
local function try(state, m, entry)
  local rule = m.rule
  local values
  if m.pattern then
    values = m.pattern.literal and {} or try_pattern(state, m, entry)
  elseif rule.kind == "rewrite" then
    local key = M.rewrite(rule, entry.to)
    values = key and { made = key }
  else
    values = try_map(state, rule, entry)
  end
  if not values or (rule.when and not M.holds(state, rule, entry, values)) then return nil end
  if rule.target and not state.has_target(rule, m.pattern, values) then return nil end
  return values
end

-- ---- a stage ----

local function may_match(m, skeleton)
  if m.pattern then return pattern.may_match(m.pattern, skeleton) end
  return m.rule.kind == "map" or skeleton:find(m.rule.chunk, 1, true) ~= nil
end

local function never() return nil end

local NOWHERE = { first = never }

-- The short way of a list, that of its first matchers up to one that has none. `first`: it, if what it takes is of this
-- skeleton in any case, so that it can be tried before the skeleton of a key is made.
local function set_quick(cache, list, skeleton)
  local ways, certain = {}, true
  for i, m in ipairs(list) do
    ways[i] = quick.renamer(cache.state, m, cache.literal)
    if not ways[i] then break end
    certain = certain and pattern.skeleton(m.pattern) == skeleton
  end
  list.quick = quick.first_of(ways)
  list.first = certain and list.quick or never
end

-- Those that may take keys of one skeleton, in order. `following`: the list of the key that last came after one of it.
local function new_list(cache, skeleton)
  local list = { following = NOWHERE }
  for _, m in ipairs(cache.stage.open) do
    if may_match(m, skeleton) then list[#list + 1] = m end
  end
  set_quick(cache, list, skeleton)
  return list
end

local function open_matchers(cache, key)
  local skeleton = key:gsub("%d+", "0")
  local list = cache.lists[skeleton]
  if not list then
    list = new_list(cache, skeleton)
    cache.lists[skeleton] = list
  end
  return list
end

---What is remembered from key to key of a stage.
function M.cache(state, stage)
  return { state = state, stage = stage, lists = {}, last = { following = NOWHERE },
    literal = next(stage.literal) ~= nil and stage.literal or nil }
end

---The short way: the name that a rule gives to a key, and its matcher; nil: the long way has to look. Keys of one layer
---come in the order of those of the layer before: what took the key behind the last one then is tried first.
---@return string|false|nil name, table? matcher
function M.find_quick(cache, key)
  local last = cache.last
  local list = last.following
  local name, m = list.first(key)
  if not name then
    list = open_matchers(cache, key)
    last.following = list
    name, m = list.quick(key)
  end
  cache.last = list
  return name, m
end

local NONE = {}

---The first matcher behind place `after` that takes the entry, and its captures. A rule that hands on (`pass`) changes
---the entry's key on the way.
---@return table? matcher, table? values
function M.find(cache, entry, after)
  local state, open = cache.state, open_matchers(cache, entry.to)
  local literal = cache.literal and cache.literal[entry.to] or NONE
  local i, j = 1, 1
  while true do
    local a, b = literal[i], open[j]
    local m = a and (not b or a.order < b.order) and a or b
    if not m then return nil end
    if m == a then i = i + 1 else j = j + 1 end
    local values = m.order > after and try(state, m, entry)
    if values and not m.rule.pass then return m, values end
    if values then
      state.fire(m.rule, entry)
      entry.to = values.made
      return M.find(cache, entry, m.order)
    end
  end
end

return M
