-- batch_bar.lua: how far a batch has come, on one line of stderr; nothing where that is no terminal.
--
--    [################--------]  67 %  134/200  1.9 GB/s  eta 00:21   resnet101.pth

local ckpt = require "ckpt"
local text = require "scripts.cli.text"

local M = {}

local CLEAR, CELLS, AGAIN = "\r\27[K", 24, 0.1 -- seconds between two lines

local Bar = {}
Bar.__index = Bar

---@param files integer
---@param bytes integer of all files
---@param now fun(): number
---@return table
function M.new(files, bytes, now)
  return setmetatable({ files = files, bytes = bytes, now = now, shown = ckpt.is_terminal(2), start = now(), next = 0,
                        done_files = 0, done_bytes = 0, name = "" }, Bar)
end

---Seconds as 00:21 or 1:02:03.
---@param seconds number
---@return string
function M.clock(seconds)
  local s = math.tointeger(seconds // 1) or 0
  if s < 3600 then return ("%02d:%02d"):format(s // 60, s % 60) end
  return ("%d:%02d:%02d"):format(s // 3600, s // 60 % 60, s % 60)
end

---The line for a moment `elapsed` seconds after the start.
---@param elapsed number
---@return string
function Bar:line(elapsed)
  local part = self.bytes > 0 and self.done_bytes / self.bytes or self.done_files / math.max(self.files, 1)
  local full = math.tointeger(part * CELLS // 1)
  local rate, eta = "", ""
  if self.done_bytes > 0 and elapsed > 0 then
    rate = text.size(math.tointeger(self.done_bytes / elapsed // 1)) .. "/s"
    eta = "eta " .. M.clock(elapsed * (self.bytes - self.done_bytes) / self.done_bytes)
  end
  local line = (" [%s%s] %3d %%  %d/%d  %s  %s   %s"):format(("#"):rep(full), ("-"):rep(CELLS - full), part * 100 // 1,
    self.done_files, self.files, rate, eta, text.printable(self.name))
  return text.fit(line, text.WIDTH - 1)
end

---Draws the line if it is time to.
function Bar:draw()
  local now = self.now()
  if not self.shown or now < self.next then return end
  self.next = now + AGAIN
  io.stderr:write(CLEAR, self:line(now - self.start))
end

---A file is done with.
---@param name string
---@param bytes integer
function Bar:step(name, bytes)
  self.name, self.done_files, self.done_bytes = name, self.done_files + 1, self.done_bytes + bytes
  self:draw()
end

---Takes the line away.
function Bar:clear()
  if self.shown then io.stderr:write(CLEAR) end
end

return M
