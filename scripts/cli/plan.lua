-- plan.lua: `ckpt plan`: asks a policy and shows its answer. No tensor is filled, no file written, aliased or removed.

local mapping = require "scripts.cli.mapping"
local plan_load = require "scripts.cli.plan_load"
local plan_run = require "scripts.cli.plan_run"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"

local M = { summary = "Show what a load, a resume or a save would do, without doing it." }

local function integer(word)
  return math.tointeger(tonumber(word)), ("'%s' is not an integer"):format(word)
end

local function metric(word)
  local item, message = run_dir.pair(word)
  if not item then return nil, message end
  local value = item[2]:lower() == "nan" and 0 / 0 or tonumber(item[2])
  if not value then return nil, ("'%s' is not a number"):format(item[2]) end
  return { item[1], value }
end

---@param command table the argparse command
function M.declare(command)
  command:argument("DIR", "Run directory: what would a resume take (and put into --model)?"):target("dir"):args("?")
  command:option("--load", "Checkpoint to load weights from, into --model."):argname("FILE")
  command:option("--model", "JSON {name: {\"dtype\", \"shape\"}}, or a checkpoint of the model."):argname("MODEL")
  command:option("--model-path", "Where the state dict lies in the checkpoint MODEL."):argname("PATH")
  command:option("--strip", "A prefix that goes from the file's keys (the run's option strip)."):argname("PREFIX")
  command:option("--map", "Rule set: a Lua file, a name in maps/, or none (the run's option map)."):argname("RULES")
  command:option("--config", "JSON with variables of the rules; else config.json beside it (the options config.NAME).")
    :argname("FILE")
  command:option("--save", "Run directory: what would a save and a save_best do?"):argname("DIR")
  command:option("--epoch", "Epoch of the save (default: the one after the newest)."):argname("N"):convert(integer)
  command:option("--step", "Step of the save."):argname("N"):convert(integer)
  command:option("--metric", "Metric of the save."):argname("NAME=VALUE"):count("*"):convert(metric)
  command:option("--value", "A value that the trainer binds, for policies that read it."):argname("GROUP.KEY=VALUE")
    :count("*"):convert(run_dir.pair)
  run_dir.declare(command)
  command:flag("--all", "Show every key.")
  command:flag("--json", "One line of JSON.")
end

-- Scalars of a JSON object as options: { "config.a.b", "text" }.
local function add_config(set, config, prefix)
  local names = {}
  for name in pairs(config) do names[#names + 1] = type(name) == "string" and name or nil end
  table.sort(names)
  for _, name in ipairs(names) do
    local value = config[name]
    if type(value) == "table" then
      add_config(set, value, prefix .. name .. ".")
    else
      table.insert(set, 1, { prefix .. name, tostring(value) }) -- what --set says comes later and wins
    end
  end
end

---@param args table
---@return integer status
function M.run(args)
  local asked = (args.dir and 1 or 0) + (args.load and 1 or 0) + (args.save and 1 or 0)
  if asked ~= 1 then
    return status.usage("plan wants one of: DIR, --load FILE --model MODEL, --save DIR (see: ckpt plan --help)")
  end
  if args.load and not args.model then
    return status.usage("--load needs --model: what should the weights go into? (see: ckpt plan --help)")
  end
  if args.load or args.config then
    local config, message = mapping.config(args.config, args.load or args.dir or "")
    if not config then return status.fail(message, "format") end
    add_config(args.set, config, "config.")
  end
  for _, name in ipairs { "strip", "map" } do
    if args[name] then table.insert(args.set, { name, args[name] }) end
  end
  if args.load or args.dir and args.model then return plan_load.run(args) end
  if args.dir then return plan_run.run_resume(args) end
  args.dir = args.save
  return plan_run.run_save(args)
end

return M
