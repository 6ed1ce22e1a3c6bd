-- large.lua make FILE MB | convert FILE OUT | check FILE OUT: a state dict of so many MB, most of it holes; renaming,
-- permutation and a cast to float16 of all of it; and whether that was right, by samples.
--
-- A fifth of the bytes is one tensor. The file is written by us, at no cost: its storages are holes, whose CRC-32 is 0,
-- which readers take as absent; some bytes in each storage are not 0.

local ckpt = require "ckpt"

local MARKS = 64 -- numbers that are not 0 in each tensor

-- ---- a zip archive with holes ----

local function local_header(name, size)
  return ("<c4 I2I2I2I2I2 I4I4I4 I2I2"):pack("PK\3\4", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, #name, 20) ..
    name .. ("<I2I2I8I8"):pack(1, 16, size, size)
end

local function directory_entry(name, size, at)
  return ("<c4 I2I2I2I2I2I2 I4I4I4"):pack("PK\1\2", 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF) ..
    ("<I2I2I2I2I2I4I4"):pack(#name, 28, 0, 0, 0, 0, 0xFFFFFFFF) .. name ..
    ("<I2I2I8I8I8"):pack(1, 24, size, size, at)
end

local function end_records(n, size, at)
  return ("<c4 I8I2I2I4I4I8I8I8I8"):pack("PK\6\6", 44, 45, 45, 0, 0, n, n, size, at) ..
    ("<c4 I4I8I4"):pack("PK\6\7", 0, at + size, 1) ..
    ("<c4 I2I2I2I2I4I4I2"):pack("PK\5\6", 0, 0, n, n, 0xFFFFFFFF, 0xFFFFFFFF, 0)
end

-- records: { name, bytes } or { name, size, marks }, marks: { offset, bytes }
local function write_zip(path, records)
  local file <close> = assert(io.open(path, "wb"))
  local directory, at = {}, 0
  for i, record in ipairs(records) do
    local name, size = record[1], type(record[2]) == "string" and #record[2] or record[2]
    local head = local_header(name, size)
    file:seek("set", at)
    file:write(head, type(record[2]) == "string" and record[2] or "")
    for _, mark in ipairs(record[3] or {}) do
      file:seek("set", at + #head + mark[1])
      file:write(mark[2])
    end
    directory[i] = directory_entry(name, size, at)
    at = at + #head + size
  end
  file:seek("set", at)
  local entries = table.concat(directory)
  file:write(entries, end_records(#records, #entries, at))
end

-- ---- the state dict ----

local function shapes_of(megabytes)
  local rows = math.max(1, megabytes * 1000000 // 5 // (4 * 16384))
  local shapes, side = { { "embed.weight", rows, 16384 } }, 2048
  for i = 1, megabytes * 1000000 * 4 // 5 // (4 * side * side) do
    shapes[#shapes + 1] = { ("layers.%d.weight"):format(i - 1), side, side }
  end
  return shapes
end

-- A number that float16 holds, and its place: the same for the same tensor.
local function mark_of(i, k, numel)
  return (i * 7919 + k * 1000003 * 17) % numel, (i * MARKS + k) % 1000 + 0.5
end

local function text(word) return "X" .. ("<s4"):pack(word) end

local function long(n) return "\x8a\8" .. ("<i8"):pack(n) end

-- One call of _rebuild_tensor_v2, as torch.save writes it.
local function tensor(key, rows, columns)
  return "ctorch._utils\n_rebuild_tensor_v2\n((" .. text "storage" .. "ctorch\nFloatStorage\n" .. text(key) ..
    text "cpu" .. long(rows * columns) .. "tQK\0" .. long(rows) .. long(columns) .. "\x86" .. long(columns) ..
    "K\1\x86\x89ccollections\nOrderedDict\n)RtR"
end

local function pickle(shapes)
  local out = { "\x80\2ccollections\nOrderedDict\n)R(" }
  for i, s in ipairs(shapes) do out[#out + 1] = text(s[1]) .. tensor(tostring(i - 1), s[2], s[3]) end
  return table.concat(out) .. "u."
end

local function make(path, megabytes)
  local shapes = shapes_of(megabytes)
  local records = { { "large/data.pkl", pickle(shapes) }, { "large/version", "3\n" } }
  for i, s in ipairs(shapes) do
    local marks, numel = {}, s[2] * s[3]
    for k = 1, MARKS do
      local at, value = mark_of(i, k, numel)
      marks[k] = { 4 * at, ("<f"):pack(value) }
    end
    records[#records + 1] = { ("large/data/%d"):format(i - 1), 4 * numel, marks }
  end
  write_zip(path, records)
end

-- ---- converting ----

local function convert(from, to)
  local cp = assert(ckpt.open(from, { verify = true }))
  local list = {}
  for name, t in pairs(assert(cp:state_dict())) do
    list[#list + 1] = { "model." .. name:gsub("layers", "blocks"), t:permute { 2, 1 }:to "float16" }
  end
  assert(ckpt.save(to, ckpt.ordered(list)))
end

local function check(from, to)
  local old, new = assert(ckpt.open(from)), assert(ckpt.open(to))
  local i = 0
  for name, t in pairs(assert(old:state_dict())) do
    i = i + 1
    local now = assert(new:at("model." .. name:gsub("layers", "blocks")), name)
    local rows, columns = table.unpack(t.shape)
    assert(now.dtype == "float16" and now.shape[1] == columns and now.shape[2] == rows, name)
    for k = 1, MARKS do
      local at = mark_of(i, k, rows * columns)
      local r, c = at // columns + 1, at % columns + 1
      local was = t:get(r, c)
      assert(was ~= 0 and now:get(c, r) == was, ("%s[%d,%d]: %s, not %s"):format(name, r, c, now:get(c, r), was))
      assert(now:get(c % columns + 1, r) == t:get(r, c % columns + 1))
    end
  end
end

if arg[1] == "make" then make(arg[2], tonumber(arg[3])) elseif arg[1] == "convert" then convert(arg[2], arg[3]) else
  check(arg[2], arg[3])
end
