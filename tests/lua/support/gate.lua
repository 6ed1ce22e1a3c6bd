-- gate.lua: after a test nothing of the module may be alive.  after_each(require "gate")
local ckpt = require "ckpt"

return function()
  collectgarbage()
  collectgarbage()
  assert(ckpt.live() == 0, "objects of the module are still alive: " .. ckpt.live())
end
