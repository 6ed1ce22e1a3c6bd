-- diff.lua: `ckpt diff A B`: what two checkpoints differ in, tensor by tensor and value by value. Both are mapped and
-- compared block by block; neither is read into memory.

local ckpt = require "ckpt"
local believe = require "scripts.cli.believe"
local difference = require "scripts.cli.difference"
local json = require "scripts.cli.json"
local map_options = require "scripts.cli.map_options"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Compare two checkpoints: keys, shapes, dtypes, values, plain values." }

local SHOWN = 10 -- lines of one kind
local NAME_COLUMN, VALUE_WIDTH = 36, 22

local function tolerance(word)
  local value = tonumber(word)
  if value and value >= 0 then return value end
  return nil, ("'%s' is not a number of 0 or more"):format(word)
end

---@param command table the argparse command
function M.declare(command)
  command:argument("A", "Checkpoint."):target("a")
  command:argument("B", "Checkpoint to compare it with."):target("b")
  command:option("--tolerance", "Values may differ by X.", "0"):argname("X"):convert(tolerance)
  command:option("--rtol", "And by X of the larger of both.", "0"):argname("X"):convert(tolerance)
  command:option("--select", "Only paths that fit; `*` is anything, `?` a character."):argname("GLOB")
  map_options.declare(command)
  command:flag("--ignore-dtype", "Compare values only: float32 1 is float16 1."):target("any_dtype")
  command:flag("--layout", "Strides and requires_grad too.")
  command:flag("--order", "The order of the tensors too.")
  command:flag("--nan-differs", "A NaN differs from a NaN in the same place."):target("nan_differs")
  command:flag("--all", "Show every difference, not only the first.")
  believe.declare(command)
  command:flag("--json", "One line of JSON.")
  command:epilog("With --map: the state dict of A as the rules make it, against that of B. "
    .. "Exit status: 0 the same, 1 different, 2 bad usage, 3 bad file.")
end

-- ---- JSON ----

local ORDER = { "a", "b", "same", "compared", "same_tensors", "missing", "extra", "shapes", "dtypes", "quantization",
                "layouts", "values", "plain", "plain_compared", "order" }
local PAIR_ORDER = { "name", "a", "b" }
local LAYOUT_ORDER = { "stride", "requires_grad" }
local VALUE_ORDER = { "name", "differing", "beyond", "unordered", "of", "first", "max_abs", "max_rel", "why" }
local PLACE_ORDER = { "place", "a", "b" }
local SCALARS = { int = true, float = true, bool = true, str = true }

local function plain_json(entry)
  if not entry then return nil end
  if entry.kind == "None" then return json.null end
  if SCALARS[entry.kind] and type(entry.value) ~= "userdata" then return entry.value end
  return difference.text(entry)
end

local function map(list, f)
  local out = {}
  for i, item in ipairs(list) do out[i] = f(item) end
  return out
end

local function name_of(item) return item.name end

local function pair(item) return json.object(PAIR_ORDER, { name = item.name, a = item.a, b = item.b }) end

local function why_not(result)
  return result.incomparable or (result.no_data and "one of them has no data") or nil
end

local function value_object(item)
  local r = item.result
  return json.object(VALUE_ORDER, {
    name = item.name, differing = r.differing, beyond = r.differing and r.beyond, unordered = r.unordered,
    of = item.count, first = r.first and r.first - 1, max_abs = r.max_abs, max_rel = r.max_rel, why = why_not(r),
  })
end

local function layout_object(layout) return json.object(LAYOUT_ORDER, layout) end

local function print_json(args, report)
  json.print(json.object(ORDER, {
    a = args.a, b = args.b, same = report.same, compared = report.tensors, same_tensors = report.same_tensors,
    missing = map(report.missing, name_of), extra = map(report.extra, name_of),
    shapes = map(report.shapes, pair), dtypes = map(report.dtypes, pair),
    quantization = map(report.quantization, pair),
    layouts = map(report.layouts, function(item)
      return pair { name = item.name, a = layout_object(item.a), b = layout_object(item.b) }
    end),
    values = map(report.values, value_object),
    plain = map(report.plain, function(item)
      return pair { name = item.name, a = plain_json(item.a), b = plain_json(item.b) }
    end),
    plain_compared = report.plain_compared,
    order = report.order and json.object(PLACE_ORDER, report.order),
  }))
end

-- ---- text ----

local function print_some(rows, all, right)
  local shown = all and #rows or math.min(#rows, SHOWN)
  text.print_columns(table.move(rows, 1, shown, 1, {}), right, "  ", NAME_COLUMN)
  if shown < #rows then text.say(("  ... %d more: --all"):format(#rows - shown)) end
end

local function label(name) return text.printable(name == "" and "(top level)" or name) end

local function number(x) return x == 0 and "0" or ("%.3g"):format(x) end

local function change(a, b) return a .. " -> " .. b end

local function value_row(item)
  local r, name = item.result, label(item.name)
  local why = why_not(r)
  if why then return { "values", name, why } end
  local words = ("abs %-8s  rel %s"):format(number(r.max_abs), number(r.max_rel))
  if r.unordered > 0 then words = words .. ("  NaN %d"):format(r.unordered) end
  return { "values", name, ("%d/%d"):format(r.beyond, item.count), words }
