-- cast.lua FROM IN OUT TO...: casts the bytes in IN, of dtype FROM, to each dtype TO, and writes them to OUT.TO.
local ckpt = require "ckpt"

local function read(path)
  local f = assert(io.open(path, "rb"))
  local bytes = assert(f:read "a")
  f:close()
  return bytes
end

local function write(path, bytes)
  local f = assert(io.open(path, "wb"))
  assert(f:write(bytes))
  assert(f:close())
end

local from, input, output = arg[1], arg[2], arg[3]
local bytes = read(input)
local source = ckpt.tensor(from, { #bytes // ckpt.tensor(from, { 1 }).nbytes }, bytes)
for i = 4, #arg do write(output .. "." .. arg[i], assert(assert(source:to(arg[i])):bytes())) end
