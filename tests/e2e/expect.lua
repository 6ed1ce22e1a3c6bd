-- expect.lua: what a checkpoint should hold, written down by hand, and compared with what ckpt says.
--
-- Scalars and strings stand for themselves. The rest:
--   E.none  E.list{...}  E.tuple{...}  E.set{...}  E.bytes(s)  E.bigint(decimal)
--   E.dict{ { key, value }, ... }  E.ordered{ { key, value }, ..., state = attributes }
--   E.object(class, args [, state])  E.class(name)  E.persid(args)
--   E.tensor{ dtype, shape, numbers [, stride =, offset =, storage =, grad =, bytes = ] }: in `numbers`' place nil
-- to leave them
--     out; tensors of one file with the same `storage` share it, with another or none they do not
--   E.long(n, first, last): bytes too long to be written here: how many, and how they begin and end
--   E.count(n, f): a dict of n keys of which f(i) gives { key, value }

local ckpt = require "ckpt"

local E = { none = ckpt.none }

local function maker(kind)
  return function(t)
    t.kind = kind
    return t
  end
end

E.list, E.tuple, E.set, E.dict, E.ordered, E.tensor = maker "list", maker "tuple", maker "set", maker "dict",
  maker "ordered",
  maker "tensor"

function E.bytes(s) return { kind = "bytes", text = s } end
function E.long(n, first, last) return { kind = "long", n = n, first = first, last = last } end
function E.bigint(decimal) return { kind = "bigint", text = decimal } end
function E.class(name) return { kind = "class", text = name } end
function E.object(class, args, state) return { kind = "object", class = class, args = args, state = state } end
function E.persid(args) return { kind = "persid", args = args } end

function E.count(n, f)
  local pairs_ = { kind = "dict" }
  for i = 1, n do pairs_[i] = f(i) end
  return pairs_
end

---------------------------------------------------------------- comparing

local check = {}

local function fail(path, format, ...) error({ message = ("%s: " .. format):format(path == "" and "(root)" or path,
  ...) }, 0) end

local function need(path, what, want, got)
  if want ~= got or math.type(want) ~= math.type(got) then
    fail(path, "%s is %s instead of %s", what, tostring(got), tostring(want))
  end
end

-- A value against what is expected of it.
local function compare(path, want, got, seen)
  if want == ckpt.none or type(want) ~= "table" then return need(path, "it", want, got) end
  check[want.kind](path, want, got, seen)
end

local function compare_items(path, want, got, seen)
  need(path, "the number of items", #want, #got)
  for i = 1, #want do compare(("%s[%d]"):format(path, i - 1), want[i], got[i], seen) end
end

local function sequence(kind)
  return function(path, want, got, seen)
    need(path, "the type", kind, ckpt.type(got))
    compare_items(path, want, got, seen)
  end
end

check.list, check.tuple, check.set = sequence "list", sequence "tuple", sequence "set"

local function compare_pairs(path, want, got, seen)
  local i = 0
  for key, value in pairs(got) do
    i = i + 1
    if want[i] == nil then fail(path, "it has %d keys more than expected", #got - #want) end
    compare(path .. ".keys", want[i][1], key, seen)
    compare(("%s.%s"):format(path, tostring(key)), want[i][2], value, seen)
  end
  need(path, "the number of keys", #want, i)
end

local function is_ordered(v) return getmetatable(ckpt.totable(v)).__ordered end

function check.dict(path, want, got, seen)
  need(path, "the type", "dict", ckpt.type(got))
  need(path, "being an OrderedDict", false, is_ordered(got))
  compare_pairs(path, want, got, seen)
end

function check.ordered(path, want, got, seen)
  need(path, "the type", "dict", ckpt.type(got))
  need(path, "being an OrderedDict", true, is_ordered(got))
  compare_pairs(path, want, got, seen)
  compare(path .. " attributes", want.state, ckpt.state(got), seen)
end

function check.bytes(path, want, got)
  need(path, "the type", "bytes", ckpt.type(got))
  need(path, "the bytes", want.text, ckpt.text(got))
end

function check.long(path, want, got)
  need(path, "the type", "bytes", ckpt.type(got))
  local text = ckpt.text(got)
  need(path, "the number of bytes", want.n, #text)
  need(path, "the beginning", want.first, text:sub(1, #want.first))
  need(path, "the end", want.last, text:sub(-#want.last))
end

function check.bigint(path, want, got)
  need(path, "the type", "int", ckpt.type(got))
  need(path, "the number", want.text, ckpt.decimal(got))
end

function check.class(path, want, got)
  need(path, "the type", "class", ckpt.type(got))
  need(path, "the name", want.text, ckpt.text(got))
end

function check.object(path, want, got, seen)
  need(path, "the type", "object", ckpt.type(got))
  local object = ckpt.object(got)
  need(path, "the class", want.class, object.class)
  compare(path .. ".args", want.args, object.args, seen)
  compare(path .. ".state", want.state, object.state, seen)
end

function check.persid(path, want, got, seen)
  need(path, "the type", "object", ckpt.type(got))
  local object = ckpt.object(got)
  need(path, "the making", "persid", object.how)
  compare(path .. ".args", want.args, object.args, seen)
end

local function numbers(t) return "(" .. table.concat(t, ", ") .. ")" end

-- Which tensors share a storage is told by their labels: equal ones must, all others must not.
local function check_sharing(path, label, tensor, seen)
  for _, other in ipairs(seen) do
    local shares = tensor.numel > 0 and tensor:shares_storage(other.tensor)
    if tensor.numel > 0 and other.tensor.numel > 0 then
      need(path, "sharing the storage of " .. other.path, label ~= nil and label == other.label, shares)
    end
  end
  seen[#seen + 1] = { path = path, label = label, tensor = tensor }
end

local function contiguous(shape)
  local stride, n = {}, 1
  for i = #shape, 1, -1 do
    stride[i] = n
    n = n * math.max(shape[i], 1)
  end
  return stride
end

local function check_numbers(path, want, got)
  local list, message = got:tolist()
  if list == nil then fail(path, "%s", message) end
  need(path, "the number of elements", #want, #list)
  for i = 1, #want do need(("%s element %d"):format(path, i), "it", want[i], list[i]) end
end

function check.tensor(path, want, got, seen)
  need(path, "the type", "tensor", ckpt.type(got))
  need(path, "the dtype", want[1], got.dtype)
  need(path, "the shape", numbers(want[2]), numbers(got.shape))
  need(path, "the stride", numbers(want.stride or contiguous(want[2])), numbers(got:stride()))
  need(path, "the offset", want.offset or 0, got.offset)
  need(path, "requires_grad", want.grad or false, got.requires_grad)
  need(path, "being on meta", want.meta or false, got:is_meta())
  if want.meta then return end
  check_sharing(path, want.storage, got, seen)
  if want[3] then check_numbers(path, want[3], got) end
  if want.bytes then need(path, "the bytes", want.bytes, got:bytes()) end
end

---What is different in the checkpoint at `path`, or nil.
---@param path string
---@param want table { format, value }
---@return string? difference
function E.difference(path, want)
  local cp <close>, message = ckpt.open(path)
  if not cp then return message end
  local ok, e = pcall(function()
    need("", "the format", want[1], cp.format)
    compare("", want[2], cp:at(), {})
  end)
  if not ok then return type(e) == "table" and e.message or tostring(e) end
end

return E
