-- include.lua: a set with those that it includes: their stages before its own, their rules replaced by its own of the
-- same id. Every rule gets its id and, where the text is known, its line.
local source = require "policies.rules.source"

local M = {}

local MAX_DEPTH = 10

local function default_load(name)
  local ok, set = pcall(require, "policies.maps." .. name)
  if ok then return set end
  return nil, tostring(set)
end

-- The stages of one set as lists of { rule =, id =, file =, line = }.
local function own_stages(set, info, prefix)
  local stages = {}
  local lines = info.text and source.lines(info.text, set) or {}
  if set.table ~= nil or set.rename ~= nil then
    stages[1] = { short = true, rows = set.table, rename = set.rename, prefix = prefix, file = info.file,
      lines = lines.table }
  end
  for s, stage in ipairs(type(set.stages) == "table" and set.stages or {}) do
    local list = {}
    for r, rule in ipairs(type(stage) == "table" and stage or { stage }) do
      local id = type(rule) == "table" and rule.id or ("%s%d.%d"):format(prefix, s, r)
      list[r] = { rule = rule, id = tostring(id), named = type(rule) == "table" and rule.id ~= nil, file = info.file,
        line = lines.stages and lines.stages[s] and lines.stages[s][r] }
    end
    stages[#stages + 1] = list
  end
  return stages
end

-- A rule of `stages` with an id that is in `included` takes that one's place.
local function override(included, stages)
  local places = {}
  for _, stage in ipairs(included) do
    for i, item in ipairs(stage) do
      if item.named then places[item.id] = { stage = stage, i = i } end
    end
  end
  for _, stage in ipairs(stages) do
    for i = #stage, 1, -1 do
      local place = stage[i].named and places[stage[i].id]
      if place then place.stage[place.i] = table.remove(stage, i) end
    end
  end
end

local function copy_into(to, from)
  for name, value in pairs(type(from) == "table" and from or {}) do to[name] = value end
end

local merge

local function load_one(item, options, report, depth)
  local set, info = item, {}
  if type(item) == "string" then
    set, info = (options.load or default_load)(item)
    if type(set) ~= "table" then
      return report("include: there is no rule set '%s'%s", item, type(info) == "string" and ": " .. info or "")
    end
  end
  if type(set) ~= "table" then return report("include: a set is a name or a table") end
  if depth >= MAX_DEPTH then return report("include: more than %d levels, or a set that includes itself", MAX_DEPTH) end
  info = type(info) == "table" and info or {}
  return merge(set, { file = info.file, text = info.text, load = options.load }, report, depth + 1)
end

merge = function(set, options, report, depth)
  local out = { stages = {}, vars = {}, lookup = {} }
  local includes = set.include
  if includes ~= nil and (type(includes) ~= "table" or includes.id) then includes = { includes } end
  for _, item in ipairs(includes or {}) do
    local other = load_one(item, options, report, depth)
    if other then
      for _, stage in ipairs(other.stages) do out.stages[#out.stages + 1] = stage end
      copy_into(out.vars, other.vars)
      copy_into(out.lookup, other.lookup)
      for _, field in ipairs { "select", "peel", "align" } do out[field] = other[field] end
    end
  end
  local prefix = depth > 0 and tostring(set.id) .. ":" or ""
  local own = own_stages(set, options, prefix)
  override(out.stages, own)
  for _, stage in ipairs(own) do out.stages[#out.stages + 1] = stage end
  copy_into(out.vars, set.vars)
  copy_into(out.lookup, set.lookup)
  for _, field in ipairs { "select", "peel", "align" } do
    if set[field] ~= nil then out[field] = set[field] end
  end
  return out
end

---@param set table
---@param options table as rules.compile takes it
---@param report fun(format: string, ...)
---@return { stages: table[], vars: table, lookup: table, select: any, peel: any, align: any }
function M.merge(set, options, report) return merge(set, options, report, 0) end

return M
