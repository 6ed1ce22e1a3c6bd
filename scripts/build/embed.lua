-- embed.lua: writes a C table of texts, so that the library and the executable need no files of their own.
--
--   lua5.4 embed.lua TABLE NAME=FILE... > out.c
--
-- TABLE is the C identifier; each NAME becomes an entry of struct ckpt_embedded.

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

local function c_bytes(text)
  local out, column = {}, 0
  for i = 1, #text do
    local item = string.byte(text, i) .. ","
    column = column + #item
    if column > 110 then
      out[#out + 1] = "\n"
      column = #item
    end
    out[#out + 1] = item
  end
  return table.concat(out)
end

local identifier = arg[1]
print('#include "embed.h"')
local rows = {}
for i = 2, #arg do
  local name, path = arg[i]:match("^([^=]+)=(.+)$")
  local text = read(path)
  print(("static const char text_%d[] = {%s0};"):format(i, c_bytes(text)))
  rows[#rows + 1] = ('    {"%s", text_%d, %d},'):format(name, i, #text)
end
print(("const struct ckpt_embedded %s[] = {"):format(identifier))
print(table.concat(rows, "\n"))
print("    {0, 0, 0},\n};")
