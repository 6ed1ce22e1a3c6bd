-- lua_graphs.lua: runs the chunks that lua_source.py wrote. Each line of the standard input is "chunk<TAB>file":
-- what the
-- chunk builds is saved as that file, and "ok" or what went wrong is said.

local ckpt = require "ckpt"

for line in io.lines() do
  local chunk, file = line:match "^(.-)\t(.*)$"
  local ok, message = pcall(function()
    local n = {}
    assert(loadfile(chunk, "t", { ckpt = ckpt, n = n }))()
    assert(ckpt.save(file, n.root))
  end)
  print(ok and "ok" or tostring(message):gsub("\n.*", ""))
  io.stdout:flush()
end
