-- vars.lua: what the variables of a set are worth for one file: found when they are first asked for, each once.
local arith = require "policies.rules.arith"
local pattern = require "policies.rules.pattern"

local M = {}

local BOOLEANS = { ["true"] = 1, ["false"] = 0 }

-- Numbers out of texts; whole floats as integers; truth values as 1 and 0.
local function plain(value)
  if type(value) == "boolean" then return value and 1 or 0 end
  if type(value) == "string" then
    return BOOLEANS[value] or math.tointeger(tonumber(value)) or tonumber(value) or value
  end
  return math.tointeger(value) or value
end

-- "a.b" is the key of that name, or b of the table a.
local function config_value(config, key)
  if type(config) ~= "table" then return nil end
  local value = config[key]
  if value == nil and key:find(".", 1, true) then
    value = config
    for word in key:gmatch("[^.]+") do value = type(value) == "table" and value[word] or nil end
  end
  if type(value) == "table" or value == nil then return nil end
  return value
end

local function count(state, p)
  local seen, n = {}, 0
  for _, name in ipairs(state.names) do
    local found = pattern.match(p, name)
    if found and not seen[found[1]] then seen[found[1]], n = true, n + 1 end
  end
  return n
end

local function size_of(state, var, name)
  for place, key in ipairs(state.names) do
    if pattern.match(var.dim, key) then
      local shape = state.sources[place].shape
      local i = shape and (var.index < 0 and #shape + var.index or var.index) + 1
      if shape and shape[i] then return shape[i] end
      return nil, shape and ("variable '%s': '%s' has no dimension %d"):format(name, key, var.index)
        or ("variable '%s': the shape of '%s' is not known"):format(name, key)
    end
  end
  return nil, ("variable '%s': no key matches '%s'"):format(name, var.dim.text)
end

local function from_outside(state, var)
  local value
  if var.option ~= nil then value = state.options.vars and state.options.vars[var.option] end
  if value == nil and var.config ~= nil then value = config_value(state.options.config, var.config) end
  return value
end

local function missing(var, name)
  local from = {}
  if var.config then from[#from + 1] = ("the config has no '%s'"):format(var.config) end
  if var.option then from[#from + 1] = ("'%s' is not given"):format(var.option) end
  return nil, ("variable '%s': %s"):format(name, table.concat(from, ", "))
end

local function find(state, var, name)
  local given = state.options.vars and state.options.vars[name]
  if given ~= nil then return plain(given) end
  if var.value ~= nil then return plain(var.value) end
  if var.node then return arith.evaluate(var.node, state.var_env) end
  local value, why = from_outside(state, var), nil
  if value ~= nil then return plain(value) end
  if var.dim then value, why = size_of(state, var, name) end
  if value == nil and var.count then value = count(state, var.count) end
  if value ~= nil then return value end
  if var.default_node then return arith.evaluate(var.default_node, state.var_env) end
  if var.default ~= nil then return plain(var.default) end
  if why then return nil, why end
  return missing(var, name)
end

---The value of a variable; nil and why it has none.
---@param state table the plan in the making
---@param name string
---@return any?, string?
function M.get(state, name)
  local var, known = state.compiled.vars[name], state.var_values[name]
  if not var then return nil, ("there is no '%s'"):format(name) end
  if known == false then return nil, ("variable '%s' is made of itself"):format(name) end
  if known == nil then
    state.var_values[name] = false
    local value, why = find(state, var, name)
    known = { value = value, why = why }
    state.var_values[name] = known
  end
  return known.value, known.why
end

---The environment of variables, and of operations that only they are in.
---@return ckpt.rules.Env
function M.own_environment(state)
  return { get = function(name) return M.get(state, name) end, lookup = state.env.lookup,
    rank = function() return nil, "rank has no meaning here" end }
end

---The environment of templates and operations: captures, then variables. `values` and `rule` are set for each key.
---@return table
function M.environment(state, rank)
  local env = { values = {} }
  function env.get(name)
    local value = env.values[name]
    if value ~= nil then return value end
    return M.get(state, name)
  end
  function env.lookup(name, index)
    local list = state.compiled.lookup[name]
    local value = type(list) == "table" and list[index]
    if value == nil or value == false then
      return nil, ("lookup '%s' has nothing for '%s'"):format(name, tostring(index))
    end
    return value
  end
  function env.rank(name) return rank(env.rule, name, env.values[name]) end
  return env
end

return M
