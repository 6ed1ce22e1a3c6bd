-- api_spec.lua: what the module registers, against bindings/README.md: every operation has an entry with its arguments and
-- a sentence, none is documented that does not exist, and each occurs in a spec.
--
-- In the document an operation stands as code: `ckpt.name(args)`, `t:name(args)` (tensor), `cp:name(args)` (checkpoint),
-- `run:name(args)` (checkpointer); a field as `cp.name`. Under "## Tensor" the receiver may be left out, and fields are the
-- words of the paragraph that begins with "Fields".
local ckpt = require "ckpt"
local scratch = require "support.scratch"
local gate = require "support.gate"

local DOCUMENT = "bindings/README.md"
local RECEIVERS = { ckpt = "module", cp = "checkpoint", t = "tensor", a = "tensor", sd = "state_dict", v = "value",
                    run = "checkpointer" }
local SECTIONS = { Tensor = "tensor", Checkpointer = "checkpointer" } -- where a receiver may be left out
local FILES = { h = true, so = true } -- ckpt.h, ckpt.so
local EXECUTABLE_ONLY = { is_terminal = true }

-- Operators that a reader must be told of, as they stand in the document.
local OPERATORS = {
  value = { __index = "v[key]", __newindex = "v[key] = x", __len = "#v", __pairs = "pairs(v)", __eq = "v == w",
            __tostring = "tostring(v)" },
  state_dict = { __index = "sd[name]", __len = "#sd", __pairs = "pairs(sd)" },
}

-- ---- the document ----

local function spans(line)
  local out = {}
  for span in line:gmatch("`([^`]+)`") do out[#out + 1] = span end
  return out
end

local function note(found, type, name, called, row)
  found[type] = found[type] or {}
  local entry = found[type][name] or { called = false, row = false }
  entry.called, entry.row = entry.called or called, entry.row or row
  found[type][name] = entry
end

local function read_span(found, section, span, row)
  local receiver, mark, name, rest = span:match("^(%l+)([.:])([%a_][%w_]*)(.*)$")
  local type = RECEIVERS[receiver]
  if type and not (type == "module" and FILES[name]) then
    note(found, type, name, rest:find("^[({]") ~= nil or mark == ":", row)
  end
  name = span:match("^([%a_][%w_]*)[({]")
  if SECTIONS[section] and name and name ~= "pairs" and name ~= "tostring" then
    note(found, SECTIONS[section], name, true, row)
  end
end

-- type -> name -> { called =, row = whether a sentence follows it in a table }; and all spans as they stand.
local function read_document()
  local found, all, section, fenced = {}, {}, "", false
  for line in io.lines(DOCUMENT) do
    if line:find("^```") then fenced = not fenced end
    section = line:match("^## (.*)") or section
    local first, second = line:match("^| (.-) | (.*) |$")
    local row = first ~= nil and second:find("%a+%s+%a+") ~= nil
    if not fenced and section ~= "Files here" then
      for i, span in ipairs(spans(line)) do
        all[span] = true
        local in_first = first and i <= #spans(first)
        read_span(found, section, span, row and in_first)
      end
    end
    local fields = section == "Tensor" and line:match("^Fields ([^.]*)")
    for _, name in ipairs(fields and spans(fields) or {}) do note(found, "tensor", name, false, false) end
  end
  return found, all
end

-- ---- what is registered ----

-- type -> list of { name, called }
local function registered()
  local api = ckpt.api()
  local out = { module = {} }
  for _, name in ipairs(api.functions) do table.insert(out.module, { name, true }) end
  for _, name in ipairs(api.fields) do table.insert(out.module, { name, false }) end
  for type, names in pairs(api.types) do
    out[type] = {}
    for _, name in ipairs(names.methods) do table.insert(out[type], { name, true }) end
    for _, name in ipairs(names.fields) do table.insert(out[type], { name, false }) end
  end
  return out, api
end

local function sorted(list)
  table.sort(list)
  return list
end

local function read_specs()
  local texts = {}
  for _, path in ipairs(scratch.lines("ls tests/lua/*_spec.lua")) do
    if not path:find("api_spec", 1, true) then texts[#texts + 1] = scratch.read(path) end
  end
  return table.concat(texts, "\n")
end

describe("bindings/README.md", function()
  after_each(gate)

  it("has an entry for each operation, with its arguments and a sentence", function()
    local found, missing = read_document(), {}
    for type, names in pairs(registered()) do
      for _, entry in ipairs(names) do
        local name, called = entry[1], entry[2]
        local there = (found[type] or {})[name]
        if not there or (called and not there.called) or (type == "module" and not there.row) then
          missing[#missing + 1] = type .. "." .. name
        end
      end
    end
    assert.same({}, sorted(missing))
  end)

  it("documents nothing that does not exist", function()
    local known, unknown = {}, {}
    for type, names in pairs(registered()) do
      for _, entry in ipairs(names) do known[type .. "." .. entry[1]] = true end
    end
    for type, names in pairs(read_document()) do
      for name in pairs(names) do
        if not known[type .. "." .. name] and not EXECUTABLE_ONLY[name] then unknown[#unknown + 1] = type .. "." .. name end
      end
    end
    assert.same({}, sorted(unknown))
  end)

  it("has an entry for each operator of values and state dicts", function()
    local _, api = registered()
    local _, all = read_document()
    for type, operators in pairs(OPERATORS) do
      local has = {}
      for _, name in ipairs(api.types[type].operators) do has[name] = true end
      for name, span in pairs(operators) do
        assert.is_true(has[name], type .. " has no " .. name)
        assert.is_true(all[span], "no entry for " .. span)
      end
    end
    for _, name in ipairs(api.types.value.operators) do
      assert.is_true(OPERATORS.value[name] ~= nil or name == "__gc" or name == "__close", name)
    end
  end)
end)

describe("each operation", function()
  after_each(gate)

  it("occurs in a spec", function()
    local specs, missing = read_specs(), {}
    for type, names in pairs(registered()) do
      for _, entry in ipairs(names) do
        local name = entry[1]
        local pattern = (type == "module" and "ckpt%." or "[.:]") .. name .. "%f[^%w_]"
        if not specs:find(pattern) then missing[#missing + 1] = type .. "." .. name end
      end
    end
    assert.same({}, sorted(missing))
  end)

  it("is told by ckpt.api even where it is a field", function()
    local api = ckpt.api()
    for type, file in pairs { tensor = "bindings/lua_tensor.c", checkpoint = "bindings/lua_checkpoint.c" } do
      local fields = {}
      for _, name in ipairs(api.types[type].fields) do fields[name] = true end
      local n = 0
      for name in scratch.read(file):gmatch('strcmp%(field, "([%w_]+)"%)') do
        assert.is_true(fields[name], file .. " has a field that ckpt_lua_set_fields does not name: " .. name)
        n = n + 1
      end
      assert.equal(n, #api.types[type].fields)
    end
    local t = ckpt.tensor("int8", { 2 })
    for _, name in ipairs(api.types.tensor.fields) do assert.is_not_nil(t[name], name) end
    assert.is_nil(t.nothing)
  end)
end)
