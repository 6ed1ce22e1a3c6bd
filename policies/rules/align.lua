-- align.lua: the last stage of a set that asks for it: each target takes the longest result that ends its name,
-- behind a boundary. One result fills one target; where it fits several, the one of its very name, else the only one
-- of its shape.
local ckpt = ckpt or require "ckpt" -- a global of a policy's environment

local M = {}

local function brackets(shape) return "[" .. table.concat(shape, ", ") .. "]" end

local function same_shape(a, b)
  if not a or not b then return true end
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function names_of(list, field)
  local out = {}
  for i, item in ipairs(list) do out[i] = item[field] end
  return out
end

-- Entry index -> indices of the targets that it is the longest suffix of.
local function claims_of(found)
  local claims = {}
  for target, entry in ipairs(found) do
    if entry then
      claims[entry] = claims[entry] or {}
      table.insert(claims[entry], target)
    end
  end
  return claims
end

local function with_shape(targets, claim, entry)
  local list = {}
  for _, t in ipairs(claim) do
    if same_shape(targets[t].shape, entry.shape) then list[#list + 1] = t end
  end
  return list
end

-- The targets that an entry fills: one, or with unique = false all that fit.
local function winners(state, targets, claim, entry)
  local rules = state.compiled.align
  for _, t in ipairs(claim) do
    if targets[t].name == entry.to then return { t } end
  end
  local fitting = rules.shape and with_shape(targets, claim, entry) or claim
  if #fitting <= 1 or not rules.unique then return fitting end
  local shown = {}
  for i = 1, math.min(#fitting, 4) do shown[i] = targets[fitting[i]].name end
  state.problem(entry.rule, entry.from, "align: '%s' fits %d target keys alike: %s", entry.to, #fitting,
    table.concat(shown, ", "))
  return {}
end

local function mismatch(state, target, entry)
  table.insert(state.mismatched, { to = target.name, from = entry.from, message =
    ("%s: file %s, model %s"):format(target.name, brackets(entry.shape), brackets(target.shape)) })
end

local function copy(entry, name)
  local out = {}
  for field, value in pairs(entry) do out[field] = value end
  out.to = name
  return out
end

---Renames the entries of a plan to the target's keys; those that fit none stay as they are.
function M.run(state)
  local targets = state.options.target
  state.mismatched = {}
  if not targets then return end
  local found = ckpt.align(names_of(targets, "name"), names_of(state.entries, "to"),
    state.compiled.align.boundary ~= "" and state.compiled.align.boundary or nil)
  local claims, out = claims_of(found), {}
  for i, entry in ipairs(state.entries) do
    local claim = claims[i]
    local list = claim and winners(state, targets, claim, entry) or {}
    for _, t in ipairs(list) do out[#out + 1] = copy(entry, targets[t].name) end
    if #list == 0 then out[#out + 1] = entry end
    if claim and #list == 0 and state.compiled.align.shape then
      for _, t in ipairs(claim) do
        if not same_shape(targets[t].shape, entry.shape) then mismatch(state, targets[t], entry) end
      end
    end
  end
  state.entries = out
end

return M