end

local function layout_text(layout)
  return ("(%s)%s"):format(table.concat(layout.stride, ", "), layout.requires_grad and " grad" or "")
end

local function entry_text(entry)
  if entry.kind == "tensor" then return ("tensor %s %s"):format(entry.value.dtype, text.shape(entry.value.shape)) end
  if entry.opaque then return text.fit(text.printable(entry.class), 2 * VALUE_WIDTH) end
  if entry.kind == "set" or entry.kind == "frozenset" then
    return text.fit(text.printable(difference.text(entry)), VALUE_WIDTH)
  end
  return text.value(entry.value, VALUE_WIDTH)
end

-- Two values of one kind; long strings are cut to where they part.
local function plain_change(a, b)
  if a.kind == "str" then return change(text.around(a.value, b.value, VALUE_WIDTH)) end
  local x, y = entry_text(a), entry_text(b)
  if x == y and x ~= "nan" and a.kind == "float" then x, y = ("%.17g"):format(a.value), ("%.17g"):format(b.value) end
  return change(x, y)
end

local function kind_text(entry)
  if entry.kind == "tensor" or entry.kind == "None" or entry.opaque then return entry_text(entry) end
  return entry.kind .. " " .. entry_text(entry)
end

local function plain_row(item)
  local name = label(item.name)
  if not item.b then return { "only in A", name, entry_text(item.a) } end
  if not item.a then return { "only in B", name, entry_text(item.b) } end
  if item.a.kind ~= item.b.kind then return { "value", name, change(kind_text(item.a), kind_text(item.b)) } end
  return { "value", name, plain_change(item.a, item.b) }
end

local function pair_rows(list, kind, show)
  return map(list, function(item) return { kind, label(item.name), change(show(item.a), show(item.b)) } end)
end

local function key_rows(list, side)
  return map(list, function(item)
    return { side, label(item.name), ("%-8s %s"):format(item.tensor.dtype, text.shape(item.tensor.shape)) }
  end)
end

local function itself(word) return word end

local function counted(list, word) return #list > 0 and ("%d %s"):format(#list, word) or nil end

local function is_empty(report)
  return report.same and report.tensors == 0 and report.plain_compared == 0
end

local function summary(report, glob)
  if glob and is_empty(report) then return "the same: no path fits " .. text.printable(glob) end
  local words, values = {}, text.plural(report.plain_compared, "plain value")
  local tensors = text.plural(report.tensors, "tensor")
  if report.same then return ("the same: %s, %s"):format(tensors, values) end
  for _, row in ipairs { { report.missing, "only in A" }, { report.extra, "only in B" } } do
    words[#words + 1] = counted(row[1], row[2])
  end
  local differ = report.tensors - report.same_tensors
  if differ > 0 then words[#words + 1] = ("%d of %s"):format(differ, tensors) end
  words[#words + 1] = #report.plain > 0 and text.plural(#report.plain, "plain value") or nil
  if report.order then words[#words + 1] = "the order" end
  return "different: " .. table.concat(words, ", ")
end

local function print_text(args, report)
  print_some(key_rows(report.missing, "only in A"), args.all)
  print_some(key_rows(report.extra, "only in B"), args.all)
  print_some(pair_rows(report.shapes, "shape", text.shape), args.all)
  print_some(pair_rows(report.dtypes, "dtype", itself), args.all)
  print_some(pair_rows(report.quantization, "scale", itself), args.all)
  print_some(pair_rows(report.layouts, "layout", layout_text), args.all)
  print_some(map(report.values, value_row), args.all, { [3] = true })
  print_some(map(report.plain, plain_row), args.all)
  if report.order then
    text.say(("  order      tensor %d is %s in A, %s in B"):format(report.order.place, label(report.order.a),
      label(report.order.b)))
  end
  text.say(summary(report, args.select))
end

-- ---- the command ----

local function options_of(args)
  return {
    select = args.select and text.glob(args.select), layout = args.layout, order = args.order,
    any_dtype = args.any_dtype,
    tolerance = { atol = args.tolerance, rtol = args.rtol, equal_nan = not args.nan_differs },
  }
end

---@param args table
---@return integer status
function M.run(args)
  local a, b, report, message, code, side
  a, message, code = ckpt.open(args.a, believe.options(args))
  if not a then return status.fail(message, code, args.a) end
  b, message, code = ckpt.open(args.b, believe.options(args))
  if not b then return status.fail(message, code, args.b) end
  if args.map then
    a, b, code = map_options.sides(a, b, args)
    if not a then return map_options.tell(b, code, args.a) end
  end
  local options = options_of(args)
  options.metadata = a.metadata ~= nil and b.metadata ~= nil
  report, message, code, side = difference.find(a, b, options)
  if not report then return status.fail(message, code, args[side]) end
  if args.json then print_json(args, report) else print_text(args, report) end
  return report.same and status.OK or status.FAILED
end

return M
