-- compile.lua: a rule set as it was written -> stages of rules that can be matched, with every mistake found on the
-- way.
--
-- A stage holds `rules` in order and `matchers`: one for each pattern of each rule, in the same order. Matchers of
-- one whole key are found by a table; the others by the skeleton of a key (see plan.lua).
local arith = require "policies.rules.arith"
local include = require "policies.rules.include"
local ops = require "policies.rules.ops"
local pattern = require "policies.rules.pattern"
local words = require "policies.rules.words"

local M = {}

local function names(list)
  local known = {}
  for word in list:gmatch("%S+") do known[word] = true end
  return known
end

local SET = names [[id version about from to include detect select peel vars lookup stages table rename exact align
  expect mark first_conv]]
local RULE = names [[id about to op when drop keep sub seg tail pass map any gather order over sizes emit make tie
  optional required target lossy inverse]]
local PARTS = {
  detect = names "keys any none nkeys shapes", align = names "mode boundary unique shape fanout",
  expect = names "n_out fired forbid missing unused", var = names "config option dim count default",
}

-- ---- problems ----

---@class ckpt.rules.Problem
---@field rule string? id of the rule; nil: of the set as a whole
---@field file string?
---@field line integer?
---@field message string
---@field key string? the key in question

local function report(c, rule, format, ...)
  local where = rule or { file = c.file }
  table.insert(c.problems, { rule = where.id, file = where.file, line = where.line, message = format:format(...) })
  return nil
end

