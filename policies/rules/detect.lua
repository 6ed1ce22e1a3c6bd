-- detect.lua: which of several sets fits a file, by the keys that it has after peeling.
local compile = require "policies.rules.compile"
local pattern = require "policies.rules.pattern"
local plan = require "policies.rules.plan"

local M = {}

local function find(entries, by_name, p)
  if p.literal then return by_name[p.literal] end
  for _, entry in ipairs(entries) do
    if pattern.match(p, entry.to) then return entry end
  end
  return nil
end

local function count_found(entries, by_name, list)
  local n = 0
  for _, p in ipairs(list or {}) do
    if find(entries, by_name, p) then n = n + 1 end
  end
  return n
end

local function has_shape(entry, shape)
  if not entry or not entry.shape or #entry.shape ~= #shape then return false end
  for i, size in ipairs(shape) do
    if size ~= 0 and entry.shape[i] ~= size then return false end
  end
  return true
end

---@param compiled ckpt.rules.Compiled
---@param sources ckpt.rules.Source[]
---@return boolean
function M.fits(compiled, sources)
  local rule = compiled.detect
  if not rule then return false end
  local entries, by_name = plan.peeled(compiled, sources), {}
  for _, entry in ipairs(entries) do by_name[entry.to] = entry end
  if rule.call then
    local named = {}
    for i, entry in ipairs(entries) do
      named[i] = { name = entry.to, shape = entry.shape, dtype = entry.dtype }
    end
    local ok, result = pcall(rule.call, named)
    return ok and result and true or false
  end
  if #rule.keys == 0 and #rule.any == 0 and #rule.shapes == 0 and not rule.nkeys then return false end
  if rule.nkeys and #entries ~= rule.nkeys then return false end
  if count_found(entries, by_name, rule.keys) < #rule.keys then return false end
  if #rule.any > 0 and count_found(entries, by_name, rule.any) == 0 then return false end
  if count_found(entries, by_name, rule.none) > 0 then return false end
  for _, item in ipairs(rule.shapes) do
    if not has_shape(find(entries, by_name, item.pattern), item.shape) then return false end
  end
  return true
end

---The first set of a list that fits; sets may be compiled or as they were written.
---@param list table[]
---@param sources ckpt.rules.Source[]
---@return table? set, integer? place, table? compiled
function M.detect(list, sources)
  for i, set in ipairs(list) do
    local compiled = set.problems and set or compile.compile(set)
    if compiled and M.fits(compiled, sources) then return set, i, compiled end
  end
  return nil
end

return M
