-- average.lua: `ckpt average DIR --best K -o OUT`, or of FILES: one checkpoint whose weights are the mean of several.
--
-- Floating tensors of the model are averaged in float64, all others (counters, masks) come from the newest input. Keys,
-- shapes and dtypes must agree. The first input gives the structure; what it holds beside the model is left out unless
-- --all asks for it. Nothing is computed before a tensor is written, so that one is in memory at a time.

local casting = require "scripts.cli.casting"
local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Average the weights of a run's best checkpoints, or of files." }

local function count(word)
  local n = math.tointeger(tonumber(word))
  return n and n >= 1 and n or nil, ("'%s' is not a number from 1 on"):format(word)
end

---@param command table the argparse command
function M.declare(command)
  command:argument("DIR|FILE", "A run's directory, or checkpoints."):target("inputs"):args("+")
  command:option("-o --output", "File to write; it is replaced as a whole."):argname("OUT"):target("output"):count(1)
  command:option("--best", "Of DIR: the best K that are there."):argname("K"):convert(count)
  command:option("--metric", "What is better, instead of what the policy says."):argname("NAME")
  command:option("--mode", "Of --metric.", "max"):choices { "max", "min" }
  command:option("--path", "Where the model's state dict is in the files (else it is looked for)."):argname("PATH")
  command:flag("--all", "Keep what the first input holds beside the model, as it is.")
  run_dir.declare(command)
  command:flag("--json", "One line of JSON.")
end

-- ---- which files ----

local function is_finite(value) return value and value == value and math.abs(value) ~= math.huge end

