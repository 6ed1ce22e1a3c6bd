-- words.lua: "did you mean": the nearest of some words.
local M = {}

local MAX = 200 -- bytes of a word that is compared

-- Edits between two words, at most `limit` + 1.
local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local corner, least = row[0], i
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local value = math.min(row[j] + 1, row[j - 1] + 1, corner + cost)
      corner, row[j] = row[j], value
      if value < least then least = value end
    end
    if least > limit then return limit + 1 end
  end
  return row[#b]
end

---The nearest of a list that is near enough to be meant, or nil. Of equally near ones the first.
---@param word string
---@param list string[]
---@return string?
function M.nearest(word, list)
  local best, best_at = nil, math.min(math.max(1, #word // 3), #word - 1) + 1
  if #word > MAX then return nil end
  for _, other in ipairs(list) do
    local d = #other <= MAX and distance(word, other, best_at - 1) or best_at
    if d < best_at then best, best_at = other, d end
  end
  return best
end

---"; did you mean 'optional'?" or "".
---@param word string
---@param known table<string, any> names as keys
---@return string
function M.suggest(word, known)
  local list = {}
  for name in pairs(known) do list[#list + 1] = tostring(name) end
  table.sort(list)
  local near = M.nearest(tostring(word), list)
  return near and ("; did you mean '%s'?"):format(near) or ""
end

return M
