-- text.lua: how sizes, shapes, names and columns look on the screen. Names come from foreign files: nothing that a
-- terminal would obey gets through.

local M = {}

M.WIDTH = 80

---@param names string[] units, smallest first
local function scaled(n, names, first)
  if n < 1000 then return ("%d%s"):format(n, first) end
  local value, unit = n / 1000, 1
  while value >= 999.5 and unit < #names do
    value, unit = value / 1000, unit + 1
  end
  return (value < 99.95 and "%.1f %s" or "%.0f %s"):format(value, names[unit])
end

---Bytes in decimal units: 697 KB.
---@param n integer
---@return string
function M.size(n) return scaled(n, { "KB", "MB", "GB", "TB", "PB" }, " B") end

---A number of values: 75.9 K.
---@param n integer
---@return string
function M.count(n) return scaled(n, { "K", "M", "G", "T" }, "") end

---@param n integer
---@param word string
---@return string "1 tensor", "2 tensors"
function M.plural(n, word) return ("%d %s%s"):format(n, word, n == 1 and "" or "s") end

---@param shape integer[]
---@return string "64x3x7x7"; "scalar" for no dimension
function M.shape(shape) return #shape == 0 and "scalar" or table.concat(shape, "x") end

local function as_hex(c) return ("\\x%02x"):format(c:byte()) end

---A name as a terminal may see it: control characters and bytes that are not UTF-8 as \xNN.
---@param text string
---@return string
function M.printable(text)
  text = text:gsub("[%c\x7F]", as_hex):gsub("\xC2[\x80-\x9F]", function(pair) return pair:gsub(".", as_hex) end)
  if utf8.len(text) then return text end
  return (text:gsub("[\x80-\xFF]", as_hex))
end

local function columns_of(text) return utf8.len(text) or #text end

---At most `width` characters, the cut marked by dots.
---@param text string
---@param width integer
---@return string
function M.fit(text, width)
  if columns_of(text) <= width then return text end
  local cut = utf8.offset(text, math.max(width - 3, 0) + 1) or #text + 1
  return text:sub(1, cut - 1) .. "..."
end

---@param text string
---@param width integer
---@param right boolean? to the right
---@return string
function M.pad(text, width, right)
  local space = (" "):rep(width - columns_of(text))
  return right and space .. text or text .. space
end

local function widths_of(rows, most)
  local widths = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do
      widths[i] = math.min(math.max(widths[i] or 0, columns_of(cell)), most or math.huge)
    end
  end
  return widths
end

---Lines of aligned columns, two blanks apart and without blanks at the end. `right[i]` aligns column i to the right;
---a cell wider than `most` pushes its own line only.
---@param rows string[][]
---@param right table<integer, boolean>?
---@param indent string?
---@param most integer?
---@return string[]
function M.columns(rows, right, indent, most)
  local widths, lines = widths_of(rows, most), {}
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do cells[i] = M.pad(cell, widths[i], right and right[i]) end
    lines[n] = ((indent or "  ") .. table.concat(cells, "  ")):gsub("%s+$", "")
  end
  return lines
end

---A line on stdout. Lua's print flushes at every line, which a list of 100,000 tensors feels.
---@param line string?
function M.say(line) io.write(line or "", "\n") end

---Prints lines of columns, see M.columns.
function M.print_columns(...)
  for _, line in ipairs(M.columns(...)) do M.say(line) end
end

---"a, b, c and 4 more"
---@param names string[]
---@param shown integer
---@return string
function M.some(names, shown)
  local list = {}
  for i = 1, math.min(#names, shown) do list[i] = M.printable(names[i]) end
  return table.concat(list, ", ") .. (#names > shown and (" and %d more"):format(#names - shown) or "")
end

---A value that is no container, on one line: 'adam', 0.001, True, None; anything else as Python shows it, cut.
---@param value any
---@param width integer? of its text, 40
---@return string
function M.value(value, width)
  if type(value) == "string" then return "'" .. M.fit(M.printable(value), width or 40) .. "'" end
  if value ~= value then return "nan" end -- C may write its sign
  if math.type(value) == "float" then return ("%.6g"):format(value) end
  if type(value) == "boolean" then return value and "True" or "False" end
  return M.fit(M.printable(tostring(value)), width or 40)
end

-- The first byte in which two strings differ, moved back to the start of a character.
local function parting(a, b)
  local at = 1
  while a:byte(at) and a:byte(at) == b:byte(at) do at = at + 1 end
  while at > 1 and (a:byte(at) or 0) & 0xC0 == 0x80 do at = at - 1 end
  return at
end

---Two different strings, quoted, each cut to the place where they part.
---@param a string
---@param b string
---@param width integer of each text
---@return string, string
function M.around(a, b, width)
  local from = parting(a, b) - width // 3
  if from <= width // 3 then return M.value(a, width), M.value(b, width) end
  while (a:byte(from) or 0) & 0xC0 == 0x80 do from = from + 1 end
  local function cut(text) return "'..." .. M.fit(M.printable(text:sub(from)), width - 3) .. "'" end
  return cut(a), cut(b)
end

---Words in lines of at most M.WIDTH columns. The first line begins with `head`, further ones with `indent`.
---@param sentence string
---@param indent string
---@param head string?
---@return string
function M.wrap(sentence, indent, head)
  local lines, line, blank = {}, head or "", ""
  for word in sentence:gmatch("%S+") do
    if blank == "" or columns_of(line) + 1 + columns_of(word) <= M.WIDTH then
      line, blank = line .. blank .. word, " "
    else
      lines[#lines + 1], line = line, indent .. word
    end
  end
  lines[#lines + 1] = line
  return table.concat(lines, "\n")
end

---A word that can be pasted into a shell.
---@param word string
---@return string
function M.shell(word)
  if word:find("^[%w%._/+:@%%-]+$") then return word end
  return "'" .. word:gsub("'", "'\\''") .. "'"
end

---`*` stands for any characters, `?` for one; everything else for itself. The whole name must match.
---@param glob string
---@return fun(name: string): boolean
function M.glob(glob)
  local pattern = "^" .. glob:gsub("%*+", "*"):gsub("[%^%$%(%)%%%.%[%]%+%-]", "%%%0")
    :gsub("%*", ".*"):gsub("%?", ".") .. "$"
  return function(name) return name:find(pattern) ~= nil end
end

return M