local function check_fields(c, rule, value, known, what)
  local wrong = {}
  for key in pairs(value) do
    if type(key) == "string" and not known[key] then wrong[#wrong + 1] = key end
  end
  table.sort(wrong)
  for _, key in ipairs(wrong) do report(c, rule, "%s has no field '%s'%s", what, key, words.suggest(key, known)) end
end

-- Compiles, or reports; nil for nil.
local function compile_pattern(c, rule, text)
  local p, why = pattern.compile(text)
  if not p then report(c, rule, "%s", why) end
  return p
end

local function compile_list(c, rule, list, what)
  local out = {}
  if list ~= nil and type(list) ~= "table" then return report(c, rule, "%s is a list of patterns", what) end
  for i, text in ipairs(list or {}) do out[i] = compile_pattern(c, rule, text) end
  return out
end

-- ---- conditions ----

local function compile_condition(c, rule, name, value)
  if type(value) ~= "table" then return { equal = value } end
  if value.one_of ~= nil then
    local set = {}
    for _, item in ipairs(type(value.one_of) == "table" and value.one_of or {}) do set[item] = true end
    if next(set) == nil then report(c, rule, "when.%s.one_of is a list", name) end
    return { set = set, list = value.one_of }
  end
  if math.type(value[1]) == "integer" and math.type(value[2]) == "integer" and #value == 2 then
    return { low = value[1], high = value[2] }
  end
  return report(c, rule, "when.%s is a value, a range { low, high } or { one_of = { ... } }", name)
end

local function has_capture(rule, name)
  for _, p in ipairs(rule.patterns) do
    if p.by_name[name] or (math.type(name) == "integer" and (p.lua or p.captures[name])) then return true end
  end
  return false
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  return keys
end

local function compile_when(c, rule, when)
  if when == nil then return nil end
  if type(when) == "function" then return { call = when } end
  if when == false or when == true then return { off = not when } end
  if type(when) ~= "table" then return report(c, rule, "when is a table, a function, true or false") end
  local out = { captures = {}, ndim = when.ndim, dtype = when.dtype, var = when.var }
  for _, name in ipairs(sorted_keys(when)) do
    if name == "var" then
      for _, var in ipairs(type(when.var) == "table" and sorted_keys(when.var) or {}) do
        if not c.vars[var] then report(c, rule, "when.var: there is no variable '%s'", tostring(var)) end
      end
      if type(when.var) ~= "table" then report(c, rule, "when.var is a table of variables") end
    elseif name ~= "ndim" and name ~= "dtype" then
      if not has_capture(rule, name) then report(c, rule, "when: the pattern has no capture '%s'", tostring(name)) end
      table.insert(out.captures, { name = name, test = compile_condition(c, rule, name, when[name]) })
    end
  end
  return out
end

-- ---- templates, operations ----

-- What a template or an operation may name beside captures.
local function known_names(c)
  return function(name, use)
    if use == "lookup" then return c.lookup[name] ~= nil end
    return use ~= "rank" and c.vars[name] ~= nil
  end
end

local function compile_template(c, rule, text, p)
  local t, why = pattern.template(text)
  if not t then return report(c, rule, "%s", why) end
  why = pattern.check(t, p, known_names(c))
  if why then report(c, rule, "%s", why) end
  return t
end

local function compile_templates(c, rule, to)
  local p = rule.patterns[1]
  if to == nil then return nil end
  local list = {}
  for i, text in ipairs(type(to) == "table" and to or { to }) do
    list[i] = compile_template(c, rule, text, p) or pattern.literal_template "?"
  end
  if #list == 0 then report(c, rule, "to is a template, or a list of them") end
  return list
end

local function check_names(c, rule, op)
  local known = known_names(c)
  ops.names(op, function(name, use)
    local captured = use ~= "lookup" and rule.patterns[1] and rule.patterns[1].by_name[name]
    if not captured and not known(name, use) then report(c, rule, "%s: there is no '%s'", op[1], name) end
  end)
end

local function compile_op(c, rule, op)
  local out, why = ops.prepare(op)
  if not out then return report(c, rule, "%s", why) end
  check_names(c, rule, out)
  return out
end

local function compile_ops(c, rule, list)
  local out = {}
  if list == nil then return out end
  if type(list) ~= "table" then return report(c, rule, "op is an operation or a list of them") or out end
  for _, op in ipairs(type(list[1]) == "string" and { list } or list) do
    out[#out + 1] = compile_op(c, rule, op)
  end
  return out
end

-- Where cat, split and zeros may stand, and that there are as many names as pieces.
local function check_places(c, rule)
  local joins = rule.kind == "gather" and not rule.emit and (rule.over and #rule.parts > 1 and 2 or 1) or 0
  for i, op in ipairs(rule.ops) do
    local place = ops.KINDS[op[1]].place
    if place == "first" and i > joins then
      report(c, rule, "%s joins the parts of a gather, and stands first", op[1])
    end
    if place ~= "first" and i <= joins then
      report(c, rule, "a gather joins its parts: its operation %d is cat or stack", i)
    end
    if place == "last" and i < #rule.ops then report(c, rule, "%s makes several pieces, and stands last", op[1]) end
    if (place == "make") ~= (rule.kind == "make" and i == 1) then
      report(c, rule, place == "make" and "%s belongs to a rule with make"
        or "make begins with zeros, ones or full, not %s", op[1])
    end
  end
  if #rule.ops < joins then report(c, rule, "a gather joins its parts: op begins with cat or stack") end
  if rule.kind == "make" and #rule.ops == 0 then report(c, rule, "make needs an op: zeros, ones or full") end
end

local function check_pieces(c, rule)
  local last = rule.ops[#rule.ops]
  local splits = last and ops.KINDS[last[1]].place == "last"
  local n = rule.to and #rule.to or 1
  local pieces = splits and (last[1] == "split" and #last[3] or last[3]) or 1
  if splits and math.type(pieces) == "integer" and pieces ~= n then
    report(c, rule, "%s makes %d pieces, to names %d", last[1], pieces, n)
  elseif not splits and n > 1 then
    report(c, rule, "to names %d keys, but op ends with neither split nor chunk", n)
  end
  rule.splits = splits
end

-- ---- gather ----

local function part_order(c, rule, raw)
  if raw.order ~= nil then
    if type(raw.order) == "table" then return raw.order end
    return report(c, rule, "order is a list of the names in gather") or {}
  end
  local keys, list = sorted_keys(raw.gather), true
  for _, key in ipairs(keys) do list = list and math.type(key) == "integer" end
  if list then
    table.sort(keys)
  elseif #keys > 1 and not raw.emit then
    report(c, rule, "gather needs order = { ... }: a table has none")
  end
  return keys
end

local function capture_names(p, but)
  local list = {}
  for _, capture in ipairs(p.captures) do
    if capture.name ~= but then list[#list + 1] = capture.name end
  end
  table.sort(list)
  return table.concat(list, ",")
end

local function compile_gather(c, rule, raw)
  rule.parts, rule.over = {}, raw.over
  if type(raw.gather) ~= "table" then return report(c, rule, "gather is a table of patterns") end
  local listed = {}
  for _, name in ipairs(part_order(c, rule, raw)) do
    local p = raw.gather[name] and compile_pattern(c, rule, raw.gather[name])
    if raw.gather[name] == nil then report(c, rule, "order names '%s', gather does not", tostring(name)) end
    if p then table.insert(rule.parts, { name = name, pattern = p }) end
    listed[name] = true
    rule.patterns[#rule.patterns + 1] = p
  end
  for _, name in ipairs(sorted_keys(raw.gather)) do
    if not listed[name] then report(c, rule, "order leaves out '%s'", tostring(name)) end
  end
  if #rule.parts == 0 then return report(c, rule, "gather names no part") end
  local first = rule.parts[1].pattern
  for _, part in ipairs(rule.parts) do
    if capture_names(part.pattern, raw.over) ~= capture_names(first, raw.over) then
      report(c, rule, "the patterns of a gather have the same captures; '%s' and '%s' do not", first.text,
        part.pattern.text)
    end
    if raw.over and (part.pattern.captures[part.pattern.by_name[raw.over]] or {}).kind ~= "i" then
      report(c, rule, "'%s' has no integer capture '%s' to go over", part.pattern.text, tostring(raw.over))
    end
  end
end

-- An expression of emit: names of parts, or { operation, ..., of = }.
local function compile_emitted(c, rule, expr, parts)
  if type(expr) == "string" then
    if not parts[expr] then report(c, rule, "emit: there is no part '%s'%s", expr, words.suggest(expr, parts)) end
    return expr
  end
  if type(expr) ~= "table" then
    return report(c, rule, "emit: an expression is a part's name or { operation, of = }")
  end
  local bare = table.move(expr, 1, #expr, 1, {})
  local op = compile_op(c, rule, bare)
  local of = expr.of
  if not op then return nil end
  local list = type(of) == "table" and (type(of[1]) ~= "string" or not ops.KINDS[of[1]] or parts[of[1]])
  if list then
    local out = {}
    for i, item in ipairs(of) do out[i] = compile_emitted(c, rule, item, parts) end
    return { op = op, of = out, list = true }
  end
  return { op = op, of = of ~= nil and { compile_emitted(c, rule, of, parts) } or {} }
end

local function compile_emit(c, rule, emit)
  local parts, list = {}, {}
  for _, part in ipairs(rule.parts or {}) do parts[part.name] = true end
  if type(emit) ~= "table" then return report(c, rule, "emit is a table of expressions") end
  if rule.over then report(c, rule, "emit takes single keys: it cannot go over '%s'", rule.over) end
  for _, key in ipairs(sorted_keys(emit)) do
    local name, expr = key, emit[key]
    if math.type(key) == "integer" then name, expr = (expr or {})[1], (expr or {})[2] end
    local t = compile_template(c, rule, name, rule.patterns[1])
    local e = compile_emitted(c, rule, expr, parts)
    if t and e then table.insert(list, { to = t, expr = e }) end
  end
  rule.emit = list
end

-- ---- rules ----

local REWRITES = { "sub", "seg", "tail" }

local function compile_rewrite(c, rule, raw, kind)
  local pair = raw[kind]
  local ok = type(pair) == "table" and type(pair[1]) == "string" and pair[1] ~= "" and type(pair[2]) == "string"
  if not ok then return report(c, rule, "%s is { text, text }", kind) end
  rule.kind, rule.how, rule.find, rule.put, rule.pass = "rewrite", kind, pair[1], pair[2], raw.pass
  rule.chunk = pair[1]:gsub("^%d+", ""):gsub("%d+$", ""):gsub("%d+", "0")
end

local function set_kind(c, rule, raw)
  local given = {}
  if raw[1] ~= nil then given[#given + 1] = "a pattern" end
  for _, kind in ipairs { "sub", "seg", "tail", "map", "any", "gather", "make" } do
    if raw[kind] ~= nil then given[#given + 1] = kind end
  end
  if #given ~= 1 then
    return report(c, rule, #given == 0 and "a rule has a pattern, or one of sub, seg, tail, map, any, gather, make"
      or "a rule is of one kind, not of several: %s", table.concat(given, ", "))
  end
  for _, kind in ipairs(REWRITES) do
    if raw[kind] ~= nil then return compile_rewrite(c, rule, raw, kind) end
  end
  if raw[1] ~= nil then
    rule.kind, rule.patterns[1] = "pattern", compile_pattern(c, rule, raw[1])
  elseif raw.map ~= nil then
    rule.kind, rule.call = "map", raw.map
    if type(raw.map) ~= "function" then report(c, rule, "map is a function") end
  elseif raw.any ~= nil then
    rule.kind, rule.patterns = "any", compile_list(c, rule, raw.any, "any") or {}
    if #rule.patterns == 0 then report(c, rule, "any names no pattern") end
  elseif raw.gather ~= nil then
    rule.kind = "gather"
    compile_gather(c, rule, raw)
  else
    rule.kind, rule.optional = "make", true
    rule.to = { compile_template(c, rule, raw.make) }
  end
end

local FLAGS = { "drop", "keep", "optional", "required", "target", "lossy" }

local function check_flags(c, rule, raw)
  for _, flag in ipairs(FLAGS) do
    if raw[flag] ~= nil and type(raw[flag]) ~= "boolean" then report(c, rule, "%s is true or false", flag) end
    if rule[flag] == nil then rule[flag] = raw[flag] end
  end
  if raw.drop and (raw.to ~= nil or raw.op ~= nil or raw.keep) then
    report(c, rule, "what is dropped has no to, op or keep")
  end
  if raw.keep and (raw.to ~= nil or raw.op ~= nil) then report(c, rule, "what is kept as it is has no to and no op") end
  if raw.optional and raw.required then report(c, rule, "a rule is not both optional and required") end
  local needs_to = rule.kind == "gather" and not raw.emit
  if needs_to and raw.to == nil then report(c, rule, "%s needs to", rule.kind) end
end

local function compile_rule(c, stage, raw, origin)
  local rule = { id = origin.id, file = origin.file, line = origin.line, raw = raw, stage = stage, patterns = {} }
  if type(raw) ~= "table" then
    rule.ops = {}
    return report(c, rule, "a rule is a table, not %s", type(raw))
  end
  check_fields(c, rule, raw, RULE, "a rule")
  set_kind(c, rule, raw)
  if rule.kind == nil then return nil end
  check_flags(c, rule, raw)
  rule.to = rule.to or compile_templates(c, rule, raw.to)
  rule.tie = raw.tie ~= nil and compile_template(c, rule, raw.tie, rule.patterns[1]) or nil
  rule.ops = compile_ops(c, rule, raw.op)
  rule.when = compile_when(c, rule, raw.when)
  rule.sizes, rule.inverse = raw.sizes, raw.inverse
  if raw.emit ~= nil then compile_emit(c, rule, raw.emit) end
  check_places(c, rule)
  if not rule.emit then check_pieces(c, rule) end
  rule.whole = rule.kind == "pattern" and rule.patterns[1] and rule.patterns[1].literal ~= nil
  return rule
end

-- ---- stages ----

local function add_matcher(stage, rule, p, part)
  local m = { rule = rule, pattern = p, part = part, order = #stage.matchers + 1 }
  stage.matchers[m.order] = m
  if p and p.literal then
    stage.literal[p.literal] = stage.literal[p.literal] or {}
    table.insert(stage.literal[p.literal], m)
  else
    table.insert(stage.open, m)
  end
end

local function add_matchers(stage, rule)
  if rule.kind == "make" or (rule.when and rule.when.off) then return end
  if rule.kind == "rewrite" or rule.kind == "map" then return add_matcher(stage, rule) end
  if rule.kind == "gather" or rule.kind == "any" then stage.grouping = true end
  if rule.kind == "gather" then
    for _, part in ipairs(rule.parts) do add_matcher(stage, rule, part.pattern, part.name) end
    return
  end
  for i, p in ipairs(rule.patterns) do add_matcher(stage, rule, p, i) end
end

local function compile_stage(c, number, raw)
  local stage = { number = number, rules = {}, matchers = {}, literal = {}, open = {} }
  for i, item in ipairs(raw) do
    local rule = compile_rule(c, number, item.rule, item)
    if rule then
      local other = c.ids[rule.id]
      if other then report(c, rule, "two rules have the id '%s'", rule.id) end
      c.ids[rule.id] = rule
      rule.place = i
      stage.rules[#stage.rules + 1] = rule
      add_matchers(stage, rule)
    end
  end
  return stage
end

-- { from, to } of whole keys, with what a rule would be.
local function row_rule(c, stage, row, origin)
  local ok = type(row) == "table" and type(row[1]) == "string" and type(row[2]) == "string" and row[1] ~= ""
    and row[2] ~= ""
  if not ok then return report(c, origin, "a row of table is { key, key }") end
  local rule = { id = origin.id, file = origin.file, line = origin.line, raw = row, stage = stage, ops = {},
    kind = "pattern", patterns = { pattern.literal(row[1]) }, to = { pattern.literal_template(row[2]) }, whole = true }
  c.ids[rule.id] = rule
  return rule
end

-- `table` or `rename` as a stage.
local function short_stage(c, number, short)
  local stage = { number = number, rules = {}, matchers = {}, literal = {}, open = {} }
  local function add(rule)
    if not rule then return end
    stage.rules[#stage.rules + 1] = rule
    add_matchers(stage, rule)
  end
  if type(short.rename) == "function" then
    add { id = short.prefix .. "rename", file = short.file, stage = number, ops = {}, patterns = {}, kind = "map",
      optional = true, call = function(key, tensor) return short.rename(key, tensor.shape) end }
  end
  for i, row in ipairs(short.rows or {}) do
    add(row_rule(c, number, row, { id = ("%stable.%d"):format(short.prefix, i), file = short.file,
      line = short.lines and short.lines[i] }))
  end
  return stage
end

-- ---- the set ----

local function compile_var(c, name, var)
  if math.type(var) or type(var) == "boolean" then return { value = var } end
  if type(var) == "string" then
    local node, why = arith.parse(var)
    if not node then return report(c, nil, "vars.%s: %s", name, why) end
    return { node = node }
  end
  if type(var) ~= "table" then return report(c, nil, "vars.%s is a number, a table or an expression", name) end
  check_fields(c, nil, var, PARTS.var, "vars." .. name)
  local out = { config = var.config, option = var.option, default = var.default }
  if type(var.default) == "string" then
    local why
    out.default_node, why = arith.parse(var.default)
    if not out.default_node then report(c, nil, "vars.%s.default: %s", name, why) end
  end
  if var.dim then
    local ok = type(var.dim) == "table" and math.type(var.dim[2]) == "integer"
    out.dim = ok and compile_pattern(c, nil, var.dim[1]) or nil
    out.index = ok and var.dim[2] or nil
    if not ok then return report(c, nil, "vars.%s.dim is { pattern, dimension }", name) end
  end
  if var.count then
    out.count = compile_pattern(c, nil, var.count)
    if out.count and #out.count.captures == 0 then report(c, nil, "vars.%s.count has no capture to count", name) end
  end
  if not (out.config or out.option or out.dim or out.count) then
    report(c, nil, "vars.%s says neither config, option, dim nor count", name)
  end
  return out
end

local function compile_vars(c, vars)
  if vars ~= nil and type(vars) ~= "table" then return report(c, nil, "vars is a table") end
  for _, name in ipairs(sorted_keys(vars or {})) do
    c.vars[name] = compile_var(c, name, vars[name]) or { value = 0, broken = true }
    c.vars[name].raw = vars[name]
  end
  for _, name in ipairs(sorted_keys(c.vars)) do
    local node = c.vars[name].node or c.vars[name].default_node
    if node then
      arith.names(node, function(other, use)
        if use ~= "lookup" and not c.vars[other] then
          report(c, nil, "vars.%s: there is no variable '%s'%s", name, other, words.suggest(other, c.vars))
        end
      end)
    end
  end
end

local function compile_detect(c, detect)
  if detect == nil then return nil end
  if type(detect) == "function" then return { call = detect } end
  if type(detect) ~= "table" then return report(c, nil, "detect is a table or a function") end
  check_fields(c, nil, detect, PARTS.detect, "detect")
  local out = { nkeys = detect.nkeys, keys = compile_list(c, nil, detect.keys, "detect.keys"), shapes = {},
    any = compile_list(c, nil, detect.any, "detect.any"), none = compile_list(c, nil, detect.none, "detect.none") }
  for _, key in ipairs(sorted_keys(detect.shapes or {})) do
    table.insert(out.shapes, { pattern = compile_pattern(c, nil, key), shape = detect.shapes[key] })
  end
  return out
end

local function compile_expect(c, expect)
  if expect == nil then return {} end
  if type(expect) ~= "table" then return report(c, nil, "expect is a table") or {} end
  check_fields(c, nil, expect, PARTS.expect, "expect")
  if expect.fired ~= nil and expect.fired ~= "all" then report(c, nil, "expect.fired is \"all\"") end
  local out = { n_out = expect.n_out, fired = expect.fired, forbid = compile_list(c, nil, expect.forbid, "forbid") }
  out.missing = expect.missing and compile_list(c, nil, expect.missing, "expect.missing")
  out.unused = expect.unused and compile_list(c, nil, expect.unused, "expect.unused")
  return out
end

local function compile_align(c, align)
  if not align then return nil end
  if type(align) ~= "table" then return report(c, nil, "align is a table") end
  check_fields(c, nil, align, PARTS.align, "align")
  if align.mode ~= nil and align.mode ~= "suffix" then report(c, nil, "align.mode is \"suffix\"") end
  local boundary = align.boundary
  if boundary == nil then boundary = "." end
  return { boundary = boundary or "", unique = align.unique ~= false, shape = align.shape ~= false }
end

local function compile_peel(c, peel)
  if peel == nil then return { mode = "all" } end
  if type(peel) == "string" then peel = { peel } end
  if type(peel) ~= "table" then return report(c, nil, "peel is a list of prefixes") or { mode = "all" } end
  local out = { mode = peel.mode or "all" }
  if out.mode ~= "all" and out.mode ~= "each" then report(c, nil, "peel.mode is \"all\" or \"each\"") end
  for i, prefix in ipairs(peel) do
    if type(prefix) ~= "string" or prefix == "" then report(c, nil, "peel: prefix %d is no text", i) else
      out[#out + 1] = prefix
    end
  end
  return out
end

---@class ckpt.rules.Compiled
---@field id string
---@field set table
---@field stages table[]
---@field problems ckpt.rules.Problem[]

---@param set table
---@param options { file?: string, text?: string, load?: fun(name: string): table?, table|string? }?
---@return ckpt.rules.Compiled? compiled, ckpt.rules.Problem[] problems
function M.compile(set, options)
  options = options or {}
  local c = { set = set, problems = {}, vars = {}, lookup = {}, ids = {}, stages = {}, file = options.file }
  if type(set) ~= "table" then
    report(c, nil, "a rule set is a table, not %s", type(set))
    return nil, c.problems
  end
  c.id = set.id
  check_fields(c, nil, set, SET, "a rule set")
  if type(set.id) ~= "string" then report(c, nil, "a rule set has an id") end
  local whole = include.merge(set, options, function(...) report(c, nil, ...) end)
  for name, list in pairs(whole.lookup) do c.lookup[name] = list end
  compile_vars(c, whole.vars)
  for i, raw in ipairs(whole.stages) do
    c.stages[i] = raw.short and short_stage(c, i, raw) or compile_stage(c, i, raw)
  end
  c.detect, c.expect = compile_detect(c, set.detect), compile_expect(c, set.expect)
  c.align, c.peel = compile_align(c, whole.align), compile_peel(c, whole.peel)
  c.select = type(whole.select) == "string" and { whole.select } or whole.select
  c.exact, c.mark = set.exact, set.mark
  if #c.problems > 0 then return nil, c.problems end
  return c, c.problems
end

return M
