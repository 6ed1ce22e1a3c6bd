-- value_spec.lua: every kind of value as Lua reads it, from a file that PyTorch wrote (tests/data/make_values.py).
local ckpt = require "ckpt"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"
local gate = require "support.gate"

local FILE = "tests/data/values.pth"

-- What walk gives: "path=kind", "path*" where it was given before.
local function walked(v)
  local out = {}
  for path, value, again in ckpt.walk(v) do out[#out + 1] = path .. (again and "*" or "=" .. ckpt.type(value)) end
  return table.concat(out, " ")
end

describe("a value of a checkpoint", function()
  local cp, root

  before_each(function()
    cp = assert(ckpt.open(FILE))
    root = cp:at("")
  end)
  after_each(function()
    cp, root = nil, nil
    gate()
  end)

  it("is a scalar of Lua where Lua has it", function()
    assert.equal(ckpt.none, root.none)
    assert.equal("None", tostring(root.none))
    assert.is_true(root.yes)
    assert.is_false(root.no)
    assert.equal(-7, root.int)
    assert.equal("integer", math.type(root.int))
    assert.equal(math.maxinteger, root.max)
    assert.equal(0.1, root.float)
    assert.equal("float", math.type(root.whole))
    assert.equal(math.huge, root.inf)
    assert.is_true(root.nan ~= root.nan)
    assert.equal("h\u{e9}\u{1f600}", root.str)
    assert.equal("a\0b", root.nul)
    assert.equal("x\xed\xa0\x80y", root.surrogate)
    assert.equal("", root.empty)
    assert.is_nil(root.nothing)
  end)

  it("tells its kind", function()
    local kinds = { none = "None", yes = "bool", int = "int", big = "int", float = "float", str = "str", bytes = "bytes",
                    bytearray = "bytearray", list = "list", tuple = "tuple", keys = "dict", model = "dict", set = "set",
                    frozenset = "frozenset", weight = "tensor", class = "class", dtype = "class", namespace = "object",
                    complex = "object", device = "object", size = "tuple", counter = "object" }
    for key, kind in pairs(kinds) do assert.equal(kind, ckpt.type(root[key]), key) end
    assert.equal("checkpoint", ckpt.type(cp))
    assert.equal("state_dict", ckpt.type(ckpt.state_dict()))
    assert.equal("table", ckpt.type({}))
    assert.equal("tuple", ckpt.type(ckpt.tuple {}))
    assert.equal("int", ckpt.type(ckpt.bigint "1"))
    assert.has_error(function() ckpt.type() end)
  end)

  it("has texts: bytes, class names, long integers", function()
    assert.equal("\0\xff\x80", ckpt.text(root.bytes))
    assert.equal("ab\xff", ckpt.text(root.bytearray))
    assert.equal("", ckpt.text(root.no_bytes))
    assert.equal("collections.OrderedDict", ckpt.text(root.class))
    assert.equal("123456789012345678901234567890", ckpt.decimal(root.big))
    assert.equal("0x18ee90ff6c373e0ee4e3f0ad2", ckpt.hex(root.big))
    assert.equal("-18446744073709551616", ckpt.decimal(root.negative))
    assert.equal("-7", ckpt.decimal(root.int))
    assert.equal("0x7fffffffffffffff", ckpt.hex(root.max))
    assert.error_matches(function() ckpt.text(root.list) end, "bytes, a class or a long integer expected")
    assert.error_matches(function() ckpt.decimal(root.float) end, "an int expected")
    assert.error_matches(function() ckpt.hex("12") end, "an int expected")
  end)

  it("has items from 1 to #v", function()
    assert.equal(3, #root.list)
    assert.equal(1, root.list[1])
    assert.equal("two", root.list[2])
    assert.equal(3.0, root.list[3][1])
    assert.is_nil(root.list[0])
    assert.is_nil(root.list[4])
    assert.is_nil(root.list[1.5])
    assert.equal(2, root.tuple[2][1])
    assert.equal(0, #root.tuple[3])
    assert.equal(3, #root.set)
    assert.equal("{1, 2, 3}", tostring(root.set))
    assert.equal(0, #root.empty_set)
    assert.equal("a", root.frozenset[1])
  end)

  it("has pairs in order, under keys of any kind", function()
    local keys = root.keys
    assert.equal(6, #keys)
    assert.equal("shadows 1", keys[1])
    assert.equal("shadows 1", keys[1.0])
    assert.equal("shadows 1", keys[true])
    assert.equal("float", keys[2.5])
    assert.equal("tuple", keys[ckpt.tuple { 1, "a" }])
    assert.equal("tuple", ckpt.get(keys, ckpt.tuple { 1.0, "a" }))
    assert.equal("bytes", ckpt.get(keys, ckpt.bytes "k"))
    assert.is_nil(ckpt.get(keys, "k"))
    assert.equal("none", keys[ckpt.none])
    assert.equal("frozenset", ckpt.get(keys, ckpt.frozenset { 4 }))
    assert.is_nil(ckpt.get(keys, ckpt.tuple { 1 }))
    assert.is_true(ckpt.has(keys, ckpt.tuple { 1, "a" }))
    assert.is_false(ckpt.has(keys, "x"))
    assert.is_true(ckpt.has(root.set, 2.0))
    local seen = {}
    for key, value in pairs(keys) do
      seen[#seen + 1] = value
      assert.equal(value, ckpt.get(keys, key))
    end
    assert.same({ "shadows 1", "float", "tuple", "bytes", "none", "frozenset" }, seen)
    local list = ckpt.keys(keys)
    assert.equal(6, #list)
    assert.equal(1, list[1])
    assert.equal("(1, 'a')", tostring(list[3]))
    assert.same({ 1, 2, 3 }, ckpt.keys(root.list))
    assert.same({ "module.fc.weight", "module.fc.bias" }, ckpt.keys(cp:state_dict("model")))
  end)

  it("keeps the attributes of an OrderedDict", function()
    local metadata = ckpt.state(root.model)._metadata
    assert.equal(1, metadata[""].version)
    assert.equal(2, metadata["module"].version)
    assert.is_nil(ckpt.state(root.keys))
    assert.is_nil(ckpt.state(1))
  end)

  it("shows objects of any class", function()
    local namespace = root.namespace
    assert.equal("<argparse.Namespace>", tostring(namespace))
    assert.equal(0.1, namespace.lr)
    assert.equal(0.999, namespace.betas[2])
    assert.equal("tensor", ckpt.type(namespace.w))
    assert.is_nil(namespace.missing)
    local object = ckpt.object(namespace)
    assert.equal("argparse.Namespace", object.class)
    assert.equal("argparse", object.module)
    assert.equal("newobj", object.how)
    assert.equal(0, #object.args)
    assert.is_nil(object.callable)
    assert.is_true(object.state == ckpt.state(namespace))
    assert.same({ "lr", "betas", "w" }, ckpt.keys(object.state))
    assert.equal("argparse.Namespace", tostring(ckpt.raw(namespace, "lr")) == "0.1" and object.class)
    assert.error_matches(function() ckpt.object(root.list) end, "an object expected")
  end)

  it("shows items, pairs and arguments of objects that subclass list or dict", function()
    local default = ckpt.object(root.default)
    assert.equal("collections.defaultdict", default.class)
    assert.equal("list", ckpt.text(default.args[1]):match("%w+$"))
    assert.equal("k", default.pairs[1][1])
    assert.equal(1, default.pairs[1][2][1])
    assert.equal(1, root.default.k[1])
    assert.same({ "k" }, ckpt.keys(root.default))
    local counter = ckpt.object(root.counter)
    assert.equal(2, counter.args[1].a)
    local range = ckpt.object(root.range)
    assert.equal("(1, 5, 2)", tostring(range.args))
    local pickle = "\x80\2ccollections\ndeque\n)R(K\1K\2esX\1\0\0\0kK\3sb."
    pickle = pickle:gsub("esX", "eX"):gsub("sb%.", "s.")
    local path = os.tmpname()
    scratch.write(path, tiny_zip.checkpoint(pickle))
    local deque = assert(ckpt.open(path)):at("")
    os.remove(path)
    assert.same({ 1, 2 }, ckpt.object(deque).items)
    assert.equal(2, #deque)
    assert.equal(3, deque.k)
    assert.equal(2, deque[2])
    assert.same({ "k", 1, 2 }, ckpt.keys(deque))
    local seen = {}
    for key, value in pairs(deque) do seen[#seen + 1] = tostring(key) .. "=" .. tostring(value) end
    assert.same({ "k=3", "1=1", "2=2" }, seen)
  end)

  it("reads what Python and torch know", function()
    assert.same({ 1.0, -2.0 }, { ckpt.complex(root.complex) })
    assert.same({ "cuda", 1 }, { ckpt.device(root.device) })
    assert.same({ "cpu" }, { ckpt.device(root.cpu) })
    assert.equal("float16", ckpt.dtype(root.dtype))
    assert.same({ "collections", "OrderedDict" }, { ckpt.class(root.class) })
    assert.equal("torch.Size([2, 3])", tostring(root.size))
    for _, read in ipairs { ckpt.complex, ckpt.device, ckpt.dtype, ckpt.class } do
      assert.error_matches(function() read(root.list) end, "expected")
    end
  end)

  it("shows how a tensor was made through ckpt.raw", function()
    assert.equal("tensor", ckpt.type(ckpt.raw(root, "weight")))
    assert.equal("torch._utils._rebuild_parameter", ckpt.object(ckpt.raw(root, "weight")).class)
    assert.equal("torch._utils._rebuild_tensor_v2", ckpt.object(ckpt.raw(root, "view")).class)
    local marked = ckpt.object(ckpt.raw(root, "marked"))
    assert.equal("torch._tensor._rebuild_from_type_v2", marked.class)
    assert.is_true(marked.args[4].tag.sharded)
    assert.equal("int", ckpt.type(ckpt.raw(root, "int")))
    assert.is_nil(ckpt.raw(root, "nothing"))
  end)

  it("is equal to itself only, however it was reached", function()
    assert.is_true(root.shared == root.again)
    assert.is_true(root.shared == cp:at("again"))
    assert.is_false(root.list == root.tuple)
    assert.is_false(rawequal(root.shared, root.again))
    assert.is_true(root.self == root)
    assert.is_true(root.self.self.loop[2] == root.loop)
  end)

  it("outlives its checkpoint", function()
    local list = root.list
    local weight = root.weight
    root = nil
    cp:close()
    collectgarbage()
    assert.equal("[1, 'two', [3.0]]", tostring(list))
    assert.same({ 1.0, 2.0 }, weight:tolist())
    assert.has_error(function() return cp.format end)
  end)

  it("is walked with its paths, shared parts once", function()
    assert.equal("=int", walked(5))
    assert.equal("=list [0]=int [1]=str [2]=list [2][0]=float", walked(root.list))
    assert.equal("=object args[0]=float args[1]=float", walked(root.complex))
    assert.equal("=list [0]=list [0][0]=int [0][1]=str [0][2]=list [0][2][0]=float [1]*", walked(root.loop))
    assert.equal("=object lr=float betas=tuple betas[0]=float betas[1]=float w=tensor", walked(root.namespace))
    local steps, again = {}, {}
    for path, value, before in ckpt.walk(cp) do
      assert.is_nil(steps[path], path)
      steps[path] = value
      if before then again[#again + 1] = path end
      if ckpt.type(value) == "list" then assert.is_true(value == cp:at(path), path) end
    end
    table.sort(again)
    assert.same({ "again", "loop[0]", "loop[1]", "self" }, again)
    assert.equal("tuple", steps["keys.(1, 'a')"])
    assert.equal(1, steps["model._metadata..version"])
    assert.equal(math.maxinteger, steps.max)
  end)

  it("is bounded where a file is hostile", function()
    local laughs = { 1 }
    for _ = 1, 2000 do laughs = { laughs, laughs } end
    local steps = 0
    for _ in ckpt.walk(laughs) do steps = steps + 1 end
    assert.equal(4002, steps)
    local copy = ckpt.totable(ckpt.value(laughs))
    assert.is_true(rawequal(copy[1], copy[2]))
    assert.is_true(ckpt.equal(laughs, copy))
    local deep = {}
    for _ = 1, 30000 do deep = { deep } end
    assert.error_matches(function() for _ in ckpt.walk(deep) do steps = steps + 1 end end, "a path longer than 65536 bytes")
    local value = ckpt.value(deep)
    assert.is_true(ckpt.equal(value, ckpt.totable(value)))
    assert.matches("^%[%[%[.*%.%.%.", tostring(value))
  end)

  it("becomes tables that are equal to it", function()
    local t = ckpt.totable(root)
    assert.equal("table", type(t.list))
    assert.same({ 1, "two", { 3.0 } }, t.list)
    assert.equal("float", math.type(t.list[3][1]))
    assert.is_true(rawequal(t.shared, t.again))
    assert.is_true(rawequal(t.self, t))
    assert.is_true(rawequal(t.loop[2], t.loop))
    assert.equal(ckpt.none, t.none)
    assert.equal("\0\xff\x80", tostring(t.bytes))
    assert.equal("bytes", ckpt.type(t.bytes))
    assert.equal("tuple", ckpt.type(t.tuple))
    assert.equal("frozenset", ckpt.type(t.frozenset))
    assert.equal("argparse.Namespace", t.namespace.class)
    assert.equal(0.1, t.namespace.state.lr)
    assert.equal("0x18ee90ff6c373e0ee4e3f0ad2", tostring(t.big))
    assert.equal("tensor", ckpt.type(t.weight))
    t.nan, root.nan = nil, nil
    assert.is_true(ckpt.equal(t, root))
    assert.equal(3, ckpt.totable(3))
    assert.equal("x", ckpt.totable "x")
  end)

  it("becomes tables that keep the order of dicts", function()
    local t = ckpt.totable(root.model)
    local names = {}
    for name in pairs(t) do names[#names + 1] = name end
    assert.same({ "module.fc.weight", "module.fc.bias" }, names)
    t["module.fc.weight"] = nil
    t["module.a"] = 1
    names = {}
    for name in pairs(t) do names[#names + 1] = name end
    assert.same({ "module.fc.bias", "module.a" }, names)
    t["module.fc.weight"] = 2
    t["module.b"] = 3
    local back = ckpt.value(t)
    assert.same({ "module.fc.weight", "module.fc.bias", "module.a", "module.b" }, ckpt.keys(back))
    assert.equal(1, ckpt.state(back)._metadata[""].version)
    names = {}
    for name in pairs(t) do
      names[#names + 1] = name
      t["module.fc.bias"] = nil
    end
    assert.equal("module.fc.weight", names[1]) -- what was added comes after, in no order
    assert.equal(3, #names)
    local nan = ckpt.totable(ckpt.value(ckpt.items { { 0 / 0, 1 }, { ckpt.tuple { 1 }, 2 } }))
    local kinds = {}
    for key, value in pairs(nan) do kinds[value] = ckpt.type(key) end
    assert.same({ "float", "tuple" }, kinds)
  end)

  it("is compared as Python does", function()
    assert.is_true(ckpt.equal(1, 1.0))
    assert.is_true(ckpt.equal(true, 1))
    assert.is_false(ckpt.equal(1, "1"))
    assert.is_true(ckpt.equal(ckpt.none, ckpt.none))
    assert.is_false(ckpt.equal({ 1 }, ckpt.tuple { 1 }))
    assert.is_true(ckpt.equal(ckpt.set { 1, 2 }, ckpt.frozenset { 2, 1 }))
    assert.is_true(ckpt.equal(ckpt.bytes "x", ckpt.bytearray "x"))
    assert.is_false(ckpt.equal(ckpt.bytes "x", "x"))
    assert.is_true(ckpt.equal(ckpt.ordered { { "a", 1 }, { "b", 2 } }, { b = 2, a = 1 }))
    assert.is_false(ckpt.equal(ckpt.ordered { { "a", 1 }, { "b", 2 } }, ckpt.ordered { { "b", 2 }, { "a", 1 } }))
    assert.is_true(ckpt.equal(root.list, { 1, "two", { 3 } }))
    assert.is_true(ckpt.equal(root.complex, ckpt.complex(1, -2)))
    assert.is_true(ckpt.equal(root.device, ckpt.device "cuda:1"))
    assert.is_true(ckpt.equal(root.weight, ckpt.tensor("float32", { 2 }, { 1, 2 })))
    assert.is_false(ckpt.equal(root.weight, ckpt.tensor("float64", { 2 }, { 1, 2 })))
    assert.is_false(ckpt.equal(root.weight, ckpt.tensor("float32", { 1, 2 }, { 1, 2 })))
    assert.is_true(ckpt.equal(cp, cp))
    local other = assert(ckpt.open(FILE))
    assert.is_false(ckpt.equal(cp, other)) -- nan is equal to itself only
    other:at("").nan, root.nan = 0, 0
    assert.is_true(ckpt.equal(cp, other))
    other:at("marked")
    ckpt.object(ckpt.raw(other:at(""), "namespace")).state.lr = 5
    assert.is_false(ckpt.equal(cp, other))
  end)

  it("is refused by name where it cannot be", function()
    assert.error_matches(function() ckpt.keys(print) end, "a function has no counterpart in Python")
    assert.error_matches(function() ckpt.walk() end, "value expected")
    assert.error_matches(function() ckpt.get(root) end, "value expected")
    assert.is_nil(root[{}])
  end)
end)
