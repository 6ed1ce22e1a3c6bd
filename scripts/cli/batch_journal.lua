-- batch_journal.lua: what a batch has done, as lines of JSON in OUT-DIR/convert.jsonl, each on the disk before the
-- batch goes on. A batch that is killed at any moment and started again goes on where it was.
--
--   {"event":"begun", "in","bytes","mtime","options","out", "before":{"inode","mtime"}}    before anything is written
--   {"event":"done",  "in","bytes","mtime","options","out", "files":[{"file","bytes","inode","mtime"}], "tensors"}
--   {"event":"failed","in","bytes","mtime","options","out", "message"}
--
-- Done is a task whose input and options are those of its last "done", and whose files are still those that were
-- written. A file gets its name only when it is whole, so that a task that was begun and whose file is another than
-- `before` (or there, if `before` is missing) was done as well: the batch was killed before it could say so.

local dkjson = require "dkjson"
local json = require "scripts.cli.json"

local M = { NAME = "convert.jsonl" }

local ORDER = { "event", "in", "bytes", "mtime", "options", "out", "before", "files", "tensors", "message" }
local FILE_ORDER = { "file", "bytes", "inode", "mtime" }

local Journal = {}
Journal.__index = Journal

-- ---- reading ----

-- Lines by the task's new file: what has been said since it was begun last. A line that was cut off by a kill is none.
local function read(path)
  local last, file <close> = {}, io.open(path, "rb")
  local all = file and file:read("a") or ""
  for line in all:gmatch("[^\n]+") do
    local entry = dkjson.decode(line)
    if type(entry) == "table" and type(entry.out) == "string" and type(entry.event) == "string" then
      local events = entry.event ~= "begun" and last[entry.out] or {}
      events[entry.event], last[entry.out] = entry, events
    end
  end
  return last, all == "" or all:sub(-1) == "\n"
end

-- The lock of a batch that was killed a moment ago goes when the last of its processes has ended.
local function open(host, dir)
  for attempt = 1, 20 do
    local log, message, code = host.journal(dir)
    if log or code ~= "busy" or attempt == 20 then return log, message, code end
    host.wait({}, 0.1)
  end
end

---@param dir string made if it is not there
---@param host table
---@return table? journal nil, message, code
---@return string? message
---@return string? code
function M.open(dir, host)
  local log, message, code = open(host, dir)
  if not log then
    return nil, code == "busy" and dir .. ": another batch is converting into this directory" or message, code
  end
  local last, whole = read(dir .. "/" .. M.NAME)
  local self = setmetatable({ log = log, dir = dir, host = host, last = last }, Journal)
  if not whole then
    local ok
    ok, message, code = log:append(M.NAME, "\n")
    if not ok then return nil, message, code end
  end
  return self
end

-- ---- asking ----

local function is_of(entry, task)
  return entry ~= nil and task.stat ~= nil and entry["in"] == task.real and entry.options == task.options and
    entry.bytes == task.stat.bytes and entry.mtime == task.stat.mtime
end

local function same_file(host, path, file)
  local now = host.stat(path)
  return now ~= nil and now.inode == file.inode and now.mtime == file.mtime and (file.bytes or now.bytes) == now.bytes
end

function Journal:folder(task) return self.dir .. "/" .. (task.out:match("^(.*/)[^/]*$") or "") end

function Journal:has_files(task, entry)
  for _, file in ipairs(entry.files or {}) do
    if not same_file(self.host, self:folder(task) .. file.file, file) then return false end
  end
  return entry.files ~= nil and #entry.files > 0
end

-- The file that stands for the whole: itself, or the index of a set.
function Journal:main_file(task)
  for _, path in ipairs { task.output .. ".index.json", task.output } do
    local stat = self.host.stat(path)
    if stat then return path:match("[^/]*$"), stat end
  end
end

---Whether a task has been done before.
---@param task batch.Task
---@return boolean
---@return string? file that was written, where the journal does not say so yet
function Journal:is_done(task)
  local events = self.last[task.out] or {}
  if events.done then return is_of(events.done, task) and self:has_files(task, events.done) end
  if events.failed or not is_of(events.begun, task) then return false end
  local name, stat = self:main_file(task)
  local before = events.begun.before
  if not name or (before and before.inode == stat.inode and before.mtime == stat.mtime) then return false end
  return true, name
end

-- ---- writing ----

local function line(event, task, fields)
  local stat = task.stat or {}
  fields.event, fields["in"], fields.out = event, task.real, task.out
  fields.bytes, fields.mtime, fields.options = stat.bytes, stat.mtime, task.options
  return json.encode(json.object(ORDER, fields)) .. "\n"
end

---Says what is going to be done; one append for all.
---@param tasks batch.Task[]
---@return boolean? ok nil, message, code
---@return string? message
---@return string? code
function Journal:begin(tasks)
  local lines = {}
  for i, task in ipairs(tasks) do
    local _, stat = self:main_file(task)
    lines[i] = line("begun", task, { before = stat and json.object(FILE_ORDER, stat) })
  end
  if #lines == 0 then return true end
  return self.log:append(M.NAME, table.concat(lines))
end

---@param task batch.Task
---@param names string[] of the files, in the directory of the task's output
---@param tensors integer?
---@return boolean? ok nil, message, code
---@return string? message
---@return string? code
function Journal:done(task, names, tensors)
  local files = {}
  for i, name in ipairs(names) do
    local stat = self.host.stat(self:folder(task) .. name) or {}
    files[i] = json.object(FILE_ORDER, { file = name, bytes = stat.bytes, inode = stat.inode, mtime = stat.mtime })
  end
  return self.log:append(M.NAME, line("done", task, { files = files, tensors = tensors }))
end

---@param task batch.Task
---@param message string
---@return boolean? ok nil, message, code
---@return string? message
---@return string? code
function Journal:failed(task, message)
  return self.log:append(M.NAME, line("failed", task, { message = message }))
end

---Lets go of the directory: at the end, and in a process that is not the batch's own.
function Journal:close() self.log:close() end

return M
