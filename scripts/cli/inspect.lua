-- inspect.lua: `ckpt inspect FILE`: what is in a checkpoint. Only the file's directory and its pickle are read, unless
-- --digest or --stats ask for the tensors' bytes.

local ckpt = require "ckpt"
local believe = require "scripts.cli.believe"
local json = require "scripts.cli.json"
local progress = require "scripts.cli.progress"
local status = require "scripts.cli.status"
local surveys = require "scripts.cli.survey"
local text = require "scripts.cli.text"
local tree = require "scripts.cli.tree"
local warnings = require "scripts.cli.warnings"

local M = { summary = "Show what is in a checkpoint: tensors, values, opaque objects." }

local SHOWN_TENSORS, SHOWN_ENTRIES, SHOWN_OBJECTS = 8, 20, 5
local NAME_COLUMN, STATS_NAME_COLUMN = 46, 30

local function save_number(word)
  local n = math.tointeger(tonumber(word))
  if n and n >= 1 then return n end
  return nil, ("'%s' is not a number from 1 on"):format(word)
end

---@param command table the argparse command
function M.declare(command)
  command:argument("FILE", "Checkpoint to look at."):target("file")
  command:flag("--json", "One line of JSON.")
  local digest_flag = command:flag("--digest", "SHA-256 of each tensor's logical row-major little-endian bytes.")
  local stats_flag = command:flag("--stats", "Minimum, maximum, mean, std, zeros and non-finite values.")
  local tree_flag = command:flag("--tree", "Everything in it, indented: values, objects with their fields.")
  command:flag("--all", "List every tensor, not only the first.")
  command:option("--select", "List what has a name that fits; `*` is anything, `?` a character."):argname("GLOB")
  command:option("--save", "Which of several saves in one file, from 1."):argname("N"):convert(save_number)
  believe.declare(command)
  command:mutex(digest_flag, stats_flag, tree_flag)
end

-- ---- tensors ----

