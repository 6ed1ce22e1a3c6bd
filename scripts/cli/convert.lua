-- convert.lua: `ckpt convert IN OUT`: a checkpoint in a file that we wrote: whole, or the part, the dtypes and the
-- format that are asked for. `ckpt convert IN... --out-dir DIR` does the same to many files: batch.lua.
--
-- IN is verified first: the new file's checksums must not vouch for bytes that the old ones had given up. OUT may be
-- IN; it is replaced as a whole, or left as it was. What OUT's format has no place for is an error that names it, until
-- it is dropped by name or by --tensors-only, --drop-unsupported, --sanitize; what is dropped is told.

local batch = require "scripts.cli.batch"
local casting = require "scripts.cli.casting"
local ckpt = require "ckpt"
local believe = require "scripts.cli.believe"
local drop = require "scripts.cli.drop"
local json = require "scripts.cli.json"
local map_options = require "scripts.cli.map_options"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Write a checkpoint anew: whole or in part, in another format or dtype." }

-- ---- options ----

local SUFFIXES = { safetensors = "safetensors", pth = "pth", pt = "pth", th = "pth", bin = "pth", ckpt = "pth" }
local UNITS = { [""] = 1, B = 1, KB = 1000, MB = 1000 ^ 2, GB = 1000 ^ 3, TB = 1000 ^ 4,
                KIB = 1 << 10, MIB = 1 << 20, GIB = 1 << 30, TIB = 1 << 40 }

