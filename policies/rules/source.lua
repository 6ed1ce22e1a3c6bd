-- source.lua: on which line of its text each rule of a set begins.
--
-- The text is read by its brackets, comments and strings left out: `stages = { { {`. That holds where the stages are
-- written out in one place; where functions make rules the count is another, and then a rule is looked for by its
-- pattern.
local M = {}

-- Blanks of the same length for what is no code, so that places stay; newlines stay.
local function blank(text) return (text:gsub("[^\n]", " ")) end

-- The end of a long bracket that begins at `at`, or nil if none does.
local function long_end(text, at)
  local equals = text:match("^%[(=*)%[", at)
  if not equals then return nil end
  local _, stop = text:find("]" .. equals .. "]", at, true)
  return stop or #text
end

local function string_end(text, at)
  local quote, i = text:sub(at, at), at + 1
  while i <= #text do
    local c = text:sub(i, i)
    if c == "\\" then i = i + 1 elseif c == quote or c == "\n" then return i end
    i = i + 1
  end
  return #text
end

local function code_only(text)
  local out, at = {}, 1
  while true do
    local i = text:find("[%-\"'%[]", at)
    if not i then break end
    local stop
    if text:sub(i, i + 1) == "--" then
      stop = long_end(text, i + 2) or (text:find("\n", i, true) or #text + 1) - 1
    elseif text:find("^[\"']", i) then
      stop = string_end(text, i)
    else
      stop = long_end(text, i)
    end
    out[#out + 1] = text:sub(at, i - 1)
    out[#out + 1] = stop and blank(text:sub(i, stop)) or text:sub(i, i)
    at = (stop or i) + 1
  end
  out[#out + 1] = text:sub(at)
  return table.concat(out)
end

local function line_at(text, at)
  local n = 1
  for i in text:gmatch("()\n") do
    if i >= at then break end
    n = n + 1
  end
  return n
end

-- Places of the brackets that open at `depth` inside the one at `open`, and of the end.
local function opened(code, open, depth)
  local list, level, at = {}, 0, open
  while at do
    if code:sub(at, at) == "{" then
      level = level + 1
      if level == depth + 1 then list[#list + 1] = at end
    else
      level = level - 1
      if level == 0 then break end
    end
    at = code:find("[{}]", at + 1)
  end
  return list
end

local function field_open(code, name)
  local _, stop = code:find("%f[%w_]" .. name .. "%s*=%s*{")
  return stop
end

local function by_pattern(text, rule)
  for _, field in ipairs(type(rule) == "table" and { 1, "make", "id" } or {}) do
    local word = rule[field]
    local at = type(word) == "string"
      and (text:find('"' .. word .. '"', 1, true) or text:find("'" .. word .. "'", 1, true))
    if at then return line_at(text, at) end
  end
  return nil
end

local function stage_lines(text, code, stages)
  local open, lines = field_open(code, "stages"), {}
  local places = open and opened(code, open, 1) or {}
  for s, stage in ipairs(stages) do
    lines[s] = {}
    local inner = #places == #stages and opened(code, places[s], 1) or {}
    for r, rule in ipairs(type(stage) == "table" and stage or {}) do
      lines[s][r] = #inner == #stage and line_at(text, inner[r]) or by_pattern(text, rule)
    end
  end
  return lines
end

---@param text string
---@param set table
---@return { stages: integer[][]?, table: integer[]? }
function M.lines(text, set)
  local code, out = code_only(text), {}
  if type(set.stages) == "table" then out.stages = stage_lines(text, code, set.stages) end
  local open = type(set.table) == "table" and field_open(code, "table")
  if open then
    local places = opened(code, open, 1)
    out.table = {}
    for i = 1, #places == #set.table and #places or 0 do out.table[i] = line_at(text, places[i]) end
  end
  return out
end

return M
