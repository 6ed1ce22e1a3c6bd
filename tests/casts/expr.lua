-- expr.lua CASES OUT: runs the cases of check_expr.py. CASES is Lua that returns a list of { tensors, expression }:
-- tensors are { name, dtype, shape, bytes }. To OUT goes one line for each: "shape|dtype|hex of the bytes", or "error
-- MESSAGE". What ckpt.infer says without the data must be what ckpt.apply makes.
local ckpt = require "ckpt"

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- In a file, so that what is made of them is lazy, or of one's own.
local function tensors_of(case, path)
  local dict, metas = {}, {}
  for _, t in ipairs(case[1]) do
    dict[t[1]], metas[t[1]] = ckpt.tensor(t[2], t[3], t[4]), { shape = t[3], dtype = t[2] }
  end
  if not path then return dict, metas end
  assert(ckpt.save(path, ckpt.dict(dict)))
  return assert(assert(ckpt.open(path)):state_dict()), metas
end

local out = assert(io.open(arg[2], "w"))
for i, case in ipairs(assert(loadfile(arg[1], "t"))()) do
  local tensors, metas = tensors_of(case, i % 2 == 1 and arg[2] .. ".pth")
  local shape, dtype = ckpt.infer(case[2], metas)
  local result, message = ckpt.apply(case[2], tensors)
  if not result or not shape then
    out:write("error ", result and "only infer: " .. dtype or message, "\n")
  else
    local same = table.concat(shape, ",") == table.concat(result.shape, ",") and dtype == result.dtype
    out:write(same and "" or "infer differs ", table.concat(result.shape, ","), "|", result.dtype, "|",
      hex(assert(result:bytes())), "\n")
  end
end
out:close()
