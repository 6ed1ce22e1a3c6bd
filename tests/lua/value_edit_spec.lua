-- value_edit_spec.lua: values of an opened checkpoint changed in place, saved, and read again by us and by PyTorch.
local ckpt = require "ckpt"
local python = require "support.python"
local scratch = require "support.scratch"
local gate = require "support.gate"

local FILE = "tests/data/values.pth"

describe("editing a value", function()
  local dir, cp, root

  before_each(function()
    dir = scratch.dir()
    cp = assert(ckpt.open(FILE))
    root = cp:at("")
  end)
  after_each(function()
    cp, root = nil, nil
    scratch.remove(dir)
    gate()
  end)

  -- What is read back from the file that the edited checkpoint is saved to.
  local function saved()
    local path = dir .. "/edited.pth"
    assert(ckpt.save(path, cp))
    local again = assert(ckpt.open(path))
    root.nan, again:at("").nan = nil, nil
    assert.is_true(ckpt.equal(cp, again))
    return again:at("")
  end

  it("sets, replaces and takes out the keys of a dict", function()
    local n = #root
    root.int = 8
    root.added = "x"
    root.none = nil
    root.nothing = nil
    root[5] = true
    root[ckpt.tuple { 1, 2 }] = "t"
    assert.equal(n + 2, #root)
    local keys = ckpt.keys(root)
    assert.equal("yes", keys[1])
    assert.equal("added", keys[#keys - 2])
    assert.equal("(1, 2)", tostring(keys[#keys]))
    local again = saved()
    assert.equal(8, again.int)
    assert.is_nil(again.none)
    assert.equal("t", again[ckpt.tuple { 1.0, 2 }])
    assert.is_true(again[5])
  end)

  it("takes out and puts in many keys, and the dict stays whole", function()
    local d = ckpt.value(ckpt.dict {})
    for i = 1, 300 do d["k" .. i] = i end
    for i = 1, 300, 2 do d["k" .. i] = nil end
    assert.equal(150, #d)
    for i = 1, 300 do assert.equal(i % 2 == 0 and i or nil, d["k" .. i]) end
    for key, value in pairs(d) do
      if value % 4 == 0 then d[key] = nil end
    end
    assert.equal(75, #d)
    local sum = 0
    for key, value in pairs(d) do
      assert.equal("k" .. value, key)
      d[key] = nil
      sum = sum + value
    end
    assert.equal(0, #d)
    assert.equal(75 * (2 + 298) // 2, sum)
  end)

  it("uses ckpt.put for keys of any kind", function()
    assert.is_true(ckpt.put(root.keys, ckpt.bytes "k", "new") == root.keys)
    ckpt.put(root.keys, 2.5, "half")
    ckpt.put(root.keys, ckpt.none, 0)
    assert.equal(6, #root.keys)
    assert.is_true(ckpt.remove(root.keys, ckpt.tuple { 1, "a" }))
    assert.is_false(ckpt.remove(root.keys, ckpt.tuple { 1, "a" }))
    assert.equal("{1: 'shadows 1', 2.5: 'half', b'k': 'new', None: 0, frozenset({4}): 'frozenset'}",
                 tostring(saved().keys))
    assert.error_matches(function() ckpt.put(root, {}, 1) end, "a list cannot be the key of a dict")
    assert.error_matches(function() ckpt.put(root, ckpt.tuple { {} }, 1) end, "a tuple cannot be the key of a dict")
    assert.error_matches(function() root[ckpt.set {}] = 1 end, "a set cannot be the key of a dict")
    assert.error_matches(function() ckpt.put(root.list, 1, 1) end, "a list where a dict was expected")
  end)

  it("changes lists", function()
    local list = root.list
    list[1] = "one"
    list[#list + 1] = 4
    assert.is_true(ckpt.append(list, 5) == list)
    ckpt.insert(list, 1, 0)
    ckpt.insert(list, 7, ckpt.none)
    assert.is_true(ckpt.remove(list, 3))
    ckpt.extend(list, { 8, 9 })
    ckpt.extend(list, ckpt.tuple { 10 })
    list[#list] = nil
    assert.equal("[0, 'one', [3.0], 4, 5, None, 8, 9]", tostring(list))
    assert.is_true(root.loop[1] == list)
    assert.equal("[0, 'one', [3.0], 4, 5, None, 8, 9]", tostring(saved().loop[1]))
    assert.error_matches(function() list[10] = 1 end, "there is no item 10 in a list of 8")
    assert.error_matches(function() list[0] = 1 end, "there is no item 0 in a list of 8")
    assert.error_matches(function() list[2] = nil end, "ckpt.remove takes an item out of a list, nil only the last one")
    assert.error_matches(function() list.x = 1 end, "the index of a list must be an integer")
    assert.error_matches(function() list[1.0] = 1 end, "the index of a list must be an integer")
    assert.error_matches(function() ckpt.insert(list, 10, 1) end, "out of range")
    assert.error_matches(function() ckpt.remove(list, 9) end, "out of range")
    assert.error_matches(function() ckpt.remove(list, "1") end, "integer expected")
    assert.error_matches(function() ckpt.append(root, 1) end, "a list expected")
    assert.error_matches(function() ckpt.extend(list, ckpt.dict { a = 1 }) end, "a dict where a list was expected")
    assert.error_matches(function() list[1] = print end, "a function has no counterpart in Python")
    assert.equal(8, #list)
  end)

  it("changes sets, which are then written as they are", function()
    local set = root.set
    assert.is_true(ckpt.add(set, 4) == set)
    ckpt.add(set, 2.0)
    assert.is_true(ckpt.remove(set, 1))
    assert.is_false(ckpt.remove(set, 1))
    ckpt.add(root.empty_set, ckpt.tuple { 1 })
    assert.equal("{2, 3, 4}", tostring(saved().set))
    assert.equal("{(1,)}", tostring(saved().empty_set))
    assert.error_matches(function() ckpt.add(set, {}) end, "a list cannot be in a set")
    assert.error_matches(function() set[1] = 5 end, "ckpt.add and ckpt.remove change a set")
    assert.error_matches(function() ckpt.add(root.frozenset, 1) end, "a frozenset where a set was expected")
  end)

  it("refuses what Python cannot change", function()
    assert.error_matches(function() root.tuple[1] = 2 end, "a tuple cannot be changed")
    assert.error_matches(function() root.size[1] = 2 end, "a tuple cannot be changed")
    assert.error_matches(function() root.frozenset[1] = 2 end, "a frozenset cannot be changed")
    assert.error_matches(function() root.bytes[1] = 2 end, "a bytes cannot be changed")
    assert.error_matches(function() ckpt.append(root.tuple, 2) end, "a list expected")
    assert.error_matches(function() ckpt.insert(root.tuple, 1, 2) end, "a tuple where a list was expected")
    assert.error_matches(function() ckpt.remove(root.tuple, 1) end, "a tuple where a dict was expected")
    assert.error_matches(function() ckpt.set_state(root.list, {}) end, "a list has no state: objects and OrderedDicts have")
    assert.error_matches(function() ckpt.put({}, 1, 1) end, "ckpt.value expected")
  end)

  it("changes the fields, the state and the parts of objects", function()
    local namespace = root.namespace
    namespace.lr = 0.5
    namespace.new = { 1 }
    namespace.betas = nil
    ckpt.state(namespace).more = "m"
    assert.same({ "lr", "w", "new", "more" }, ckpt.keys(ckpt.state(namespace)))
    root.default.k[2] = 2
    root.default.j = "J"
    root.default.k = nil
    local args = ckpt.object(root.counter).args
    args[1].c = 7
    assert.error_matches(function() root.counter.x = 1 end,
                         "the object has no fields: ckpt.set_state gives it some, ckpt.put a pair")
    ckpt.put(root.counter, "x", 1)
    ckpt.set_state(root.range, ckpt.dict { only = "state" })
    local again = saved()
    assert.equal(0.5, again.namespace.lr)
    assert.equal("m", again.namespace.more)
    assert.is_nil(again.namespace.betas)
    assert.equal("J", again.default.j)
    assert.same({ "j" }, ckpt.keys(again.default))
    assert.equal(7, ckpt.object(again.counter).args[1].c)
    assert.equal(1, again.counter.x)
    assert.equal("state", again.range.only)
    ckpt.set_state(root.range, nil)
    assert.is_nil(ckpt.state(root.range))
    assert.is_nil(ckpt.state(saved().range))
  end)

  it("changes items of objects that are lists", function()
    local deque = ckpt.value(ckpt.object { class = "collections.deque", items = { 1, 2 }, pairs = { { "k", 3 } } })
    deque[1] = "one"
    deque.k = "three"
    deque.j = 4
    ckpt.append(deque, 5)
    assert.same({ "one", 2, 5 }, ckpt.object(deque).items)
    assert.same({ { "k", "three" }, { "j", 4 } }, ckpt.object(deque).pairs)
    local list = ckpt.value(ckpt.object { class = "collections.deque", items = { 1, 2 } })
    ckpt.insert(list, 1, 0)
    assert.is_true(ckpt.remove(list, 2))
    assert.same({ 0, 2 }, ckpt.object(list).items)
  end)

  it("changes the attributes of an OrderedDict", function()
    ckpt.state(root.model)._metadata[""].version = 9
    local other = ckpt.value(ckpt.ordered {})
    ckpt.set_state(other, ckpt.dict { _metadata = ckpt.ordered {} })
    root.other = other
    local again = saved()
    assert.equal(9, ckpt.state(again.model)._metadata[""].version)
    assert.equal("dict", ckpt.type(ckpt.state(again.other)._metadata))
  end)

  it("keeps values of the same document themselves, and so can build cycles", function()
    root.third = root.shared
    root.shared[3] = root.shared
    root.list[1] = root
    root.table = { root.shared, inner = root.list }
    assert.is_true(root.third == root.again)
    local again = saved()
    assert.is_true(again.third == again.shared)
    assert.is_true(again.shared[3] == again.shared)
    assert.is_true(again.list[1] == again)
    assert.is_true(again.table[1] == again.shared)
    assert.is_true(again.table.inner == again.list)
  end)

  it("copies values of other documents, with what they share", function()
    local other = ckpt.value { list = { 1 } }
    other.twice = { other.list, other.list }
    root.other = other
    root.both = { other.list, other.twice, other.list }
    other.list[1] = "changed"
    assert.equal(1, root.other.list[1])
    assert.is_true(root.other.twice[1] == root.other.list)
    assert.is_true(root.both[1] == root.both[2][1])
    assert.is_true(root.both[1] == root.both[3])
    local file = assert(ckpt.open(FILE))
    root.file = file
    assert.equal(0.1, root.file.namespace.lr)
    assert.is_false(root.file == root)
  end)

  it("takes tensors and state dicts; a parameter of the file stays one", function()
    root.weight = root.weight:to("float64")
    root.moved = root.marked
    root.p = cp:at("weight")
    root.sd = ckpt.state_dict { { "a", root.view }, { "b", root.marked } }
    root.twice = { root.view, root.view }
    local again = saved()
    assert.equal("float64", again.weight.dtype)
    assert.equal("torch._tensor._rebuild_from_type_v2", ckpt.object(ckpt.raw(again, "moved")).class)
    assert.is_true(ckpt.raw(again, "moved") == ckpt.raw(again, "marked"))
    assert.is_true(ckpt.raw(again.sd, "b") == ckpt.raw(again, "marked"))
    assert.is_true(ckpt.raw(again.twice, 1) == ckpt.raw(again, "view"))
    assert.is_true(ckpt.raw(again.twice, 2) == ckpt.raw(again.sd, "a"))
    assert.same({ 1, 3 }, again.sd.a:stride())
  end)

  it("leaves the value as it was where it raises", function()
    local before = ckpt.totable(root)
    before.nan, root.nan = nil, nil
    for _, bad in ipairs { print, { {}, { print } }, ckpt.dict { a = print }, "\xff", { [{}] = 1 },
                           ckpt.items { { {}, 1 } }, ckpt.set { {} }, coroutine.create(print) } do
      assert.has_error(function() root.list[1] = bad end)
      assert.has_error(function() root.x = bad end)
      assert.has_error(function() ckpt.append(root.list, bad) end)
      assert.has_error(function() ckpt.add(root.set, bad) end)
    end
    assert.is_true(ckpt.equal(before, root))
  end)

  it("is what PyTorch then reads", function()
    if not python.torch() then return pending "no PyTorch" end
    root.int = 8
    root.none = nil
    root.list[2] = root.list
    ckpt.add(root.set, 4)
    ckpt.remove(root.set, 1)
    root.namespace.lr = 0.5
    ckpt.put(root.keys, ckpt.tuple { 1, "a" }, "other")
    root.default.k[1] = 5
    root.weight = root.view
    ckpt.state(root.model)._metadata[""].version = 9
    assert(ckpt.save(dir .. "/edited.pth", cp))
    local output, ok = python.run(dir, [[
d = torch.load("edited.pth")
assert d["int"] == 8 and "none" not in d
assert d["list"][1] is d["list"] and d["loop"][0] is d["list"]
assert d["set"] == {2, 3, 4} and d["namespace"].lr == 0.5
assert d["keys"][(1, "a")] == "other" and d["default"] == {"k": [5]}
assert isinstance(d["default"], collections.defaultdict)
assert d["weight"] is d["view"] and d["view"].stride() == (1, 3), d["view"].stride()
assert d["model"]._metadata[""]["version"] == 9
assert d["self"] is d and d["shared"] is d["again"]
print("right")
]])
    assert.equal("right\n", output:match("[^\n]*\n$"))
    assert.is_true(ok)
  end)
end)

describe("ckpt.map", function()
  local cp, root

  before_each(function()
    cp = assert(ckpt.open(FILE))
    root = cp:at("")
  end)
  after_each(function()
    cp, root = nil, nil
    gate()
  end)

  it("asks about each tensor once, at its first path", function()
    local paths = {}
    local copy, dropped = ckpt.map(cp, function(path, tensor)
      assert.equal("tensor", ckpt.type(tensor))
      paths[#paths + 1] = path
    end)
    assert.same({}, dropped)
    assert.same({ "model.module.fc.weight", "model.module.fc.bias", "namespace.w", "weight", "marked",
                  "marked.tag.extra", "view", "scalar" }, paths)
    copy.nan, root.nan = nil, nil
    assert.is_true(ckpt.equal(copy, cp))
    assert.is_false(copy == root)
    copy.int = 99
    assert.equal(-7, root.int)
  end)

  it("puts other tensors in, with what surrounds them", function()
    local half = ckpt.map(root, function(_, tensor)
      if tensor.dtype == "float32" then return tensor:to("float16") end
      return nil
    end)
    assert.equal("float16", half.weight.dtype)
    assert.is_true(half.weight.requires_grad)
    assert.equal("torch._utils._rebuild_parameter", ckpt.object(ckpt.raw(half, "weight")).class)
    local marked = ckpt.object(ckpt.raw(half, "marked"))
    assert.equal("torch._tensor._rebuild_from_type_v2", marked.class)
    assert.is_true(marked.args[4].tag.sharded)
    assert.equal("float16", half.namespace.w.dtype)
    assert.equal("int64", half.view.dtype)
    assert.same({ 1, 3 }, half.view:stride())
    assert.equal("float32", root.weight.dtype)
    assert.is_true(half.self == half)
    assert.is_true(half.shared == half.again)
    assert.is_nil(ckpt.state(half.model)._metadata.missing)
    assert.equal(2, ckpt.state(half.model)._metadata.module.version)
  end)

  it("drops tensors and names them at all their paths", function()
    local w = ckpt.tensor("float32", { 1 })
    local value = ckpt.value { a = w, b = { w, 1 }, c = ckpt.tuple { w }, keep = ckpt.tensor("int8", {}) }
    local copy, dropped = ckpt.map(value, function(path) return path == "keep" and nil end)
    assert.equal("{'b': [None, 1], 'c': (None,), 'keep': <tensor>}", tostring(copy))
    assert.same({ "a", "b[0]", "c[0]" }, dropped)
    assert.equal(ckpt.none, (ckpt.map(w, function() return false end)))
    assert.equal(5, (ckpt.map(5, print)))
  end)

  it("lets errors of the function through, and refuses nonsense", function()
    assert.error_matches(function() ckpt.map(root, function() error("mine", 0) end) end, "^mine$")
    assert.error_matches(function() ckpt.map(root, function() return 5 end) end,
                         "the function said number of 'model.module.fc.weight': a tensor, false or nil expected")
    assert.error_matches(function() ckpt.map(root, 5) end, "function expected")
    local copy, message, code = ckpt.map(root, function(path)
      if path == "view" then root.weight = nil end
    end)
    assert.is_nil(copy)
    assert.equal("the value was changed while it was mapped", message)
    assert.equal("argument", code)
  end)

  it("gives what PyTorch reads", function()
    if not python.torch() then return pending "no PyTorch" end
    local dir = scratch.dir()
    finally(function() scratch.remove(dir) end)
    local half = ckpt.map(root, function(path, tensor)
      if path == "scalar" then return false end
      return tensor.dtype == "float32" and tensor:to("float16") or nil
    end)
    assert(ckpt.save(dir .. "/half.pth", half))
    local output = python.run(dir, [[
d = torch.load("half.pth")
assert isinstance(d["weight"], torch.nn.Parameter) and d["weight"].requires_grad
assert d["weight"].dtype == torch.float16 and d["weight"].tolist() == [1, 2]
assert d["marked"].tolist() == [3, 4] and d["marked"].dtype == torch.float16
assert d["namespace"].w.dtype == torch.float16 and d["view"].dtype == torch.int64
assert "scalar" not in d and d["self"] is d
print("right")
]])
    assert.equal("right\n", output:match("[^\n]*\n$"))
  end)
end)
