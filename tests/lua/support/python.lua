-- python.lua: a Python with PyTorch as the oracle of a spec, where there is one.
local scratch = require "support.scratch"

local M = {}

local found

---The command of a Python that can import torch, or nil.
---@return string|nil
function M.torch()
  if found ~= nil then return found or nil end
  found = false
  for _, command in ipairs { "python3", "/usr/bin/python3" } do
    if os.execute(command .. " -c 'import torch' 2>/dev/null") then
      found = command
      break
    end
  end
  return found or nil
end

---Runs a script in `dir` with `torch` imported; what it printed, and whether it ended well.
---@param dir string
---@param script string
---@return string output
---@return boolean ok
function M.run(dir, script)
  scratch.write(dir .. "/script.py", "import collections, math, torch\n" .. script)
  local pipe = assert(io.popen(("cd '%s' && %s script.py 2>&1"):format(dir, M.torch())))
  local output = pipe:read("a")
  return output, pipe:close() == true
end

return M
