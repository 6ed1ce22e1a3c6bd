-- run_dir.lua: a run's directory, looked at and (but for `ckpt prune`, as rank 0) never touched: no lock is taken,
-- nothing is made, nothing is removed. That is what a checkpointer does on a rank other than 0, so every question here
-- is asked as rank 1.

local ckpt = require "ckpt"

local M = {}

-- "key=value" as { key, value }; for argparse's convert.
local function pair(word)
  local key, value = word:match("^([^=]+)=(.*)$")
  if not key then return nil, ("'%s' is not of the form key=value"):format(word) end
  return { key, value }
end

---Options that say which policy is asked, and with which options of the run.
---@param command table the argparse command
function M.declare(command)
  command:option("--policy", "Policy: a Lua file, or the name of a built-in one.", "default"):argname("P")
  command:option("--set", "An option of the run, as the policy reads it (run.options)."):argname("KEY=VALUE")
    :count("*"):convert(pair)
end

M.pair = pair

---A directory's own entry can be opened, a file's cannot.
---@param path string
---@return boolean
function M.is_directory(path)
  local file <close> = io.open(path .. "/.", "rb")
  return file ~= nil
end

---@param args table with `policy` and `set`
---@param options table further fields for ckpt.checkpointer: dir, weights, auto_resume
---@return userdata?, string? message, string? code
function M.open(args, options)
  options.set = {}
  for _, item in ipairs(args.set) do options.set[item[1]] = item[2] end
  options.policy, options.rank = args.policy, options.rank or 1
  return ckpt.checkpointer(options)
end

---Opens a run in a directory that must be there.
---@param args table with `dir`, `policy` and `set`
---@param rank integer? 0 takes the run's lock
---@return userdata?, string? message, string? code
function M.open_existing(args, rank)
  if not M.is_directory(args.dir) then return nil, args.dir .. ": there is no such directory", "notfound" end
  return M.open(args, { dir = args.dir, auto_resume = true, rank = rank })
end

---@param dir string
---@param name string
---@return string
function M.join(dir, name) return dir:sub(-1) == "/" and dir .. name or dir .. "/" .. name end

---The epoch that a checkpoint says it is of, or nil.
---@param cp userdata an open checkpoint
---@return integer?
function M.epoch_in(cp)
  for _, path in ipairs { "epoch", "scheduler.iteration" } do
    local epoch = cp:at(path)
    if math.type(epoch) == "integer" then return epoch end
  end
end

---@class run_dir.File
---@field file string
---@field aliases string[] further names of the same file
---@field bytes integer
---@field mtime integer
---@field inode integer
---@field entry table? its last save by the ledger

-- Of each file its last save; of one that was never saved (a ledger of another kind) its last line.
local function last_entries(ledger)
  local last, saved = {}, {}
  for _, entry in ipairs(ledger) do
    local is_save = entry.event == "save" or entry.event == "best"
    if entry.file and (is_save or not saved[entry.file]) then last[entry.file] = entry end
    if entry.file and is_save then saved[entry.file] = true end
  end
  return last
end

-- The name that a file is called by: one of the ledger, else one with a number, else the first.
local function rank_of(name, last) return last[name] and 0 or name:find("%d") and 1 or 2 end

local function by_rank(last)
  return function(a, b)
    local x, y = rank_of(a.name, last), rank_of(b.name, last)
    if x ~= y then return x < y end
    return a.name < b.name
  end
end

local function to_file(names, last)
  table.sort(names, by_rank(last))
  local first, aliases = names[1], {}
  for i = 2, #names do aliases[i - 1] = names[i].name end
  return { file = first.name, aliases = aliases, bytes = first.bytes, mtime = first.mtime, inode = first.inode,
           entry = last[first.name] }
end

---The files of a run, each once with all its names, in the order of their names.
---@param files table[] as cp:files() gives them
---@param ledger table[]
---@return run_dir.File[]
function M.group(files, ledger)
  local last, by_inode, order, list = last_entries(ledger), {}, {}, {}
  for _, file in ipairs(files) do
    local names = by_inode[file.inode]
    if not names then
      names = {}
      by_inode[file.inode], order[#order + 1] = names, names
    end
    names[#names + 1] = file
  end
  for i, names in ipairs(order) do list[i] = to_file(names, last) end
  return list
end

return M