-- The run's files by one metric of the ledger, the best first; the later of two equal ones first.
local function by_metric(kept, ledger, metric, mode)
  local values, list = {}, {}
  for _, entry in ipairs(ledger) do
    if entry.file and entry.metrics[metric] then values[entry.file] = entry.metrics[metric] end
  end
  for place, item in ipairs(kept) do
    if is_finite(values[item.file]) then
      list[#list + 1] = { file = item.file, value = values[item.file], place = place }
    end
  end
  table.sort(list, function(a, b)
    if a.value ~= b.value then return (a.value > b.value) == (mode == "max") end
    return a.place > b.place
  end)
  return list
end

local function ranking(cp, args)
  if not args.metric then return cp:ranking() end
  local kept, message, code = cp:kept()
  if not kept then return nil, message, code end
  local files, ledger
  files, ledger, code = cp:files()
  if not files then return nil, ledger, code end
  return by_metric(kept, ledger, args.metric, args.mode)
end

local function best_of_run(args)
  local cp <close>, message, code = run_dir.open_existing(args)
  if not cp then return nil, message, code end
  local ranked
  ranked, message, code = ranking(cp, args)
  if not ranked then return nil, message, code end
  if #ranked < args.best then
    return nil, ("%s: %d checkpoints with %s are there, --best asks for %d"):format(args.dir, #ranked,
      args.metric and "the metric '" .. args.metric .. "'" or "the policy's metric", args.best), "argument"
  end
  local paths = {}
  for i = 1, args.best do paths[i] = run_dir.join(args.dir, ranked[i].file) end
  return paths
end

local function paths_of(args)
  local first = args.inputs[1]
  local is_run = #args.inputs == 1 and run_dir.is_directory(first) and args.best ~= nil
  if args.best and not is_run then return nil, "--best K is of one run directory that is there", "argument" end
  if args.metric and not args.best then return nil, "--metric goes with --best K", "argument" end
  if not args.best then return args.inputs end
  args.dir = first
  return best_of_run(args)
end

-- ---- the inputs ----

---@class average.Input
---@field path string
---@field cp userdata
---@field sd userdata
---@field at string where the state dict is
---@field epoch integer?

local function open(path, args)
  local input, message, code = { path = path }
  input.cp, message, code = ckpt.open(path, { verify = true })
  if not input.cp then return nil, message, code end
  local left
  input.sd, left, input.at = ckpt.state_dict(input.cp, args.path)
  if not input.sd then return nil, left, input.at end
  if #input.sd == 0 then return nil, path .. ": there is no tensor in it", "argument" end
  input.at = input.at or args.path or ""
  input.epoch = run_dir.epoch_in(input.cp)
  return input
end

-- The input with the highest epoch; of equal ones, and where no file says its epoch, the last.
local function newest(inputs)
  local best = inputs[1]
  for _, input in ipairs(inputs) do
    if (input.epoch or math.mininteger) >= (best.epoch or math.mininteger) then best = input end
  end
  return best
end

local function kind(tensor) return ("%s %s"):format(tensor.dtype, text.shape(tensor.shape)) end

-- Sentences on what another input has otherwise than the first.
local function disagreements(first, other, list)
  local function add(...) list[#list + 1] = other.path .. ": " .. (...):format(select(2, ...)) end
  for name, tensor in pairs(first.sd) do
    local same = other.sd[name]
    if not same then
      add("'%s' is missing", name)
    elseif kind(same) ~= kind(tensor) then
      add("'%s' is %s, in %s it is %s", name, kind(same), first.path, kind(tensor))
    end
  end
  for name in pairs(other.sd) do
    if not first.sd[name] then add("'%s' is not in %s", name, first.path) end
  end
end

local SHOWN = 5

local function check(inputs)
  local list = {}
  for i = 2, #inputs do disagreements(inputs[1], inputs[i], list) end
  if #list == 0 then return true end
  local words = table.concat(list, "; ", 1, math.min(SHOWN, #list))
  return nil, #list > SHOWN and ("%s; and %d more"):format(words, #list - SHOWN) or words, "contract"
end

local function open_all(paths, args)
  local inputs = {}
  for i, path in ipairs(paths) do
    local input, message, code = open(path, args)
    if not input then return nil, message, code end
    inputs[i] = input
  end
  local ok, message, code = check(inputs)
  if not ok then return nil, message, code end
  return inputs
end

-- ---- the mean ----

local AVERAGED = { complex64 = true, complex128 = true, complex32 = true }
for dtype in pairs(casting.FLOATING) do AVERAGED[dtype] = true end

-- What a tensor is a view of: equal for equal views of one storage.
local function view_of(tensor)
  return ("%s %d %s %s"):format(tensor.dtype, tensor.offset, table.concat(tensor.shape, ","),
    table.concat(tensor:stride(), ","))
end

-- storage -> view -> name of the model's tensors: the file's tree need not have the state dict's names.
local function index_of(sd)
  local index = {}
  for name, tensor in pairs(sd) do
    local storage = tensor:storage() or "meta"
    index[storage] = index[storage] or {}
    index[storage][view_of(tensor)] = index[storage][view_of(tensor)] or name
  end
  return index
end

local function mean_of(inputs, name)
  local list = {}
  for i, input in ipairs(inputs) do list[i] = input.sd[name] end
  return ckpt.mean(list)
end

---@return any value, table|string counts, string? code
local function combine(inputs)
  local first, latest, counts, failure = inputs[1], newest(inputs), { averaged = 0, taken = 0 }, nil
  local index = index_of(first.sd)
  local function replace(_, tensor)
    local views = index[tensor:storage() or "meta"]
    local name = views and views[view_of(tensor)]
    if not name or failure then return nil end
    if not AVERAGED[tensor.dtype] then
      counts.taken = counts.taken + 1
      return latest.sd[name]
    end
    local mean, message, code = mean_of(inputs, name)
    if not mean then
      failure = { ("'%s': %s"):format(name, message), code }
      return nil
    end
    counts.averaged = counts.averaged + 1
    return mean
  end
  local value, message, code = ckpt.map(first.cp, replace)
  if failure then return nil, failure[1], failure[2] end
  if value == nil then return nil, message, code end
  return value, counts
end

-- The state dict in the dicts around it, without what lies beside it. Of anything but dicts the whole is kept.
local function model_alone(value, at)
  local keys, here = {}, value
  for key in at:gmatch("[^.]+") do keys[#keys + 1] = key end
  for _, key in ipairs(keys) do
    if ckpt.type(here) ~= "dict" then return value end
    here = ckpt.get(here, key)
    if here == nil then return value end
  end
  for i = #keys, 1, -1 do here = ckpt.items { { keys[i], here } } end
  return here
end

-- ---- the command ----

local ORDER = { "out", "inputs", "averaged", "taken", "newest", "bytes" }

local function tell(args, inputs, counts)
  local written <close>, message, code = ckpt.open(args.output)
  if not written then return status.fail(message, code, args.output) end
  local latest = newest(inputs)
  if args.json then
    local list = {}
    for i, input in ipairs(inputs) do
      list[i] = json.object({ "file", "epoch" }, { file = input.path, epoch = input.epoch or json.null })
    end
    json.print(json.object(ORDER, { out = args.output, inputs = list, averaged = counts.averaged,
                                    taken = counts.taken, newest = latest.path, bytes = written.bytes }))
    return status.OK
  end
  local names = {}
  for i, input in ipairs(inputs) do names[i] = input.path end
  text.say(text.wrap(("%s: the mean of %s"):format(text.printable(args.output), text.some(names, 8)), "  "))
  text.say(("  %s averaged, %d taken from %s, %s"):format(text.plural(counts.averaged, "tensor"), counts.taken,
    text.printable(latest.path), text.size(written.bytes)))
  return status.OK
end

---@param args table
---@return integer status
function M.run(args)
  local paths, inputs, value, counts, report, message, code
  paths, message, code = paths_of(args)
  if not paths then return status.fail(message, code) end
  inputs, message, code = open_all(paths, args)
  if not inputs then return status.fail(message, code) end
  value, counts, code = combine(inputs)
  if value == nil then return status.fail(counts, code, inputs[1].path) end
  if not args.all then value = model_alone(value, inputs[1].at) end
  report, message, code = ckpt.save(args.output, value)
  if not report then return status.fail(message, code, args.output) end
  return tell(args, inputs, counts)
end

return M
