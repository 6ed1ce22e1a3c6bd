-- ops.lua CASES OUT: runs the cases of check_ops.py. CASES is Lua that returns a list of { tensors, run }: tensors
-- are { dtype, shape, bytes }, run(ckpt, tensors) returns a tensor. What comes out goes to OUT: one line "shape|stride|
-- hex of the bytes", or "error CODE MESSAGE".
local ckpt = require "ckpt"

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function list(t) return table.concat(t, ",") end

-- A mapped, read-only tensor: what is made of it is lazy. Saved and opened again.
local function of_file(path, tensors)
  local dict = {}
  for i, t in ipairs(tensors) do dict["t" .. i] = ckpt.tensor(t[1], t[2], t[3]) end
  assert(ckpt.save(path, ckpt.dict(dict)))
  local sd = assert(assert(ckpt.open(path)):state_dict())
  local out = {}
  for i in ipairs(tensors) do out[i] = sd["t" .. i] end
  return out
end

local function own(tensors)
  local out = {}
  for i, t in ipairs(tensors) do out[i] = ckpt.tensor(t[1], t[2], t[3]) end
  return out
end

local cases = assert(loadfile(arg[1], "t"))()
local out = assert(io.open(arg[2], "w"))
for i, case in ipairs(cases) do
  local tensors = i % 2 == 0 and own(case[1]) or of_file(arg[2] .. ".pth", case[1])
  local result, message, code = case[2](ckpt, tensors)
  if not result then
    out:write("error ", code, " ", message, "\n")
  else
    local stride = list(result:stride())
    out:write(list(result.shape), "|", stride, "|", hex(assert(result:bytes())), "\n")
  end
end
out:close()
