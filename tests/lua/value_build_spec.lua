-- value_build_spec.lua: values made in Lua: what they are in Python, with sharing and cycles, as we and PyTorch read them.
local ckpt = require "ckpt"
local python = require "support.python"
local scratch = require "support.scratch"
local gate = require "support.gate"

local dir

local function repr(x) return tostring(ckpt.value(x)) end

local function saved(value, options)
  local path = dir .. "/built.pth"
  assert(ckpt.save(path, value))
  return assert(ckpt.open(path, options)):at("")
end

-- PyTorch loads the value as `d` and runs the assertions.
local function in_python(value, script)
  assert(ckpt.save(dir .. "/built.pth", value))
  local output, ok = python.run(dir, 'd = torch.load("built.pth")\n' .. script .. '\nprint("right")\n')
  assert.equal("right\n", output:match("[^\n]*\n$"))
  assert.is_true(ok)
end

describe("building a value", function()
  before_each(function() dir = scratch.dir() end)
  after_each(function()
    scratch.remove(dir)
    gate()
  end)

  it("makes Python's own kinds of Lua's", function()
    assert.equal("5", repr(5))
    assert.equal("5.0", repr(5.0))
    assert.equal("True", repr(true))
    assert.equal("'x'", repr "x")
    assert.equal("None", repr(ckpt.none))
    assert.equal("[]", repr {})
    assert.equal("[1, 2]", repr { 1, 2 })
    assert.equal("{'a': 1}", repr { a = 1 })
    assert.equal("{}", repr(ckpt.dict {}))
    assert.equal("{1: 'a', 2: 'b'}", repr(ckpt.dict { "a", "b" }))
    assert.equal("[1, 2]", repr(ckpt.list { 1, 2, x = "not an item" }))
    assert.equal("()", repr(ckpt.tuple {}))
    assert.equal("(1, (2,))", repr(ckpt.tuple { 1, ckpt.tuple { 2 } }))
    assert.equal("{1, 2, 'x'}", repr(ckpt.set { 1, 2, 1.0, "x", true, "x" }))
    assert.equal("frozenset({1})", repr(ckpt.frozenset { 1, 1 }))
    assert.equal("b'a\\x00\\xff'", repr(ckpt.bytes "a\0\xff"))
    assert.equal("bytearray", ckpt.type(ckpt.value(ckpt.bytearray "x")))
    assert.equal("18446744073709551616", ckpt.decimal(ckpt.bigint "0x10000000000000000"))
    assert.equal("int", ckpt.type(ckpt.value(ckpt.bigint(5))))
    assert.equal("torch.float32", repr(ckpt.dtype "float32"))
    assert.equal("a.b.C", repr(ckpt.class("a.b", "C")))
    assert.equal("torch.Size([2, 3])", repr(ckpt.size { 2, 3 }))
  end)

  it("orders the keys of plain tables, and keeps the order that is told", function()
    assert.equal("{None: 0, False: 1, True: 2, -1: 3, 1.5: 4, 2: 5, 'a': 6, 'b': 7}",
                 repr { b = 7, a = 6, [2] = 5, [1.5] = 4, [-1] = 3, [true] = 2, [false] = 1, [ckpt.none] = 0 })
    assert.equal("{'z': 1, 'a': 2, (1, 2): 3}", repr(ckpt.items { { "z", 1 }, { "a", 2 }, { ckpt.tuple { 1, 2 }, 3 } }))
    local ordered = ckpt.value(ckpt.ordered({ { "z", 1 }, { "a", 2 }, { "z", 3 } }, { _metadata = ckpt.dict {} }))
    assert.equal("{'z': 3, 'a': 2}", tostring(ordered))
    assert.equal("{}", tostring(ckpt.state(ordered)._metadata))
    assert.error_matches(function() repr { [ckpt.tuple { 1 }] = 1 } end,
                         "a ckpt.tuple as key has no order in a plain table: ckpt.items{ {key, value}, ... } says it")
    assert.error_matches(function() repr { [ckpt.tensor("int8", {})] = 1 } end, "a ckpt.tensor as key has no order")
  end)

  it("refuses what is not Python's", function()
    local cases = {
      { print, "a function has no counterpart in Python" },
      { { coroutine.create(print) }, "a thread has no counterpart" },
      { io.stdout, "a FILE%* has no counterpart" },
      { "\xff", "a string that is not UTF%-8 is no str of Python: ckpt.bytes%(s%) gives bytes" },
      { ckpt.dict { ["\xff"] = 1 }, "not UTF%-8" },
      { ckpt.ordered { 5 }, "a list of {key, value} expected: entry 1 is none" },
      { ckpt.items { { 1, 2 }, { 1 } }, "a list of {key, value} expected: entry 2 is none" },
      { ckpt.items { { {}, 1 } }, "a list cannot be the key of a dict" },
      { ckpt.items { { ckpt.tuple { ckpt.dict {} }, 1 } }, "a tuple cannot be the key of a dict" },
      { ckpt.set { {} }, "a list cannot be in a set" },
      { ckpt.frozenset { ckpt.bytearray "x" }, "a bytearray cannot be in a set" },
      { ckpt.size { 1.5 }, "every entry must be an integer" },
      { ckpt.object {}, "an object needs a class or a function that makes it" },
      { ckpt.object { class = "NoModule" }, "the class 'NoModule' of an object must be 'module.Name'" },
      { ckpt.object { class = ".x" }, "must be 'module.Name'" },
      { ckpt.object { class = "a." }, "must be 'module.Name'" },
      { ckpt.object { class = "a.B", module = "c" }, "must be 'module.Name'" },
      { ckpt.object { class = "a.B", how = "magic" }, "an object is made by reduce, newobj, newobj_ex or persid" },
      { ckpt.object { class = "a.B", args = ckpt.dict {} }, "an object's arguments must be a tuple" },
      { ckpt.object { class = "a.B", kwargs = {} }, "keyword arguments, in a dict, if it is made by newobj_ex" },
      { ckpt.object { class = 5 }, "an object needs a class or a function" },
    }
    for _, case in ipairs(cases) do assert.error_matches(function() ckpt.value(case[1]) end, case[2]) end
    assert.error_matches(function() ckpt.value { 1, nil, 3, [10] = ckpt.tuple { 1, nil, 3 } } end, ".*")
  end)

  it("refuses marks that can never be written when they are made", function()
    assert.error_matches(function() ckpt.bigint "12x" end, "'12x' is no integer")
    assert.error_matches(function() ckpt.bigint(1.5) end, "'1.5' is no integer")
    assert.error_matches(function() ckpt.bigint {} end, "string expected")
    assert.error_matches(function() ckpt.bytes() end, "string expected")
    assert.error_matches(function() ckpt.bytearray {} end, "string expected")
    assert.error_matches(function() ckpt.complex(1) end, "number expected")
    assert.error_matches(function() ckpt.dtype "float33" end, "float33")
    assert.error_matches(function() ckpt.device "" end, "is no device of torch")
    assert.error_matches(function() ckpt.device("cuda", -1) end, "an index from 0 on expected")
    assert.error_matches(function() ckpt.device "cuda:x" end, "no device of torch")
    assert.error_matches(function() ckpt.class("a") end, "string expected")
    assert.error_matches(function() ckpt.class("a\n", "b") end, "is no name of Python")
    assert.error_matches(function() ckpt.class("a\0", "b") end, "NUL")
    assert.error_matches(function() ckpt.parameter(5) end, "ckpt.tensor expected")
    assert.error_matches(function() ckpt.parameter(ckpt.tensor("int8", {})) end,
                         "a parameter of dtype int8 cannot require a gradient")
    for _, mark in ipairs { "list", "tuple", "set", "frozenset", "dict", "items", "ordered", "size", "object" } do
      assert.error_matches(function() ckpt[mark]("x") end, "table expected", mark)
    end
  end)

  it("makes objects of any class", function()
    local namespace = ckpt.value(ckpt.object { class = "argparse.Namespace", how = "newobj",
                                               state = ckpt.dict { lr = 0.1 } })
    assert.equal(0.1, namespace.lr)
    local all = {
      class = ckpt.class("pkg.mod", "Outer.Inner"), how = "newobj_ex", args = { 1, ckpt.none },
      kwargs = ckpt.dict { key = "word" }, state = ckpt.tuple { 1 }, items = { "i" }, pairs = { { "k", "v" } },
    }
    local object = ckpt.object(ckpt.value(ckpt.object(all)))
    assert.equal("pkg.mod.Outer.Inner", object.class)
    assert.equal("pkg.mod", object.module)
    assert.equal("(1, None)", tostring(object.args))
    assert.equal("word", object.kwargs.key)
    assert.equal("(1,)", tostring(object.state))
    assert.same({ "i" }, object.items)
    assert.same({ { "k", "v" } }, object.pairs)
    local again = ckpt.value(object) -- what was read can be built from again
    assert.is_true(ckpt.equal(again, ckpt.object(all)))
    object.class = "pkg.mod.Other"
    assert.equal("<pkg.mod.Other>", repr(object))
    local getattr = ckpt.object { class = "builtins.getattr", args = { ckpt.class("a", "B"), "make" } }
    local made = ckpt.value(ckpt.object { callable = getattr, args = { 3 } })
    assert.equal("<builtins.getattr>", tostring(ckpt.object(made).callable))
    assert.is_true(ckpt.equal(ckpt.totable(made), made))
    local persid = ckpt.value(ckpt.object { how = "persid", args = "an id" })
    assert.equal("an id", ckpt.object(persid).args)
    local loop = ckpt.object {}
    loop.callable = loop
    assert.error_matches(function() ckpt.value(loop) end, "callables nested deeper than 100")
  end)

  it("shares what is shared and closes cycles", function()
    local shared, bytes, parameter = { 1 }, ckpt.bytes "x", ckpt.parameter(ckpt.tensor("float32", { 1 }))
    local d = { a = shared, b = ckpt.tuple { shared }, c = bytes, d = bytes, p = parameter, q = { parameter } }
    d.self = d
    shared[2] = d.b
    local namespace = ckpt.object { class = "argparse.Namespace", how = "newobj", state = ckpt.dict { d = d } }
    namespace.state.me = namespace
    d.n = namespace
    local again = saved(d)
    assert.is_true(again.a == again.b[1])
    assert.is_true(again.a[2] == again.b)
    assert.is_true(again.self == again)
    assert.is_true(again.n.me == again.n)
    assert.is_true(again.n.d == again)
    assert.is_true(again.c == again.d)
    assert.is_true(ckpt.raw(again, "p") == ckpt.raw(again.q, 1))
  end)

  it("needs no stack for depth", function()
    local deep = ckpt.tuple { "bottom" }
    for i = 1, 30000 do
      deep = i % 3 == 0 and ckpt.tuple { deep } or i % 3 == 1 and { deep } or { k = deep }
    end
    local again = saved(deep, { limits = { depth = 30001 } })
    assert.is_true(ckpt.equal(deep, again))
  end)

  it("reads tables raw", function()
    local t = setmetatable({ 1, 2 }, { __index = error, __len = error, __pairs = error, __name = "mine" })
    assert.equal("[1, 2]", repr(t))
    assert.equal("[1]", repr(setmetatable({ 1 }, { __ckpt = 99 })))
    assert.error_matches(function() repr(setmetatable({ {} }, getmetatable(ckpt.bytes "x"))) end,
                         "a mark of ckpt without its text")
  end)

  it("reads back what it wrote", function()
    local w = ckpt.tensor("float32", { 2 }, { 1, 2 })
    local value = ckpt.value {
      none = ckpt.none, int = -5, max = math.maxinteger, min = math.mininteger, big = ckpt.bigint "-99999999999999999999",
      float = 1e300, inf = -math.huge, zero = -0.0, str = "h\u{e9}\0\u{1f600}\xed\xa0\x80", bytes = ckpt.bytes "\0\xff",
      none_bytes = ckpt.bytes "", bytearray = ckpt.bytearray "\1\xfe", list = { {}, { {} } }, tuple = ckpt.tuple {},
      set = ckpt.set { 1, ckpt.tuple { 2 } }, frozenset = ckpt.frozenset {}, dict = ckpt.dict {},
      ordered = ckpt.ordered { { "b", 1 }, { "a", 2 } }, size = ckpt.size {}, device = ckpt.device "cuda:3",
      dtype = ckpt.dtype "float8_e4m3fn", class = ckpt.class("collections", "OrderedDict"), complex = ckpt.complex(0, -1),
      w = w, p = ckpt.parameter(w), frozen = ckpt.parameter(w, false), sd = ckpt.state_dict { { "w", w } },
      keys = ckpt.items { { ckpt.tuple { 1, "a" }, 1 }, { ckpt.bytes "b", 2 }, { ckpt.none, 3 }, { 2.5, 4 } },
    }
    local again = saved(value)
    assert.is_true(ckpt.equal(value, again))
    assert.is_true(ckpt.equal(ckpt.totable(value), again))
    assert.is_true(ckpt.equal(ckpt.totable(again), value))
    assert.is_true(again.p:shares_storage(again.w))
    assert.is_true(again.p.requires_grad)
    assert.is_false(again.frozen.requires_grad)
  end)

  it("is what PyTorch then reads", function()
    if not python.torch() then return pending "no PyTorch" end
    local w = ckpt.tensor("float32", { 2 }, { 1, 2 })
    local list = { 1 }
    list[2] = list
    in_python({
      none = ckpt.none, yes = true, int = -5, min = math.mininteger, big = ckpt.bigint "123456789012345678901234567890",
      hex = ckpt.bigint "-0xffffffffffffffffffff", float = 0.1, whole = 2.0, inf = math.huge,
      str = "h\u{e9}\0\u{1f600}", surrogate = "\xed\xa0\x80", bytes = ckpt.bytes "\0\xff", none_bytes = ckpt.bytes "",
      bytearray = ckpt.bytearray "\1\xfe", list = list, tuple = ckpt.tuple { 1, ckpt.tuple {} },
      set = ckpt.set { 1, ckpt.tuple { 2 } }, frozenset = ckpt.frozenset { "a" },
      items = ckpt.items { { "z", 1 }, { ckpt.tuple { 1, 2 }, 2 }, { ckpt.bytes "k", 3 } },
      ordered = ckpt.ordered({ { "b", w }, { "a", w } }, { _metadata = ckpt.ordered { { "", ckpt.dict { version = 1 } } } }),
      size = ckpt.size { 2, 3 }, device = ckpt.device("cuda", 1), cpu = ckpt.device "cpu", dtype = ckpt.dtype "bfloat16",
      class = ckpt.class("torch.optim.sgd", "SGD"), complex = ckpt.complex(1, -2), w = w,
      p = ckpt.parameter(w), frozen = ckpt.parameter(w, false),
      namespace = ckpt.object { class = "argparse.Namespace", how = "newobj", state = ckpt.dict { lr = 0.5 } },
      deque = ckpt.object { class = "collections.deque", args = { {}, 5 }, items = { 1, 2 } },
      default = ckpt.object { class = "collections.defaultdict", args = { ckpt.class("builtins", "list") },
                              pairs = { { "k", { 1 } } } },
      range = ckpt.object { class = "builtins.range", args = { 1, 5, 2 } },
    }, [[
assert d["none"] is None and d["yes"] is True and d["int"] == -5 and d["min"] == -2**63
assert d["big"] == 123456789012345678901234567890 and d["hex"] == -(2**80 - 1)
assert d["float"] == 0.1 and type(d["whole"]) is float and d["inf"] == math.inf
assert d["str"] == "h\u00e9\0\U0001f600" and d["surrogate"] == "\ud800"
assert d["bytes"] == b"\0\xff" and d["none_bytes"] == b"" and d["bytearray"] == bytearray(b"\1\xfe")
assert type(d["bytes"]) is bytes and type(d["bytearray"]) is bytearray
assert d["list"][1] is d["list"] and d["tuple"] == (1, ())
assert d["set"] == {1, (2,)} and d["frozenset"] == frozenset("a") and type(d["frozenset"]) is frozenset
assert list(d["items"].items()) == [("z", 1), ((1, 2), 2), (b"k", 3)] and type(d["items"]) is dict
assert list(d["ordered"]) == ["b", "a"] and type(d["ordered"]) is collections.OrderedDict
assert d["ordered"]._metadata[""]["version"] == 1 and d["ordered"]["a"] is d["w"]
assert d["size"] == torch.Size([2, 3]) and type(d["size"]) is torch.Size
assert d["device"] == torch.device("cuda:1") and d["cpu"] == torch.device("cpu") and d["dtype"] is torch.bfloat16
assert d["class"] is torch.optim.SGD and d["complex"] == 1 - 2j
assert d["w"].tolist() == [1, 2] and type(d["w"]) is torch.Tensor
assert type(d["p"]) is torch.nn.Parameter and d["p"].requires_grad and not d["frozen"].requires_grad
assert type(d["frozen"]) is torch.nn.Parameter and d["p"].data_ptr() == d["w"].data_ptr()
assert d["namespace"].lr == 0.5
assert d["deque"] == collections.deque([1, 2]) and d["deque"].maxlen == 5
assert d["default"] == {"k": [1]} and d["default"]["new"] == [] and d["range"] == range(1, 5, 2)
]])
  end)

  it("can be edited like one of a file", function()
    local d = ckpt.value { list = { 1 } }
    d.list[2] = 2
    d.self = d
    assert.equal("[1, 2]", tostring(d.self.list))
    assert.equal("5", tostring(ckpt.value(5)))
    assert.equal(ckpt.none, ckpt.value { ckpt.none }[1])
  end)
end)
