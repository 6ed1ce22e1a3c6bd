-- csv.lua: a log of metrics as rows of cells. Commas (or tabs, or semicolons where the first line has no comma), quoted
-- cells with doubled quotes, CRLF, a byte order mark, empty lines.

local M = {}

local function separator_of(header)
  for _, char in ipairs { ",", "\t", ";" } do
    if header:find(char, 1, true) then return char end
  end
  return ","
end

local function trim(cell) return (cell:match("^%s*(.-)%s*$")) end

-- One quoted cell that begins at `at`; its text and where it ends, or nil.
local function quoted(line, at)
  local from = at + 1
  while true do
    local quote = line:find('"', from, true)
    if not quote then return nil end
    if line:sub(quote + 1, quote + 1) ~= '"' then return line:sub(at + 1, quote - 1):gsub('""', '"'), quote + 1 end
    from = quote + 2
  end
end

-- The cells of a line; nil and a sentence if a quote does not end.
local function cells_of(line, separator)
  local cells, at = {}, 1
  while true do
    local from = line:find("[^ ]", at) or at
    local text, past
    if line:sub(from, from) == '"' then
      text, past = quoted(line, from)
      if not text then return nil, "a quoted cell does not end" end
    end
    local stop = line:find(separator, past or at, true)
    if past and trim(line:sub(past, (stop or #line + 1) - 1)) ~= "" then return nil, "text behind a quoted cell" end
    cells[#cells + 1] = text or trim(line:sub(at, (stop or #line + 1) - 1))
    if not stop then return cells end
    at = stop + 1
  end
end

local function check_header(columns)
  local seen = {}
  for i, name in ipairs(columns) do
    if name == "" then return ("column %d has no name"):format(i) end
    if seen[name] then return ("two columns are called '%s'"):format(name) end
    seen[name] = true
  end
end

---@class csv.Row
---@field line integer
---@field cells string[] as many as there are columns

-- A row that is too short has empty cells at its end.
local function add_row(rows, columns, cells, number)
  if #cells > #columns then return ("%d cells under %d columns"):format(#cells, #columns) end
  for i = #cells + 1, #columns do cells[i] = "" end
  rows[#rows + 1] = { line = number, cells = cells }
end

---Columns and rows of a file's text.
---@param text string
---@param path string for messages
---@return string[]? columns, csv.Row[]|string rows, string? code
function M.parse(text, path)
  local columns, rows, separator, number = nil, {}, ",", 0
  for line in text:gsub("^\xEF\xBB\xBF", ""):gmatch("([^\n]*)\n?") do
    number, line = number + 1, line:gsub("\r$", "")
    if line:find("%S") then
      if not columns then separator = separator_of(line) end
      local cells, why = cells_of(line, separator)
      if cells and columns then
        why = add_row(rows, columns, cells, number)
      elseif cells then
        columns, why = cells, check_header(cells)
      end
      if why then return nil, ("%s:%d: %s"):format(path, number, why), "format" end
    end
  end
  if not columns then return nil, path .. ": no line of column names", "format" end
  return columns, rows
end

---@param path string
---@return string[]? columns, csv.Row[]|string rows, string? code
function M.read(path)
  local file <close>, message = io.open(path, "rb")
  if not file then return nil, message, "io" end
  local text
  text, message = file:read("a")
  if not text then return nil, ("%s: %s"):format(path, message), "io" end
  return M.parse(text, path)
end

return M