local function selected(survey, glob)
  if not glob then return survey.tensors end
  local list, fits = {}, text.glob(glob)
  for _, entry in ipairs(survey.tensors) do
    if fits(entry.name) then list[#list + 1] = entry end
  end
  return list
end

local function total_bytes(entries)
  local sum = 0
  for _, entry in ipairs(entries) do sum = sum + entry.tensor.nbytes end
  return sum
end

-- Fills in entry[field] by `read`; a tensor without data has none. nil, message, code when bytes cannot be read.
local function read_each(entries, file, field, read)
  local bar = progress.new("reading " .. file, total_bytes(entries))
  for _, entry in ipairs(entries) do
    local value, message, code
    if not entry.tensor:is_meta() then value, message, code = read(entry.tensor) end
    if message and not (field == "stats" and code == "unsupported") then
      bar:done()
      return nil, ("%s: %s"):format(entry.name, message), code
    end
    entry[field] = value
    bar:step(entry.tensor.nbytes)
  end
  bar:done()
  return true
end

local function sha256(tensor) return tensor:sha256() end
local function stats(tensor) return tensor:stats() end

-- What the options ask of the tensors' bytes.
local function read_bytes(entries, args)
  if args.digest then return read_each(entries, args.file, "sha256", sha256) end
  if args.stats then return read_each(entries, args.file, "stats", stats) end
  return true
end

-- ---- JSON ----

local FILE_ORDER = { "file", "format", "bytes", "saves", "metadata", "tensors", "opaque", "tree", "warnings" }
local TENSOR_ORDER = {
  "name", "dtype", "shape", "stride", "storage", "offset", "bytes", "requires_grad", "sha256", "stats", "aliases",
}
local STATS_ORDER = { "min", "max", "mean", "std", "count", "zeros", "nan", "inf", "nonfinite" }
local OBJECT_ORDER = { "path", "class" }

-- null where there is nothing to tell: no finite values, bytes that are no numbers.
local function stats_object(found)
  if not found then return json.null end
  local fields = {}
  for _, key in ipairs(STATS_ORDER) do fields[key] = found[key] == nil and json.null or found[key] end
  return json.object(STATS_ORDER, fields)
end

local function tensor_object(entry, args)
  local t = entry.tensor
  return json.object(TENSOR_ORDER, {
    name = entry.name, dtype = t.dtype, shape = t.shape, stride = t:stride(),
    storage = entry.storage and tostring(entry.storage) or json.null,
    offset = t.offset, bytes = t.nbytes, requires_grad = t.requires_grad,
    sha256 = entry.sha256 or (args.digest and json.null or nil), aliases = entry.aliases,
    stats = args.stats and stats_object(entry.stats) or nil,
  })
end

-- What a file says of itself beside its tensors, as it says it.
local function metadata_object(metadata)
  if not metadata then return nil end
  local fields = {}
  for key, value in pairs(metadata) do
    local plain = type(value) ~= "userdata" and value or value == ckpt.none and json.null or tostring(value)
    fields[tostring(key)] = plain
  end
  return json.map(fields)
end

local function print_json(cp, survey, entries, args)
  local tensors, opaque, list = {}, {}, nil
  if args.tree then
    local message, code
    list, message, code = tree.list(cp, args.select and text.glob(args.select))
    if not list then return nil, message, code end
  end
  for i, entry in ipairs(entries) do tensors[i] = tensor_object(entry, args) end
  for i, entry in ipairs(survey.objects) do
    opaque[i] = json.object(OBJECT_ORDER, { path = entry.name, class = entry.class })
  end
  json.print(json.object(FILE_ORDER, {
    file = args.file, format = cp.format, bytes = cp.bytes, saves = cp.saves > 1 and cp.saves or nil, tensors = tensors,
    opaque = opaque, metadata = metadata_object(cp.metadata), tree = list, warnings = warnings.list(cp, survey),
  }))
  return true
end

-- ---- the summary ----

local SCALARS = { int = true, float = true, bool = true, str = true, None = true }
local CONTAINERS = { dict = true, list = true, tuple = true, set = true, frozenset = true }

-- "config, epoch=600, ...": the first entries of a container without tensors.
local function sample(value, kind)
  local words, is_dict = {}, kind == "dict" or kind == "object"
  for key, item in pairs(value) do
    if #words == 8 then break end
    local scalar = SCALARS[ckpt.type(item)]
    local name = text.printable(tostring(key))
    if not is_dict then
      words[#words + 1] = scalar and text.value(item) or ckpt.type(item)
    else
      words[#words + 1] = scalar and name .. "=" .. text.value(item) or name
    end
  end
  return table.concat(words, ", ")
end

-- "lr=1e-06 momentum=0.9", of the first group.
local function hyperparameters(groups)
  local words, first = {}, #groups > 0 and ckpt.type(groups) == "list" and groups[1]
  for _, key in ipairs { "lr", "momentum", "betas", "weight_decay" } do
    local value = first and ckpt.type(first) == "dict" and first[key]
    if math.type(value) then words[#words + 1] = key .. "=" .. text.value(value) end
  end
  return table.concat(words, " ")
end

local function is_optimizer(entry)
  return entry.kind == "dict" and entry.value.state ~= nil and ckpt.type(entry.value.param_groups) == "list"
end

local function dtype_sizes(sum)
  local words = {}
  for i, dtype in ipairs(sum.dtypes) do words[i] = dtype .. " " .. text.size(sum.by_dtype[dtype]) end
  return table.concat(words, ", ")
end

local function count_of(entry) return CONTAINERS[entry.kind] and text.plural(#entry.value, "value") or "" end

local function detail_of(entry)
  if SCALARS[entry.kind] then return text.value(entry.value) end
  if entry.kind == "object" then return text.printable(ckpt.object(entry.value).class or "?") end
  return CONTAINERS[entry.kind] and sample(entry.value, entry.kind) or ""
end

local function entry_row(entry, sum)
  local name = text.printable(entry.name)
  if is_optimizer(entry) then
    local groups = entry.value.param_groups
    return { name, "optimizer", text.plural(sum and sum.tensors or 0, "tensor"),
             ("%s  %s"):format(text.plural(#groups, "group"), hyperparameters(groups)) }
  end
  if sum then
    return { name, entry.kind, text.plural(sum.tensors, "tensor"),
             ("%s values  %s"):format(text.count(sum.numel), dtype_sizes(sum)) }
  end
  return { name, entry.kind, count_of(entry), detail_of(entry) }
end

local function summary_rows(survey)
  local rows, own = {}, survey.sums[""]
  if own then
    rows[1] = { "(top level)", survey.kind, text.plural(own.tensors, "tensor"),
                ("%s values  %s"):format(text.count(own.numel), dtype_sizes(own)) }
  end
  if not own and #survey.entries == 0 then
    rows[1] = entry_row { name = "(top level)", kind = survey.kind, value = survey.root }
  end
  for i, entry in ipairs(survey.entries) do
    if i > SHOWN_ENTRIES then break end
    rows[#rows + 1] = entry_row(entry, survey.sums[entry.name])
  end
  return rows
end

local function heading(cp, survey)
  local format = cp.format:gsub("-", " ")
  return ("%s  %s, %s, %s"):format(text.printable(cp.path), format, text.size(cp.bytes),
    text.plural(#survey.tensors, "tensor"))
end

local function print_summary(cp, survey)
  text.say(heading(cp, survey))
  for _, line in ipairs(text.columns(summary_rows(survey), nil, "  ", NAME_COLUMN)) do
    text.say(text.fit(line, text.WIDTH))
  end
  local more = #survey.entries - SHOWN_ENTRIES
  if more > 0 then text.say(("  ... %d more entries"):format(more)) end
end

-- ---- the tensors ----

local function print_digests(entries)
  for _, entry in ipairs(entries) do
    text.say(("%-64s  %s"):format(entry.sha256 or "(no data)", text.printable(entry.name)))
  end
end

local function print_tensors(entries, shown)
  local rows = {}
  for i = 1, shown do
    local t = entries[i].tensor
    rows[i] = { text.printable(entries[i].name), t.dtype, text.shape(t.shape), text.size(t.nbytes) }
  end
  text.print_columns(rows, { [4] = true }, "  ", NAME_COLUMN)
end

-- "... 204 more": and how to see them.
local function print_more(entries, shown)
  if shown == #entries then return end
  local head = entries[shown + 1].name:match("^[^.]+%.?[^.]*%.")
  text.say(("  ... %d more: --all%s"):format(#entries - shown,
    head and (", or --select %s"):format(text.shell(head .. "*")) or ""))
end

local function print_objects(objects)
  local rows = {}
  for i = 1, math.min(#objects, SHOWN_OBJECTS) do
    rows[i] = { text.printable(objects[i].name), text.printable(objects[i].class) }
  end
  text.print_columns(rows, nil, "  opaque  ", NAME_COLUMN)
  if #objects > SHOWN_OBJECTS then text.say(("  opaque  ... %d more (--json)"):format(#objects - SHOWN_OBJECTS)) end
end

local function number(x) return x and (x ~= x and "nan" or ("%.3g"):format(x)) or "-" end

local function print_stats(entries)
  local rows = { { "", "min", "max", "mean", "std", "zeros", "not finite" } }
  for i, entry in ipairs(entries) do
    local s, name = entry.stats, text.printable(entry.name)
    rows[i + 1] = s and { name, number(s.min), number(s.max), number(s.mean), number(s.std), tostring(s.zeros),
                          tostring(s.nonfinite) } or { name, entry.tensor:is_meta() and "(no data)" or "(no numbers)" }
  end
  text.print_columns(rows, { false, true, true, true, true, true, true }, "  ", STATS_NAME_COLUMN)
end

local function print_listing(survey, entries, args)
  local shown = (args.all or args.select) and #entries or math.min(#entries, SHOWN_TENSORS)
  if shown > 0 then text.say() end
  print_tensors(entries, shown)
  print_more(entries, shown)
  print_objects(survey.objects)
  if shown > 0 and shown == #survey.tensors then
    text.say(("  next: ckpt plan --load %s --model MODEL"):format(text.shell(args.file)))
  end
  if args.select and #entries == 0 then text.say("no tensor's name fits " .. text.printable(args.select)) end
end

local function print_notes(list)
  for _, note in ipairs(list) do text.say(text.wrap("note: " .. note, "  ")) end
end

local function print_text(cp, survey, entries, args)
  if args.digest then
    print_digests(entries)
    return true
  end
  if args.tree then
    text.say(heading(cp, survey))
    local ok, message, code = tree.print(cp, args.all, args.select and text.glob(args.select))
    if not ok then return nil, message, code end
  elseif args.stats then
    text.say(heading(cp, survey))
    print_stats(entries)
  else
    print_summary(cp, survey)
    print_listing(survey, entries, args)
    print_notes(surveys.notes(survey))
  end
  print_notes(warnings.list(cp, survey))
  return true
end

---@param args table
---@return integer status
function M.run(args)
  local cp, survey, ok, message, code
  cp, message, code = ckpt.open(args.file, believe.options(args, { save = args.save }))
  if not cp then return status.fail(message, code, args.file) end
  survey, message, code = surveys.read(cp)
  if not survey then return status.fail(message, code, args.file) end
  local entries = selected(survey, args.select)
  ok, message, code = read_bytes(entries, args)
  if not ok then return status.fail(message, code, args.file) end
  ok, message, code = (args.json and print_json or print_text)(cp, survey, entries, args)
  return ok and status.OK or status.fail(message, code, args.file)
end

return M