local function size(word)
  local number, unit = word:match("^([%d.]+)%s*(%a*)$")
  local bytes = tonumber(number) and UNITS[unit:upper()] and math.tointeger(tonumber(number) * UNITS[unit:upper()] // 1)
  if bytes and bytes > 0 then return bytes end
  return nil, ("'%s' is not a size, such as 500MB or 5GB"):format(word)
end

local function floating(word)
  if casting.FLOATING[word] then return word end
  return nil, ("'%s' is not a floating dtype, such as float16 or bfloat16"):format(word)
end

local function dtype_pair(word)
  local from, to = word:match("^([^=]+)=(.+)$")
  if from and casting.is_dtype(from) and casting.is_dtype(to) then return { from, to } end
  return nil, ("'%s' is not of the form dtype=dtype"):format(word)
end

local function save_number(word)
  local n = math.tointeger(tonumber(word))
  if n and n >= 1 then return n end
  return nil, ("'%s' is not a number from 1 on"):format(word)
end

local USAGE = [[
Usage: ckpt convert [OPTIONS] IN OUT
       ckpt convert [OPTIONS] IN... --out-dir DIR]]

---@param command table the argparse command
function M.declare(command)
  command:usage(USAGE):epilog(batch.HELP)
  command:argument("IN", "Checkpoint to read, then OUT, the file to write; with --out-dir any number of INs.")
    :args("+"):target("inputs")
  command:option("--format", "Of OUT; else its suffix says it."):choices { "pth", "safetensors" }
  command:option("--select", "One subtree, such as model; or tensors whose name fits GLOB."):argname("PATH|GLOB")
    :count("*")
  command:option("--drop", "Leave out what has a path that fits."):argname("GLOB"):count("*")
  command:flag("--tensors-only", "Leave out plain values and objects; tensors by name."):target("tensors_only")
  command:flag("--drop-unsupported", "Leave out tensors that OUT's format has no place for."):target("drop_unsupported")
  command:option("--dtype", "Cast floating tensors: float16, bfloat16, ..."):argname("D"):convert(floating)
  command:option("--dtype-map", "Cast tensors of one dtype: int64=int32."):argname("A=B"):count("*")
    :convert(dtype_pair):target("dtype_map")
  command:flag("--sanitize", "Leave out objects that weights_only refuses; numpy as tensors.")
  command:option("--for", "PyTorch whose weights_only is to take OUT.", "2.6"):choices { "2.6", "1.13" }
    :target("profile")
  command:option("--shard-size", "At most so many bytes in a file, with an index: 5GB."):argname("SIZE"):convert(size)
    :target("shard_size")
  command:option("--metadata", "For a safetensors file or an index."):argname("KEY=VALUE"):count("*")
    :convert(run_dir.pair)
  command:option("--save", "Which of several saves in IN, from 1."):argname("N"):convert(save_number)
  believe.declare(command)
  map_options.declare(command)
  map_options.declare_roundtrip(command)
  command:flag("--json", "One line of JSON for each file.")
  batch.declare(command, size)
end

local function format_of(args)
  if args.format then return args.format end
  local suffix = args.output:match("%.([%w]+)$")
  return suffix and SUFFIXES[suffix:lower()]
end

-- ---- what is written ----

local function any_glob(globs)
  local list = {}
  for i, glob in ipairs(globs) do list[i] = text.glob(glob) end
  return function(name)
    for _, fits in ipairs(list) do
      if fits(name) then return true end
    end
    return false
  end
end

local function is_container(value)
  local kind = value ~= nil and ckpt.type(value)
  return kind == "dict" or kind == "object" or kind == "list" or kind == "tuple"
end

-- Tensors by their names; each name of a tensor that has several is asked.
local function select_tensors(cp, globs)
  local fits, pairs_of = any_glob(globs), {}
  local tensors, message, code = cp:list()
  if not tensors then return nil, message, code end
  local function add(name, tensor)
    if not fits(name) then return end
    local whole = cp:at(name)
    pairs_of[#pairs_of + 1] = { name, whole ~= nil and ckpt.type(whole) == "tensor" and whole or tensor }
  end
  for _, entry in ipairs(tensors) do
    add(entry.name, entry.tensor)
    for _, alias in ipairs(entry.aliases) do add(alias, entry.tensor) end
  end
  if #pairs_of == 0 then return nil, "nothing in it fits " .. table.concat(globs, " or "), "argument" end
  return ckpt.items(pairs_of)
end

-- The checkpoint itself, a part of it, or a dict of tensors.
local function select(cp, globs)
  if #globs == 0 then return cp end
  local value = #globs == 1 and cp:at(globs[1])
  if is_container(value) then return value end
  return select_tensors(cp, globs)
end

---@class convert.Job
---@field value any what to save
---@field dropped string[]
---@field changed table[] as ckpt.sanitize tells it
---@field cast casting.Report?
---@field mapped mapping.Report?

local function sanitize(job, profile)
  local value, changes, code = ckpt.sanitize(job.value, profile)
  if value == nil then return nil, changes, code end
  job.value, job.changed = value, {}
  for _, change in ipairs(changes) do
    if change.what == "dropped" then
      table.insert(job.dropped, change.name)
    else
      table.insert(job.changed, change)
    end
  end
  return true
end

local function cast(job, args)
  local map = {}
  for _, item in ipairs(args.dtype_map) do map[item[1]] = item[2] end
  local value, report, code = casting.cast(job.value, args.dtype, map)
  if value == nil then return nil, report, code end
  job.value, job.cast = value, report
  return true
end

---@return convert.Job?, string? message, string? code
local function prepare(cp, args)
  local job, ok, message, code = { dropped = {}, changed = {} }, true
  if #args.drop > 0 then
    job.dropped, message, code = drop.take(cp, any_glob(args.drop))
    if not job.dropped then return nil, message, code end
    if #job.dropped == 0 then return nil, "nothing in it fits " .. table.concat(args.drop, " or "), "argument" end
  end
  if args.map then
    job.value, job.mapped, code = map_options.apply(cp, args, args.input, format_of(args))
    message = job.mapped
  else
    job.value, message, code = select(cp, args.select)
  end
  if job.value == nil then return nil, message, code end
  if args.sanitize then ok, message, code = sanitize(job, args.profile) end
  if ok and (args.dtype or #args.dtype_map > 0) then ok, message, code = cast(job, args) end
  if not ok then return nil, message, code end
  return job
end

-- What IN says of itself goes along where OUT can say it; names of tied tensors are said anew.
local function metadata_of(cp, job, args, format)
  local metadata, n = {}, 0
  for key, value in pairs(format == "safetensors" and cp.metadata or {}) do
    if type(key) == "string" and type(value) == "string" and key ~= "total_size" and cp:at(key) == nil then
      metadata[key], n = value, n + 1
    end
  end
  for _, item in ipairs(args.metadata) do metadata[item[1]], n = item[2], n + 1 end
  for key, value in pairs(format == "safetensors" and job.mapped and job.mapped.metadata or {}) do
    metadata[key], n = value, n + 1
  end
  return n > 0 and metadata or nil
end

local function save(cp, job, args, format)
  local report, message, code = ckpt.save(args.output, job.value, {
    format = format, tensors_only = args.tensors_only or nil, shard_size = args.shard_size,
    drop_unsupported = args.drop_unsupported or nil, metadata = metadata_of(cp, job, args, format),
  })
  if not report then return nil, message, code end
  for _, name in ipairs(report.dropped) do table.insert(job.dropped, name) end
  if format == "pth" and cp.metadata and job.value ~= cp then table.insert(job.dropped, "__metadata__") end
  return report
end

-- ---- telling ----

local ORDER = { "status", "in", "out", "from", "format", "files", "tensors", "bytes", "dropped", "changed", "cast",
                "overflow", "tied", "copied", "map" }
local CHANGE_ORDER = { "name", "class", "into" }
local TIE_ORDER = { "name", "kept" }

local function objects(order, list)
  local out = {}
  for i, item in ipairs(list) do
    local fields = {}
    for _, key in ipairs(order) do fields[key] = item[key] end
    out[i] = json.object(order, fields)
  end
  return out
end

local function copied_names(job, report)
  return table.move(report.copied, 1, #report.copied, #(job.cast and job.cast.untied or {}) + 1,
    job.cast and job.cast.untied or {})
end

---What was done, for JSON.
---@param args table
---@param outcome convert.Outcome
---@return table
function M.fields(args, outcome)
  local job, report, written = outcome.job, outcome.report, outcome.written
  return json.object(ORDER, {
    ["in"] = args.input, out = args.output, from = written.from, format = written.format, files = report.files,
    tensors = written.tensors, bytes = written.bytes, dropped = job.dropped,
    changed = objects(CHANGE_ORDER, job.changed), cast = json.map(job.cast and job.cast.counts or {}),
    overflow = job.cast and job.cast.overflow or {}, tied = objects(TIE_ORDER, report.tied),
    copied = copied_names(job, report), map = job.mapped and map_options.json(job.mapped),
  })
end

local SHOWN = 5

local function say_list(word, names)
  if #names > 0 then text.say(text.wrap(("%s: %s"):format(word, text.some(names, SHOWN)), "    ", "  ")) end
end

local function print_text(args, outcome)
  local job, report, written = outcome.job, outcome.report, outcome.written
  text.say(("%s -> %s: %s, %s"):format(text.printable(args.input), text.printable(args.output),
    text.plural(written.tensors, "tensor"), text.size(written.bytes)))
  local files = report.files
  if #files > 1 then text.say(("  %d files, opened by %s"):format(#files, text.printable(files[#files]))) end
  local ties, changes, casts = {}, {}, {}
  for i, tie in ipairs(report.tied) do ties[i] = tie.name .. " = " .. tie.kept end
  for i, change in ipairs(job.changed) do
    changes[i] = ("%s (%s to %s)"):format(change.name, change.class, change.into or "a plain value")
  end
  for i, word in ipairs(job.cast and job.cast.order or {}) do casts[i] = job.cast.counts[word] .. " " .. word end
  if job.mapped then map_options.say(job.mapped) end
  say_list("dropped", job.dropped)
  say_list("changed", changes)
  say_list("cast", casts)
  say_list("tied, written once", ties)
  say_list("no longer shared", copied_names(job, report))
  say_list("note: values too large for the dtype in", job.cast and job.cast.overflow or {})
end

-- The new file as it opens: what it is, and how much.
local function look_at(args, report)
  local dir = args.output:match("^(.*/)[^/]*$") or ""
  local cp, message, code = ckpt.open(dir .. report.files[#report.files])
  if not cp then return nil, message, code end
  local tensors
  tensors, message, code = cp:list()
  if not tensors then return nil, message, code end
  return { format = cp.format, tensors = #tensors, bytes = cp.bytes }
end

-- ---- the command ----

-- The library's options are not the command's.
local function fail(message, code, args)
  if code ~= "unsupported" then return nil, message, code, args.output end
  message = message:gsub("; tensors_only drops them", " (--tensors-only or --drop GLOB leaves them out)")
  message = message:gsub("; drop_unsupported leaves them out", " (--drop-unsupported or --drop GLOB leaves them out)")
  return nil, message, code, args.input
end

---What can be said before a file is looked at.
---@param args table with `output`
---@return string? format nil, message if it is not known
---@return string? message
function M.check(args)
  local format = format_of(args)
  if not format then return nil, ("%s: what format is it? --format pth or --format safetensors"):format(args.output) end
  if format == "pth" and #args.metadata > 0 and not args.shard_size then
    return nil, "a .pth file has no place for --metadata"
  end
  return format
end

---@class convert.Outcome
---@field job convert.Job
---@field report table of ckpt.save
---@field written table what the new file is

---Converts args.input into args.output.
---@param args table
---@return convert.Outcome? nil, message, code, file: the one that the message is about
---@return string|ckpt.rules.Problem[]|nil message
---@return string? code
---@return string? file
function M.perform(args)
  local cp, job, report, written, message, code
  local format = format_of(args)
  cp, message, code = ckpt.open(args.input, believe.options(args, { verify = true, save = args.save }))
  if not cp then return nil, message, code, args.input end
  if cp.saves > 1 and not args.save then
    return nil, ("%s holds %d saves: choose one with --save N"):format(args.input, cp.saves), "argument", args.input
  end
  job, message, code = prepare(cp, args)
  if not job then return nil, message, code, args.input end
  report, message, code = save(cp, job, args, format)
  if not report then return fail(message, code, args) end
  written, message, code = look_at(args, report)
  if not written then return nil, message, code, args.output end
  written.from = cp.format
  return { job = job, report = report, written = written }
end

local function take_output(args)
  if #args.inputs == 1 then return nil, "missing argument 'OUT' (see: ckpt convert --help)" end
  if #args.inputs > 2 then return nil, "several inputs want --out-dir DIR (see: ckpt convert --help)" end
  args.input, args.output = args.inputs[1], args.inputs[2]
  return M.check(args)
end

---@param args table
---@param host table
---@return integer status
function M.run(args, host)
  if args.out_dir then return batch.run(args, host, M) end
  local format, message = take_output(args)
  if not format then return status.usage(message) end
  local outcome, code, file
  outcome, message, code, file = M.perform(args)
  if not outcome then return map_options.tell(message, code, file) end
  if args.json then json.print(M.fields(args, outcome)) else print_text(args, outcome) end
  return status.OK
end

return M
