-- suggest.lua: "did you mean": what would have matched more, found on names and shapes. Part of policies/default.lua.
--
-- Tried are prefixes that the file's keys begin with, other rule sets, one segment in the place of another, and, for
-- the few keys that are left, names that differ in a letter or two. Each suggestion says how many model keys would be
-- matched then; what would not match more is not suggested.
local library = require "policies.default.library"
local match = require "policies.default.match"
local rules = require "policies.default.rules"

local M = {}

local MOST = 4 -- suggestions
local LIMITS = { keys = 20000, pairs = 2000, targets = 12, sources = 200 } -- beyond that nothing is looked for

-- ---- prefixes ----

-- Beginnings up to a dot, of one to three segments, and how many keys have each; the most frequent first.
local function prefixes(entries)
  local count, order = {}, {}
  for _, entry in ipairs(entries) do
    local dot, depth = entry.from:find(".", 1, true), 1
    while dot and depth <= 3 and dot < #entry.from do
      local prefix = entry.from:sub(1, dot)
      if not count[prefix] then order[#order + 1] = prefix end
      count[prefix] = (count[prefix] or 0) + 1
      dot, depth = entry.from:find(".", dot + 1, true), depth + 1
    end
  end
  table.sort(order, function(a, b)
    if count[a] ~= count[b] then return count[a] > count[b] end
    return a < b
  end)
  return order, count
end

local function without(entries, prefix)
  local list = {}
  for i, entry in ipairs(entries) do
    local has = entry.from:sub(1, #prefix) == prefix
    list[i] = { name = has and entry.from:sub(#prefix + 1) or entry.from, shape = entry.shape }
  end
  return list
end

-- Only the best, and only one that many keys have of which at least half would fit: what is left of a name without its
-- beginning is often the end of another.
local function try_prefixes(add, state, set)
  local order, count = prefixes(state.file_entries)
  local least, most, found = math.max(2, #state.file_entries // 10), 0, nil
  for i = 1, math.min(#order, 8) do
    local n = match.count(set, state.targets, without(state.file_entries, order[i]))
    local counts = count[order[i]] >= least and 2 * (n - #state.assign) >= count[order[i]]
    if counts and n > most then most, found = n, order[i] end
  end
  if found then add("--strip " .. found, most) end
end

local function try_suffixes(add, state, set)
  if set.mode ~= "exact" then return end
  local other = { mode = "suffix", boundary = ".", fanout = set.fanout }
  add("load.align.mode = 'suffix'", match.count(other, state.targets, state.entries))
end

-- ---- rule sets ----

local function try_maps(add, state, set, run, source)
  if set.resuming or #state.file_entries > LIMITS.pairs then return end
  for _, id in ipairs(library) do
    local n = rules.try(id, state, set, run, source, match.count)
    if n then add("--map " .. id, n) end
  end
end

-- ---- segments ----

local function segments(name)
  local list = {}
  for part in name:gmatch("[^.]+") do list[#list + 1] = part end
  return list
end

-- The last `n` segments with the i-th of those left open, and what stands there.
local function open(list, n, i)
  local from = #list - n
  local parts = table.move(list, from + 1, #list, 1, {})
  local segment = parts[i]
  parts[i] = "\0"
  return table.concat(parts, "."), segment
end

-- Where a segment stands decides how a rule with a number in it is written.
local PLACES = {
  first = '{ "%s{i}%s.{*}", to = "%s{i%s}%s.{2}" }',
  middle = '{ "{*}.%s{i}%s.{*}", to = "{1}.%s{i%s}%s.{3}" }',
  last = '{ "{*}.%s{i}%s", to = "{1}.%s{i%s}%s" }',
}

local function place_of(i, n)
  if i == 1 and n > 1 then return "first" end
  return i == n and n > 1 and "last" or i > 1 and "middle" or nil
end

-- The rule that turns segment a into b: over all numbers where both have one.
local function rule_text(a, b, place)
  local head, digits, tail = a:match("^(%a[%a_]*)(%d+)(%a*)$")
  local head2, digits2, tail2 = b:match("^(%a[%a_]*)(%d+)(%a*)$")
  if not (place and head and head2) then return ('{ seg = { "%s", "%s" } }'):format(a, b) end
  local offset = math.tointeger(tonumber(digits2)) - math.tointeger(tonumber(digits))
  return PLACES[place]:format(head, tail, head2, offset == 0 and "" or ("%+d"):format(offset), tail2)
end

local function left_over(state)
  local targets, sources = {}, {}
  for _, target in ipairs(state.targets) do
    if not state.filled[target.name] and not target.reset then targets[#targets + 1] = target end
  end
  for _, entry in ipairs(state.entries) do
    if not state.used[entry] and entry.from then sources[#sources + 1] = entry end
  end
  return targets, sources
end

-- Open forms of the model's keys, at the lengths that the file's keys have -> list of { target, segment }.
local function index_targets(targets, lengths, whole)
  local index = {}
  for _, target in ipairs(targets) do
    local list = segments(target.name)
    for n = 1, #list do
      for i = 1, lengths[n] and (not whole or n == #list) and n or 0 do
        local form, segment = open(list, n, i)
        index[form] = index[form] or {}
        table.insert(index[form], { target = target, segment = segment })
      end
    end
  end
  return index
end

-- A vote for each rule that would give this entry the name and the shape of a target.
local function vote(votes, entry, list, index)
  local seen = {}
  for i = 1, #list do
    local form, segment = open(list, #list, i)
    for _, hit in ipairs(index[form] or {}) do
      local fits = segment ~= hit.segment and match.same_shape(hit.target.shape, entry.shape)
      local text = fits and rule_text(segment, hit.segment, place_of(i, #list))
      if text and not seen[text] then
        seen[text] = true
        if not votes[text] then table.insert(votes, text) end
        votes[text] = (votes[text] or 0) + 1
      end
    end
  end
end

local function try_segments(add, state, set, targets, sources)
  if #targets > LIMITS.pairs or #sources > LIMITS.pairs then return end
  local lengths, split, votes = {}, {}, {}
  for i, entry in ipairs(sources) do
    split[i] = segments(entry.name)
    lengths[#split[i]] = true
  end
  local index = index_targets(targets, lengths, set.mode == "exact")
  for i, entry in ipairs(sources) do vote(votes, entry, split[i], index) end
  for _, text in ipairs(votes) do
    if votes[text] > 1 then add("a rule " .. text, #state.assign + votes[text]) end
  end
end

-- ---- letters ----

-- Insertions, deletions and changes that lead from a to b; `most` + 1 where there are more.
local function distance(a, b, most)
  if math.abs(#a - #b) > most then return most + 1 end
  local row = {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local diagonal, least = row[0], i
    row[0] = i
    for j = 1, #b do
      local change = diagonal + (a:byte(i) == b:byte(j) and 0 or 1)
      diagonal, row[j] = row[j], math.min(change, row[j] + 1, row[j - 1] + 1)
      least = math.min(least, row[j])
    end
    if least > most then return most + 1 end
  end
  return row[#b]
end

local function nearest(target, sources)
  local most, found = math.min(3, #target.name // 4)
  for _, entry in ipairs(sources) do
    if match.same_shape(entry.shape, target.shape) then
      local d = distance(entry.name, target.name, most)
      if d <= most then most, found = d - 1, entry end
    end
  end
  return found
end

-- For the few that no rule would help.
local function try_letters(add, state, targets, sources, found)
  if #sources > LIMITS.sources or #found > 0 then return end
  for i, target in ipairs(targets) do
    local entry = i <= LIMITS.targets and nearest(target, sources)
    if entry then add(("'%s' for '%s'"):format(entry.from, target.name), #state.assign + 1) end
  end
end

-- ---- all ----

-- The best first.
local function best(list)
  table.sort(list, function(a, b)
    if a.matches ~= b.matches then return a.matches > b.matches end
    return a.place < b.place
  end)
  local chosen = {}
  for i = 1, math.min(#list, MOST) do chosen[i] = { text = list[i].text, matches = list[i].matches } end
  return chosen
end

---@param state ckpt.default.Match
---@param set ckpt.default.LoadSettings
---@param run ckpt.Run
---@param source ckpt.Source
---@return { text: string, matches: integer }[]
function M.find(state, set, run, source)
  local list, now = {}, #state.assign
  local function add(text, n)
    if n > now then list[#list + 1] = { text = text, matches = n, place = #list } end
  end
  if #state.targets > LIMITS.keys or #state.file_entries > LIMITS.keys then return {} end
  local targets, sources = left_over(state)
  try_maps(add, state, set, run, source)
  try_segments(add, state, set, targets, sources)
  try_prefixes(add, state, set)
  try_suffixes(add, state, set)
  try_letters(add, state, targets, sources, list)
  return best(list)
end

return M
