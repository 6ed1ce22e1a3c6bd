-- resave.lua: each line of the standard input is "in<TAB>out": in is opened and saved as out; "ok" or what went
-- wrong is said.

local ckpt = require "ckpt"

local function resave(source, target)
  local cp <close>, message = ckpt.open(source)
  if not cp then return nil, message end
  return ckpt.save(target, cp)
end

for line in io.lines() do
  local ok, message = resave(line:match "^(.-)\t(.*)$")
  print((ok and "ok" or tostring(message):gsub("\n.*", "")))
  io.stdout:flush()
end
