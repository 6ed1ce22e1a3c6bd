-- batch_files.lua: which files a batch converts, and what each becomes. Only looks; nothing is written here.
--
-- A file that is named becomes a file of its name in the output directory; of a directory that is named all checkpoints
-- are taken, below it too, and keep their places under it. The output directory itself is never gone into.

local text = require "scripts.cli.text"

local M = {}

-- What a suffix says of a format, and so of what is a checkpoint at all.
M.SUFFIXES = { safetensors = "safetensors", pth = "pth", pt = "pth", th = "pth", bin = "pth", ckpt = "pth" }

---@class batch.Task
---@field input string
---@field out string the new file, below the output directory
---@field output string the same as a path
---@field stat table? of the input; nil if there is none
---@field real string? the input's path from the root
---@field options string? digest of what decides what it becomes
---@field limit integer? bytes of memory

local function suffix_of(name)
  local suffix = name:match("%.([%w]+)$")
  return suffix and M.SUFFIXES[suffix:lower()] and suffix
end

local function join(dir, name)
  if dir == "" then return name end
  return dir:sub(-1) == "/" and dir .. name or dir .. "/" .. name
end

local function same(a, b) return a and b and a.device == b.device and a.inode == b.inode end

-- ---- names ----

-- What the file becomes; nil where its name does not say which format it is in.
local function new_name(name, format)
  local stem = name:gsub("%.index%.json$", "")
  local suffix = suffix_of(stem)
  if not format then return suffix and stem end
  if not suffix then return stem .. "." .. format end
  if M.SUFFIXES[suffix:lower()] == format then return stem end
  return stem:sub(1, -#suffix - 1) .. format
end

-- ---- walking ----

local Walk = {}
Walk.__index = Walk

function Walk:add(input, name, stat)
  local out = new_name(name, self.format)
  if not out then
    self.unnamed = self.unnamed or input
    return
  end
  table.insert(self.tasks, { input = input, out = out, output = join(self.out_dir, out), stat = stat })
end

-- A shard of a set goes with its index, which stands for it.
local function is_shard(name, present)
  local stem, suffix = name:match("^(.*)%-%d%d%d%d%d%-of%-%d%d%d%d%d(%.[%w]+)$")
  return stem ~= nil and present[stem .. suffix .. ".index.json"] ~= nil
end

function Walk:wants(name, path_below, present)
  if is_shard(name, present) then return false end
  if self.glob then return self.glob(self.by_path and path_below or name) end
  return suffix_of(name) ~= nil or name:find("%.index%.json$") ~= nil
end

function Walk:enter(dir, below)
  local names, message = self.host.names(dir)
  if not names then return nil, message end
  table.sort(names)
  local present = {}
  for _, name in ipairs(names) do present[name] = true end
  for _, name in ipairs(names) do
    local ok, failure = self:visit(join(dir, name), join(below, name), name, present)
    if not ok then return nil, failure end
  end
  return true
end

function Walk:visit(path, below, name, present)
  local stat = name:sub(1, 1) ~= "." and self.host.stat(path)
  if not stat then return true end
  if stat.kind == "directory" then return self:directory(path, below, stat) end
  if stat.kind == "file" and self:wants(name, below, present) then self:add(path, below, stat) end
  return true
end

-- A directory with a .metadata is a checkpoint itself (torch.distributed). Links may lead round in a circle.
function Walk:directory(path, below, stat)
  local key = stat.device .. ":" .. stat.inode
  if same(stat, self.out_stat) or self.entered[key] then return true end
  self.entered[key] = true
  if self.host.stat(join(path, ".metadata")) then
    self:add(path, below ~= "" and below or path:match("([^/]+)/*$") or path, stat)
    return true
  end
  return self:enter(path, below)
end

function Walk:input(path)
  local stat = self.host.stat(path)
  if stat and stat.kind == "directory" then return self:directory(path, "", stat) end
  self:add(path, path:match("([^/]+)$") or path, stat)
  return true
end

-- ---- what must not be ----

local function find_clash(tasks)
  local by_out = {}
  for _, task in ipairs(tasks) do
    local other = by_out[task.out]
    if other then return other, task end
    by_out[task.out] = task
  end
end

-- The same file named twice is one file.
local function without_repeats(tasks)
  local list, by_out = {}, {}
  for _, task in ipairs(tasks) do
    local other = by_out[task.out]
    if not (other and (other.input == task.input or same(other.stat, task.stat))) then
      by_out[task.out] = other or task
      list[#list + 1] = task
    end
  end
  return list
end

local function find_overwritten(tasks, host)
  local inputs = {}
  for _, task in ipairs(tasks) do
    if task.stat then inputs[task.stat.device .. ":" .. task.stat.inode] = task end
  end
  for _, task in ipairs(tasks) do
    local there = host.stat(task.output)
    local input = there and inputs[there.device .. ":" .. there.inode]
    if input then return input, task end
  end
end

local function check(tasks, host)
  local a, b = find_clash(tasks)
  if a then
    return nil, ("%s and %s would both become %s: name the directory that they are in, or convert them apart")
      :format(text.printable(a.input), text.printable(b.input), text.printable(a.output))
  end
  a, b = find_overwritten(tasks, host)
  if a then
    return nil, ("%s would be overwritten by what %s becomes: choose another --out-dir")
      :format(text.printable(a.input), text.printable(b.input))
  end
  return tasks
end

---The tasks of a batch, in the order of the inputs and, in a directory, of the names.
---@param args table with inputs, out_dir, format, glob
---@param host table
---@return batch.Task[]? nil, message if there is something wrong with the call
---@return string? message
function M.collect(args, host)
  local walk = setmetatable({ tasks = {}, host = host, format = args.format, out_dir = args.out_dir, entered = {},
    out_stat = host.stat(args.out_dir), glob = args.glob and text.glob(args.glob),
    by_path = args.glob and args.glob:find("/", 1, true) ~= nil }, Walk)
  for _, path in ipairs(args.inputs) do
    local ok, message = walk:input(path)
    if not ok then return nil, message end
  end
  if walk.unnamed then
    return nil, ("%s: into what format? --format pth or --format safetensors"):format(walk.unnamed)
  end
  if #walk.tasks == 0 then return nil, "there is no checkpoint in " .. table.concat(args.inputs, ", ") end
  return check(without_repeats(walk.tasks), host)
end

return M
