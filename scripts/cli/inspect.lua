-- inspect.lua: `ckpt inspect FILE`: what is in a checkpoint. Only the file's directory and its pickle are read, unless
-- --digest asks for the tensors' bytes.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local status = require "scripts.cli.status"
local surveys = require "scripts.cli.survey"
local text = require "scripts.cli.text"

local M = { summary = "Show what is in a checkpoint: tensors, values, opaque objects." }

local SHOWN_TENSORS, SHOWN_ENTRIES, SHOWN_OBJECTS = 8, 20, 5
local NAME_COLUMN = 46

---@param command table the argparse command
function M.declare(command)
  command:argument("FILE", "Checkpoint to look at."):target("file")
  command:flag("--json", "One line of JSON.")
  command:flag("--digest", "SHA-256 of each tensor's logical row-major little-endian bytes.")
  command:flag("--all", "List every tensor, not only the first.")
  command:option("--select", "List the tensors whose name fits; `*` is anything, `?` one character."):argname("GLOB")
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

-- Fills in entry.sha256; a tensor without data has none. nil, message, code when bytes cannot be read.
local function digest(entries)
  for _, entry in ipairs(entries) do
    if not entry.tensor:is_meta() then
      local hex, message, code = entry.tensor:sha256()
      if not hex then return nil, ("%s: %s"):format(entry.name, message), code end
      entry.sha256 = hex
    end
  end
  return true
end

-- ---- JSON ----

local FILE_ORDER = { "file", "format", "bytes", "metadata", "tensors", "opaque", "warnings" }
local TENSOR_ORDER = {
  "name", "dtype", "shape", "stride", "storage", "offset", "bytes", "requires_grad", "sha256", "aliases",
}
local OBJECT_ORDER = { "path", "class" }

local function tensor_object(entry, with_digest)
  local t = entry.tensor
  return json.object(TENSOR_ORDER, {
    name = entry.name, dtype = t.dtype, shape = t.shape, stride = t:stride(),
    storage = entry.storage and tostring(entry.storage) or json.null,
    offset = t.offset, bytes = t.nbytes, requires_grad = t.requires_grad,
    sha256 = entry.sha256 or (with_digest and json.null or nil), aliases = entry.aliases,
  })
end

-- What the file says of itself; nil for one that says nothing.
local function metadata_object(cp)
  local fields = {}
  if not cp.metadata then return nil end
  for key, value in pairs(cp.metadata) do fields[key] = value == ckpt.none and json.null or value end
  return json.map(fields)
end

local function print_json(cp, survey, entries, args)
  local tensors, opaque = {}, {}
  for i, entry in ipairs(entries) do tensors[i] = tensor_object(entry, args.digest) end
  for i, entry in ipairs(survey.objects) do
    opaque[i] = json.object(OBJECT_ORDER, { path = entry.name, class = entry.class })
  end
  json.print(json.object(FILE_ORDER, {
    file = args.file, format = cp.format, bytes = cp.bytes, metadata = metadata_object(cp), tensors = tensors,
    opaque = opaque,
    warnings = surveys.warnings(survey),
  }))
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

local function print_summary(cp, survey)
  text.say(("%s  %s, %s, %s"):format(text.printable(cp.path), cp.format:gsub("-", " "), text.size(cp.bytes),
    text.plural(#survey.tensors, "tensor")))
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

local function print_text(cp, survey, entries, args)
  if args.digest then return print_digests(entries) end
  print_summary(cp, survey)
  local shown = (args.all or args.select) and #entries or math.min(#entries, SHOWN_TENSORS)
  if shown > 0 then text.say() end
  print_tensors(entries, shown)
  print_more(entries, shown)
  print_objects(survey.objects)
  if shown > 0 and shown == #survey.tensors then
    text.say(("  next: ckpt plan --load %s --model MODEL"):format(text.shell(args.file)))
  end
  for _, note in ipairs(surveys.notes(survey)) do text.say(text.wrap("note: " .. note, "  ")) end
end

---@param args table
---@return integer status
function M.run(args)
  local cp, survey, ok, message, code
  cp, message, code = ckpt.open(args.file)
  if not cp then return status.fail(message, code, args.file) end
  survey, message, code = surveys.read(cp)
  if not survey then return status.fail(message, code, args.file) end
  local entries = selected(survey, args.select)
  if args.digest then
    ok, message, code = digest(entries)
    if not ok then return status.fail(message, code, args.file) end
  end
  if args.json then print_json(cp, survey, entries, args) else print_text(cp, survey, entries, args) end
  if args.select and #entries == 0 and not args.json then text.say("no tensor's name fits " .. args.select) end
  return status.OK
end

return M
