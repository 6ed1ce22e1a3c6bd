-- batch.lua: `ckpt convert IN... --out-dir DIR`: the conversion of convert.lua, done to many files, several at a time.
--
-- Each file is converted in a process of its own: what goes wrong with it, a crash too, is told at the end and the
-- others go on. What has been done is in a journal, so that the same command, given again, does the rest.

local bar = require "scripts.cli.batch_bar"
local ckpt = require "ckpt"
local dkjson = require "dkjson"
local files = require "scripts.cli.batch_files"
local journals = require "scripts.cli.batch_journal"
local json = require "scripts.cli.json"
local map_options = require "scripts.cli.map_options"
local mapping = require "scripts.cli.mapping"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = {}

M.HELP = [[
Many files: an IN that is a file becomes DIR/its name; of an IN that is a
directory the checkpoints in it and below keep their places. Two that would
become one file are refused before anything is written. The same call given
again, also after a kill, goes on where it was: DIR/convert.jsonl knows which
file was made of which with which options. A bad file does not stop the others;
at the end it is told with the reason, and the exit status is 1.

  ckpt convert zoo/*.pth --out-dir st/ --format safetensors --jobs 2
  ckpt convert runs/ --out-dir half/ --dtype float16 --memory 2GB --json]]

local LEAST = 64 << 20 -- bytes of memory that a process is given at least

-- ---- options ----

local function count(word)
  local n = math.tointeger(tonumber(word))
  if n and n >= 1 and n <= 256 then return n end
  return nil, ("'%s' is not a number from 1 to 256"):format(word)
end

---@param command table the argparse command
---@param size fun(word: string): integer?, string?
function M.declare(command, size)
  command:option("--out-dir", "Convert every IN into this directory, which is made.")
    :argname("DIR"):target("out_dir")
  command:option("--glob", "Which files of a directory are taken; else those of a known suffix.")
    :argname("GLOB")
  command:option("--jobs", "Files at a time; else one for each processor, at most 4."):argname("N"):convert(count)
  command:option("--memory", "For all jobs together: 2GB. What needs more than a share is done alone, last.")
    :argname("SIZE"):convert(size)
end

-- What does not change what is written.
local ELSEWHERE = { inputs = true, input = true, output = true, out_dir = true, jobs = true, memory = true, json = true,
                    glob = true, command = true }

local function plain(value)
  if type(value) ~= "table" then return value end
  local list = {}
  for i, item in ipairs(value) do list[i] = plain(item) end
  return list
end

-- The contents of a file that an option names count, not its name alone.
local function contents(value)
  local file <close> = type(value) == "string" and io.open(value, "rb") or nil
  return file and file:read("a") or ""
end

---A digest of everything that decides what a file becomes.
---@param args table
---@param host table
---@return string
function M.options_digest(args, host)
  local names, list = {}, { ckpt.version }
  for name, value in pairs(args) do
    if not ELSEWHERE[name] and value ~= false and not (type(value) == "table" and #value == 0) then
      names[#names + 1] = name
    end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    list[#list + 1] = json.encode { name, plain(args[name]), host.sha256(contents(args[name])) }
  end
  return host.sha256(table.concat(list, "\n"))
end

-- ---- one file, in a process of its own ----

local FAILED_ORDER = { "status", "in", "out", "message", "code" }

local function failure_line(task, message, code)
  return json.encode(json.object(FAILED_ORDER, { status = "failed", ["in"] = task.input, out = task.output,
    message = message, code = code }))
end

local function name_file(message, file)
  if not file or message:find(file, 1, true) then return message end
  return file .. ": " .. message
end

local function convert_one(task, args, convert)
  local own = {}
  for name, value in pairs(args) do own[name] = value end
  own.input, own.output = task.input, task.output
  local ok, outcome, message, code, file = pcall(convert.perform, own)
  if not ok then
    message = tostring(outcome)
    return failure_line(task, message, message:find("not enough memory", 1, true) and "nomem" or "error")
  end
  if type(message) == "table" then return failure_line(task, map_options.sentence(message, file), "policy") end
  if not outcome then return failure_line(task, name_file(message, file), code) end
  local fields = convert.fields(own, outcome)
  fields.status = "converted"
  return json.encode(fields)
end

-- ---- the batch ----

local Batch = {}
Batch.__index = Batch

local function bytes_of(task) return task.stat and task.stat.kind == "file" and task.stat.bytes or 0 end

function Batch:start(task)
  local job, message, code = self.host.start(function()
    self.journal:close()
    return convert_one(task, self.args, self.convert)
  end, task.limit)
  if not job then return nil, message, code end
  table.insert(self.running, { job = job, task = task })
  return true
end

function Batch:print_line(line)
  if not self.args.json then return end
  io.write(line, "\n")
  io.flush()
end

-- Whether a task gets another try, with all of the memory and nobody beside it.
function Batch:postpone(task, result)
  if result.code ~= "nomem" or not task.limit or task.limit >= self.args.memory then return false end
  task.limit = self.args.memory
  table.insert(self.alone, task)
  return true
end

function Batch:converted(task, result, line)
  local total = self.total
  total.files, total.tensors = total.files + 1, total.tensors + result.tensors
  total.read, total.written = total.read + bytes_of(task), total.written + result.bytes
  if #result.dropped > 0 then self.lossy.dropped = self.lossy.dropped + 1 end
  if #result.overflow > 0 then self.lossy.overflow = self.lossy.overflow + 1 end
  self:print_line(line)
  return self.journal:done(task, result.files, result.tensors)
end

function Batch:failed(task, message, line)
  table.insert(self.failures, { task = task, message = message })
  self:print_line(line or failure_line(task, message))
  return self.journal:failed(task, message)
end

local function ended(how, number, output)
  if how == "signal" then
    return ("the process that converted it was killed by signal %d%s"):format(number,
      number == 9 and " (is there enough memory?)" or "")
  end
  return output ~= "" and output or ("the process that converted it ended with status %d"):format(number)
end

function Batch:finish(task, output, how, number)
  local result = how == "exit" and number == 0 and dkjson.decode(output)
  local ok, message, code
  if not result then
    ok, message, code = self:failed(task, ended(how, number, output))
  elseif result.status == "converted" then
    ok, message, code = self:converted(task, result, output)
  elseif self:postpone(task, result) then
    return true
  else
    ok, message, code = self:failed(task, result.message, output)
  end
  self.bar:step(task.out, bytes_of(task))
  return ok, message, code
end

-- Starts as many tasks as there is room for: first those of the queue, then, one at a time, those that want all.
function Batch:fill()
  while #self.running < self.jobs and self.next <= #self.todo do
    local ok, message, code = self:start(self.todo[self.next])
    if not ok then return nil, message, code end
    self.next = self.next + 1
  end
  if #self.running > 0 or #self.alone == 0 then return true end
  return self:start(table.remove(self.alone, 1))
end

function Batch:wait()
  local jobs = {}
  for i, entry in ipairs(self.running) do jobs[i] = entry.job end
  local index, output, how, number = self.host.wait(jobs, 0.25)
  self.bar:draw()
  if not index then return true end
  local entry = table.remove(self.running, index)
  return self:finish(entry.task, output, how, number)
end

function Batch:work()
  local ok, message, code = self.journal:begin(self.todo)
  while ok do
    ok, message, code = self:fill()
    if ok and #self.running == 0 then return true end
    if ok then ok, message, code = self:wait() end
  end
  return nil, message, code
end

-- ---- before ----

local SKIPPED_ORDER = { "status", "in", "out" }

-- A config.json beside a file decides with the rules, unless another is named.
local function options_of(task, options, self)
  if not self.args.map or self.args.config then return options end
  return self.host.sha256(options .. contents((task.input:match("^(.*/)[^/]*$") or "") .. "config.json"))
end

-- What has been done before is left out; what a killed batch could not say any more is said now.
function Batch:sort_out(tasks)
  local options = M.options_digest(self.args, self.host)
  for _, task in ipairs(tasks) do
    task.options = options_of(task, options, self)
    task.real = self.host.real_path(task.input) or task.input
    task.limit = self.share
    local done, name = self.journal:is_done(task)
    if done and name then
      local ok, message, code = self.journal:done(task, { name })
      if not ok then return nil, message, code end
    end
    if done then
      self.skipped = self.skipped + 1
      self:print_line(json.encode(json.object(SKIPPED_ORDER, { status = "skipped", ["in"] = task.input,
        out = task.output })))
    else
      table.insert(self.todo, task)
    end
  end
  return true
end

function Batch:make_directories()
  local made = {}
  for _, task in ipairs(self.todo) do
    local folder = task.output:match("^(.*)/[^/]*$")
    if not made[folder] then
      local ok, message, code = self.host.make_directory(folder)
      if not ok then return nil, message, code end
      made[folder] = true
    end
  end
  return true
end

function Batch:show_progress()
  local bytes = 0
  for _, task in ipairs(self.todo) do bytes = bytes + bytes_of(task) end
  self.bar = bar.new(#self.todo, bytes, self.host.now)
end

-- ---- after ----

function Batch:table_rows()
  local total = self.total
  return {
    { "", "files", "tensors", "read", "written" },
    { "converted", tostring(total.files), tostring(total.tensors), text.size(total.read), text.size(total.written) },
    { "skipped", tostring(self.skipped) },
    { "failed", tostring(#self.failures) },
  }
end

function Batch:print_summary()
  local elapsed = self.host.now() - self.started
  text.print_columns(self:table_rows(), { false, true, true, true, true })
  if self.lossy.dropped > 0 then
    text.say(("note: something was dropped from %s: --json names it"):format(text.plural(self.lossy.dropped, "file")))
  end
  if self.lossy.overflow > 0 then
    text.say(("note: values too large for the dtype in %s: --json names them")
      :format(text.plural(self.lossy.overflow, "file")))
  end
  text.say(("%d converted, %d skipped%s, %d failed in %s%s"):format(self.total.files, self.skipped,
    self.skipped > 0 and " (done before)" or "", #self.failures, bar.clock(elapsed), #self.failures > 0 and ":" or ""))
end

function Batch:print_failures(out)
  for _, failure in ipairs(self.failures) do
    out:write("  ", text.printable(name_file(failure.message, failure.task.input)), "\n")
  end
end

function Batch:tell()
  self.bar:clear()
  if not self.args.json then
    self:print_summary()
    self:print_failures(io.stdout)
  elseif #self.failures > 0 then
    io.stderr:write(("ckpt: %d of %d files failed:\n"):format(#self.failures, #self.todo))
    self:print_failures(io.stderr)
  end
  return #self.failures > 0 and status.FAILED or status.OK
end

-- ---- the command ----

local function new_batch(args, host, convert)
  local jobs = args.jobs or math.min(host.processors(), 4)
  if args.memory then jobs = math.max(1, math.min(jobs, args.memory // LEAST)) end
  return setmetatable({
    args = args, host = host, convert = convert, jobs = jobs, share = args.memory and args.memory // jobs,
    started = host.now(), todo = {}, next = 1, running = {}, alone = {}, failures = {},
    skipped = 0, total = { files = 0, tensors = 0, read = 0, written = 0 }, lossy = { dropped = 0, overflow = 0 },
  }, Batch)
end

local function check(args, tasks, convert)
  if args.memory and args.memory < LEAST then
    return nil, ("--memory must be at least %s"):format(text.size(LEAST))
  end
  if args.map then
    local loaded, problems = mapping.load(args.map, { inverse = args.inverse })
    if not loaded then return nil, problems end
  end
  for _, task in ipairs(tasks) do
    local probe = setmetatable({ input = task.input, output = task.output }, { __index = args })
    local format, message = convert.check(probe)
    if not format then return nil, message end
  end
  return true
end

---@param args table with `inputs` and `out_dir`
---@param host table
---@param convert table the module convert.lua
---@return integer status
function M.run(args, host, convert)
  local tasks, ok, message, code
  tasks, message = files.collect(args, host)
  if not tasks then return status.usage(message) end
  ok, message = check(args, tasks, convert)
  if not ok then return map_options.tell(message, "argument") end
  local self = new_batch(args, host, convert)
  self.journal, message, code = journals.open(args.out_dir, host)
  if not self.journal then return status.fail(message, code, args.out_dir) end
  ok, message, code = self:sort_out(tasks)
  if ok then ok, message, code = self:make_directories() end
  self:show_progress()
  if ok then ok, message, code = self:work() end
  if not ok then return status.fail(message, code, args.out_dir) end
  local result = self:tell()
  self.journal:close()
  return result
end

return M
