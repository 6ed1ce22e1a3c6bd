-- progress.lua: a line on stderr that says how far long work has come; only on a terminal, and only after a second.

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

local FIRST, AGAIN = 1, 0.1 -- seconds of work before the first line, between two lines
local CLEAR = "\r\27[K"

local Progress = {}
Progress.__index = Progress

---@param label string what is being done
---@param total integer bytes of all the work
---@return table with step(bytes) and done()
function M.new(label, total)
  local shown = ckpt.is_terminal and ckpt.is_terminal(2)
  local next = shown and os.clock() + FIRST or math.huge
  return setmetatable({ label = label, total = total, at = 0, next = next }, Progress)
end

---So many bytes more are done.
---@param bytes integer
function Progress:step(bytes)
  self.at = self.at + bytes
  local now = os.clock()
  if now < self.next then return end
  self.next, self.drawn = now + AGAIN, true
  local percent = self.total > 0 and math.min(100, self.at * 100 // self.total) or 100
  io.stderr:write(CLEAR, text.fit(text.printable(self.label), 60), (" %3d %%"):format(percent))
end

---Takes the line away.
function Progress:done()
  if self.drawn then io.stderr:write(CLEAR) end
end

return M
