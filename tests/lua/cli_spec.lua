-- cli_spec.lua: the executable as a user meets it: exit statuses, what stands on stdout and on stderr, JSON fields.

local ckpt = require "ckpt"
local dkjson = require "dkjson"
local gate = require "support.gate"
local scratch = require "support.scratch"
local tiny_zip = require "support.tiny_zip"

local CKPT = os.getenv "CKPT" or "build/ckpt"

local dir

-- Arguments are quoted, so that they arrive as they are.
local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- Runs `program` with arguments; "@name" lies in the scratch directory. Returns stdout, stderr, exit status.
local function call(program, ...)
  local words = { quote(program) }
  for i, word in ipairs { ... } do words[i + 1] = quote((word:gsub("^@", dir .. "/"))) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2> " .. quote(dir .. "/.stderr"), "r"))
  local out = pipe:read("a")
  local _, how, status = pipe:close()
  assert.equal("exit", how)
  return out, scratch.read(dir .. "/.stderr"), status
end

local function run(...) return call(CKPT, ...) end

-- The command must fail with this status and exactly this sentence; "@" is the scratch directory.
local function refuses(status, sentence, ...)
  local out, err, got = run(...)
  assert.equal("ckpt: " .. sentence:gsub("@", dir .. "/") .. "\n", err)
  assert.equal("", out)
  assert.equal(status, got)
end

local function json(...)
  local out, err, status = run(...)
  assert.equal("", err)
  assert.equal(1, select(2, out:gsub("\n", "")))
  return assert(dkjson.decode(out)), out, status
end

local function succeeds(...)
  local out, err, status = run(...)
  assert.equal("", err)
  assert.equal(0, status)
  return out
end

local function path(name) return dir .. "/" .. name end

local function iota(dtype, shape, n)
  local values = {}
  for i = 1, n do values[i] = i end
  return assert(ckpt.tensor(dtype, shape, values))
end

local function save(name, value) assert(ckpt.save(path(name), value)) end

-- Two layers, a value, a list.
local function save_small(name)
  save(name, {
    epoch = 3,
    model = ckpt.ordered { { "conv.weight", iota("float32", { 2, 1, 2, 2 }, 8) }, { "conv.bias", ckpt.tensor("float32", { 2 }) },
                           { "bn.num_batches_tracked", iota("int64", {}, 1) } },
    lrs = { 0.5, 0.25 },
  })
end

-- Changes one byte of a file.
local function damage(name, at)
  local bytes = scratch.read(path(name))
  scratch.write(path(name), bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1) .. bytes:sub(at + 1))
end

local function damage_data(name, key)
  local bytes = scratch.read(path(name))
  damage(name, assert(bytes:find(key, 1, true)))
end

local function truncate(name, size) scratch.write(path(name), scratch.read(path(name)):sub(1, size)) end

local POLICY = [[
local policy = require "policies.default"()
policy.keep = { last = 2, best = 1 }
policy.load = { require = { matched = 0.6 } }
return policy
]]

-- A run of some epochs in the scratch directory's `run`, with the metric of each.
local function train(accuracies)
  scratch.write(path "policy.lua", POLICY)
  local cp <close> = assert(ckpt.checkpointer { dir = path "run", policy = path "policy.lua" })
  assert(cp:bind("model", "w", iota("float32", { 3 }, 3)))
  assert(cp:bind("model", "b", iota("float32", { 40 }, 40)))
  for epoch, acc in ipairs(accuracies) do
    assert(cp:set_metric("acc", acc))
    cp:set_step(10 * epoch)
    assert(cp:save(epoch))
    assert(cp:save_best(epoch) ~= nil)
  end
end

-- Every name, also those that begin with a dot, with size and time: what planning must not change.
local function listing(name)
  return table.concat(scratch.lines("ls -lA --time-style=full-iso " .. quote(path(name))), "\n")
end

before_each(function() dir = scratch.dir() end)
after_each(function()
  scratch.remove(dir)
  gate()
end)

describe("the command line", function()
  it("without a command shows the usage and exits with 2", function()
    local out, err, status = run()
    assert.equal("", out)
    assert.matches("^Usage: ckpt ", err)
    assert.equal(2, status)
  end)

  it("tells bad usage in one sentence and exits with 2", function()
    refuses(2, "unknown command 'inspct'; did you mean 'inspect'? (see: ckpt --help)", "inspct")
    refuses(2, "unknown option '--digestt'; did you mean '--digest'? (see: ckpt inspect --help)", "inspect", "--digestt", "x")
    refuses(2, "missing argument 'FILE' (see: ckpt inspect --help)", "inspect")
    refuses(2, "missing argument 'OUT' (see: ckpt convert --help)", "convert", "a")
    refuses(2, "missing argument 'SCRIPT.lua' (see: ckpt run --help)", "run")
    refuses(2, "option '--select' requires an argument (see: ckpt inspect --help)", "inspect", "a", "--select")
    refuses(2, "--load needs --model: what should the weights go into? (see: ckpt plan --help)", "plan", "--load", "a")
    refuses(2, "'acc' is not of the form key=value (see: ckpt plan --help)", "plan", "--save", "@", "--metric", "acc")
    refuses(2, "'x' is not a number (see: ckpt plan --help)", "plan", "--save", "@", "--metric", "acc=x")
    refuses(2, "'1.5' is not an integer (see: ckpt plan --help)", "plan", "--save", "@", "--epoch", "1.5")
    refuses(2, "plan wants one of: DIR, --load FILE --model MODEL, --save DIR (see: ckpt plan --help)", "plan")
  end)

  it("has a version and help for every command", function()
    assert.equal("ckpt " .. ckpt.version .. "\n", succeeds("--version"))
    assert.matches("^Usage: ckpt ", succeeds("--help"))
    for _, name in ipairs { "inspect", "convert", "plan", "list", "run" } do
      assert.matches("^Usage: ckpt " .. name, succeeds(name, "--help"))
    end
  end)

  it("needs no file beside the executable", function()
    assert(os.execute(("cp %s %s"):format(quote(CKPT), quote(path "alone"))))
    train { 0.5 }
    local out, err, status = call("/usr/bin/env", "-i", "-C", "/", path "alone", "list", path "run")
    assert.equal("", err)
    assert.equal(0, status)
    assert.matches("model_epoch1.pth", out)
  end)
end)

describe("a file that cannot be read", function()
  local function each(...)
    for _, command in ipairs { { "inspect", "@f.pth" }, { "inspect", "@f.pth", "--json", "--digest" },
                               { "convert", "@f.pth", "@out.pth" } } do
      refuses(3, ..., table.unpack(command))
    end
    assert.is_nil(io.open(path "out.pth"))
  end

  it("is missing", function() each("@f.pth: there is no such file") end)

  it("is foreign", function()
    scratch.write(path "f.pth", "hello, world")
    each("@f.pth: not a checkpoint: it begins with the bytes 68 65, which is no known format (as a pickle of protocol 0 or 1: "
         .. "file+0x0: memo entry 101 was never stored)")
  end)

  it("is cut short", function()
    save_small "f.pth"
    local size = #scratch.read(path "f.pth")
    truncate("f.pth", size - 30)
    each(("@f.pth: zip end record missing at byte %d, the file ends early after %d bytes"):format(size - 52, size - 30))
  end)

  it("has changed bytes: convert finds them and writes nothing", function()
    save_small "f.pth"
    damage_data("f.pth", ("<f"):pack(7))
    local out, err, status = run("convert", "@f.pth", "@out.pth")
    assert.equal("", out)
    assert.matches("^ckpt: " .. path("f.pth"):gsub("%p", "%%%0") ..
      ": record 'f/data/%d' %(byte %d+%): its CRC%-32 is %x+, the directory says %x+: the bytes have changed\n$", err)
    assert.equal(3, status)
    assert.is_nil(io.open(path "out.pth"))
  end)
end)

describe("inspect", function()
  it("sums up the top-level keys and lists the first tensors", function()
    save_small "small.pth"
    local out = succeeds("inspect", "@small.pth")
    local lines = {}
    for line in out:gmatch("[^\n]*") do lines[#lines + 1] = line end
    assert.matches("small.pth  torch zip, [%d.]+ KB, 3 tensors$", lines[1])
    assert.equal("  epoch  int              3", lines[2])
    assert.equal("  lrs    list  2 values   0.5, 0.25", lines[3])
    assert.equal("  model  dict  3 tensors  11 values  float32 40 B, int64 8 B", lines[4])
    assert.equal("", lines[5])
    assert.equal("  model.conv.weight             float32  2x1x2x2  32 B", lines[6])
    assert.equal("  model.conv.bias               float32  2         8 B", lines[7])
    assert.equal("  model.bn.num_batches_tracked  int64    scalar    8 B", lines[8])
    assert.equal("  next: ckpt plan --load " .. path "small.pth" .. " --model MODEL", lines[9])
    assert.equal("note: 1 key ends in num_batches_tracked", lines[10])
  end)

  it("shows a root that holds no tensors", function()
    save("empty.pth", ckpt.dict {})
    assert.matches("empty.pth  torch zip, [%d.]+ K?B, 0 tensors\n  %(top level%)  dict  0 values\n$",
      (succeeds("inspect", "@empty.pth")))
    save("number.pth", 7)
    assert.matches("\n  %(top level%)  int    7\n$", (succeeds("inspect", "@number.pth")))
    save("none.pth", ckpt.none)
    assert.matches("\n  %(top level%)  %S+    None\n$", (succeeds("inspect", "@none.pth")))
  end)

  it("writes JSON with the keys of the contract, in their order", function()
    save_small "small.pth"
    local value, out = json("inspect", "@small.pth", "--json")
    assert.matches('^{"file":"[^"]+small.pth","format":"torch%-zip","bytes":%d+,"tensors":%[', out)
    assert.matches('{"name":"model.conv.weight","dtype":"float32","shape":%[2,1,2,2%],"stride":%[4,4,2,1%],' ..
      '"storage":"0","offset":0,"bytes":32,"requires_grad":false,"aliases":%[%]}', out)
    assert.matches('"shape":%[%],"stride":%[%],', out)
    assert.matches('%],"opaque":%[%],"warnings":%[%]}\n$', out)
    assert.equal(#scratch.read(path "small.pth"), value.bytes)
    assert.equal(3, #value.tensors)
    assert.is_nil(value.tensors[1].sha256)
  end)

  it("digests the logical bytes", function()
    save("zeros.pth", { a = ckpt.tensor("float32", { 2 }), b = ckpt.tensor("uint8", { 0 }) })
    local value = json("inspect", "@zeros.pth", "--json", "--digest")
    assert.equal("af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc", value.tensors[1].sha256)
    assert.equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", value.tensors[2].sha256)
    assert.equal("af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc  a\n" ..
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n", succeeds("inspect", "@zeros.pth", "--digest"))
  end)

  it("selects by a glob in which only * and ? are special", function()
    save("list.pth", { ckpt.tensor("int8", { 1 }), ckpt.tensor("int8", { 2 }), { x = ckpt.tensor("int8", { 3 }) } })
    local function names(glob)
      local list = {}
      for i, t in ipairs((json("inspect", "@list.pth", "--json", "--select", glob)).tensors) do list[i] = t.name end
      return table.concat(list, " ")
    end
    assert.equal("[0] [1] [2].x", names "*")
    assert.equal("[1]", names "[1]")
    assert.equal("[0] [1]", names "[?]")
    assert.equal("[2].x", names "*x")
    assert.equal("", names "x")
    assert.matches("no tensor's name fits x\n$", (succeeds("inspect", "@list.pth", "--select", "x")))
  end)

  it("cuts a long list and says how to see the rest", function()
    local sd = ckpt.state_dict()
    for i = 0, 999 do sd[("module.layer%d.weight"):format(i)] = ckpt.tensor("uint8", { i }) end
    save("many.pth", { state_dict = sd })
    sd = nil -- luacheck: ignore
    local out = succeeds("inspect", "@many.pth")
    assert.truthy(out:find("  ... 992 more: --all, or --select 'state_dict.module.*'\n", 1, true), out)
    assert.equal(1000, select(2, succeeds("inspect", "@many.pth", "--all"):gsub("\n  state_dict%.module%.", "")))
    local sentence = "every tensor of 'state_dict' begins with 'module.', as DataParallel names them"
    assert.truthy(out:find("note: " .. sentence, 1, true) or out:gsub("\n +", " "):find("note: " .. sentence, 1, true))
    assert.same({ sentence }, (json("inspect", "@many.pth", "--json")).warnings)
  end)

  it("tells tied tensors and views of one storage", function()
    local w = iota("float32", { 2, 2 }, 4)
    save("tied.pth", ckpt.ordered { { "embed", w }, { "head", w } })
    w = nil -- luacheck: ignore
    local value = json("inspect", "@tied.pth", "--json")
    assert.equal(1, #value.tensors)
    assert.same({ "head" }, value.tensors[1].aliases)
    assert.matches("note: tied: embed = head\n$", (succeeds("inspect", "@tied.pth")))
  end)

  it("shows an optimizer by its settings", function()
    save("opt.pth", { optimizer = {
      state = { [0] = { momentum_buffer = iota("float32", { 2 }, 2) } },
      param_groups = { { lr = 0.001, momentum = 0.9, params = { 0 } } },
    } })
    assert.matches("\n  optimizer  optimizer  1 tensor  1 group  lr=0.001 momentum=0.9\n", (succeeds("inspect", "@opt.pth")))
  end)

  it("lists opaque objects, and runs nothing", function()
    local pickle = "\x80\x02}X\1\0\0\0acos\nsystem\nX\10\0\0\0touch hack\x85Rs."
    scratch.write(path "evil.pth", tiny_zip.checkpoint(pickle))
    local value = json("inspect", "@evil.pth", "--json")
    assert.same({ { path = "a", class = "os.system" } }, value.opaque)
    assert.same({ "objects of unknown classes, kept as inert data, which weights_only refuses: os.system (1)" }, value.warnings)
    assert.matches("\n  opaque  a  os.system\n", (succeeds("inspect", "@evil.pth")))
  end)

  it("sends no control characters to a terminal and only UTF-8 into JSON", function()
    save("odd.pth", { ["a\27[2Jb\"\\"] = ckpt.tensor("uint8", { 1 }), ["\u{e9}"] = "\r\27" })
    local out = succeeds("inspect", "@odd.pth")
    assert.is_nil(out:find("[%c\x7F]", 1) and out:gsub("\n", ""):find("[%c\x7F]"))
    assert.truthy(out:find([[a\x1b[2Jb"\]], 1, true))
    local value, text = json("inspect", "@odd.pth", "--json")
    assert.truthy(text:find([["name":"a\u001b[2Jb\"\\"]], 1, true))
    assert.equal("a\27[2Jb\"\\", value.tensors[1].name)
    scratch.write(path "lone.pth", tiny_zip.checkpoint("\x80\x02}X\3\0\0\0\xED\xA0\x80cos\nsystem\n)Rs."))
    value, text = json("inspect", "@lone.pth", "--json")
    assert.truthy(text:find([["path":"\ud800"]], 1, true))
    assert.truthy(utf8.len(text))
    assert.equal(1, #value.opaque)
  end)
end)

describe("convert", function()
  it("writes the same bytes again, also over the file itself", function()
    save_small "a.pth"
    assert(os.execute("mkdir " .. quote(path "to")))
    local before = scratch.read(path "a.pth")
    local out = succeeds("convert", "@a.pth", "@to/a.pth")
    assert.equal(before, scratch.read(path "to/a.pth"))
    assert.matches("^%S+/a.pth %-> %S+/to/a.pth: 3 tensors, [%d.]+ KB\n$", out)
    succeeds("convert", "@a.pth", "@a.pth")
    assert.equal(before, scratch.read(path "a.pth"))
  end)

  it("keeps objects that it does not know", function()
    scratch.write(path "a.pth", tiny_zip.checkpoint("\x80\x02}X\1\0\0\0acos\nsystem\nX\1\0\0\0b\x85Rs."))
    local value = json("convert", "@a.pth", "@b.pth", "--json")
    assert.same({ ["in"] = path "a.pth", out = path "b.pth", from = "torch-zip", format = "torch-zip", tensors = 0,
                  bytes = #scratch.read(path "b.pth"), files = { "b.pth" }, dropped = {}, changed = {}, cast = {},
                  overflow = {}, tied = {}, copied = {} }, value)
    assert.same({ { path = "a", class = "os.system" } }, (json("inspect", "@b.pth", "--json")).opaque)
  end)

  it("refuses a place that is not there", function()
    save_small "a.pth"
    refuses(3, "@none/a.pth: @none: there is no such directory", "convert", "@a.pth", "@none/a.pth")
  end)
end)

describe("plan --load", function()
  local function model(text) scratch.write(path "model.json", text) end

  before_each(function()
    scratch.write(path "policy.lua", POLICY)
    save_small "small.pth"
  end)

  local TWO = '{ "net.conv.weight": {"dtype":"float32","shape":[2,1,2,2]}, "net.conv.bias": {"dtype":"float32","shape":[%d]} }'

  it("shows which key goes where, in the order of the model", function()
    model(TWO:format(2))
    local out = succeeds("plan", "--load", "@small.pth", "--model", "@model.json", "--policy", "@policy.lua")
    assert.matches("small.pth %-> model %(2 keys%)\n" ..
      "  net.conv.weight  <%- conv.weight  2x1x2x2\n  net.conv.bias    <%- conv.bias    2\n" ..
      "matched 2 of 2 keys, 100.0 %% of the bytes\nunused in the file: bn.num_batches_tracked\n", out)
    assert.matches("\ncontract: matched >= 0.6: ok\n$", out)
    local value = json("plan", "--load", "@small.pth", "--model", "@model.json", "--json")
    assert.same({ { to = "net.conv.weight", from = "conv.weight", shape = { 2, 1, 2, 2 } },
                  { to = "net.conv.bias", from = "conv.bias", shape = { 2 } } }, value.assign)
    assert.same({ to = "net.conv.bias", status = "matched", source = "conv.bias", file_shape = { 2 },
                  file_dtype = "float32", shape = { 2 }, dtype = "float32" }, value.entries[2])
    assert.same({ "pretrain", "model", 2, 2, 40, 40 }, { value.mode, value.select, value.model_keys, value.matched,
      value.bytes, value.matched_bytes })
    assert.same({ "bn.num_batches_tracked" }, value.unexpected)
    assert.is_nil(value.refuse)
  end)

  it("exits with 1 when the policy refuses", function()
    model(TWO:format(3))
    local out, err, status = run("plan", "--load", "@small.pth", "--model", "@model.json", "--policy", "@policy.lua")
    assert.equal("", err)
    assert.equal(1, status)
    assert.matches("\n  net.conv.bias    <%- conv.bias    2        not loaded, file %[2%], model %[3%]\n" ..
      "matched 1 of 2 keys, 72.7 %% of the bytes\n", out)
    assert.matches("\nmissing: net.conv.bias\n", out)
    assert.matches("\nmismatched: net.conv.bias: file %[2%], model %[3%]\n", out)
    assert.matches("\nrefused: .*\nnothing would be loaded\nnext: the same with %-%-all shows every key\n$", out)
    local value
    value, out, status = json("plan", "--load", "@small.pth", "--model", "@model.json", "--policy", "@policy.lua", "--json")
    assert.equal(1, status)
    assert.truthy(value.refuse and out)
  end)

  it("exits with 1 when the policy plans what a load would not do", function()
    model '{ "x": {"dtype":"float32","shape":[7]} }'
    scratch.write(path "wrong.lua", [[return { plan_load = function()
      return { select = "model", assign = { { to = "x", from = "conv.bias" } } }
    end }]])
    local out, _, status = run("plan", "--load", "@small.pth", "--model", "@model.json", "--policy", "@wrong.lua")
    assert.matches("a load would fail: 'x' is float32 %[2%] in the file and float32 %[7%] here\n", out)
    assert.equal(1, status)
  end)

  it("takes another checkpoint as the model", function()
    save("net.pth", { net = { ["conv.bias"] = ckpt.tensor("float32", { 2 }) } })
    local value = json("plan", "--load", "@small.pth", "--model", "@net.pth", "--model-path", "net", "--json")
    assert.equal(1, value.matched)
    refuses(3, "@net.pth: there is no state dict in it (--model-path says where)", "plan", "--load", "@small.pth",
      "--model", "@net.pth")
  end)

  it("tells a policy's error with its line", function()
    model(TWO:format(2))
    scratch.write(path "bad.lua", "return { plan_load = function()\n  return nil + 1\nend }")
    local out, err, status = run("plan", "--load", "@small.pth", "--model", "@model.json", "--policy", "@bad.lua")
    assert.equal("", out)
    assert.matches("^ckpt: %S*bad.lua:2: attempt to perform arithmetic on a nil value", err)
    assert.equal(1, status)
  end)

  it("refuses files that are no model", function()
    local function refuse(text, why)
      model(text)
      refuses(3, "@model.json: " .. why, "plan", "--load", "@small.pth", "--model", "@model.json")
    end
    refuse('{ "a": {"dtype":"float33","shape":[2]} }', "'a': 'float33' is no dtype; one is float32")
    refuse('{ "a": {"dtype":"float32","shape":[-2]} }', "'a': size -2 of dimension 0 is negative")
    refuse('{ "a": 1 }', "'a': must be an object with 'dtype' and 'shape'")
    refuse('{ "a": ', "not the JSON of a model: unterminated object at line 1, column 1")
    refuses(3, "@none.json: there is no such file", "plan", "--load", "@small.pth", "--model", "@none.json")
    model(TWO:format(2))
    refuses(3, "@none.pth: there is no such file", "plan", "--load", "@none.pth", "--model", "@model.json")
  end)
end)

describe("plan DIR", function()
  it("takes the newest, or says why not, and touches nothing", function()
    train { 0.5, 0.7, 0.6 }
    local before = listing "run"
    assert.equal("resume takes epoch 3 (model_epoch3.pth, verified)\n", (succeeds("plan", "@run")))
    assert.equal(before, listing "run")
    damage_data("run/model_epoch3.pth", ("<f"):pack(33))
    before = listing "run"
    local out = succeeds("plan", "@run")
    assert.matches("^resume takes epoch 2 %(model_epoch2.pth, verified%)\nrefused: ", out)
    local value = json("plan", "@run", "--json")
    assert.same({ "resume", path "run/model_epoch2.pth", 2, true }, { value.mode, value.path, value.epoch, value.verified })
    assert.equal(1, #value.refused)
    assert.matches("model_epoch3.pth: record 'model_epoch3/data/%d' %(byte %d+%): its CRC%-32", value.refused[1].why)
    assert.equal(before, listing "run")
  end)

  it("shows what a resume puts into a model", function()
    train { 0.5 }
    scratch.write(path "model.json", '{ "w": {"dtype":"float32","shape":[3]}, "b": {"dtype":"float32","shape":[40]} }')
    assert.matches("model_epoch1.pth %-> model %(2 keys%)\n  w  <%- w  3\n  b  <%- b  40\n",
      (succeeds("plan", "@run", "--model", "@model.json")))
    scratch.write(path "model.json", '{ "w": {"dtype":"float32","shape":[4]} }')
    local _, _, status = run("plan", "@run", "--model", "@model.json")
    assert.equal(1, status)
  end)

  it("exits with 3 when no checkpoint of the run can be read", function()
    train { 0.5 }
    for _, name in ipairs(scratch.names(path "run")) do
      if name:find "%.pth$" then truncate("run/" .. name, 500) end
    end
    local out, err, status = run("plan", "@run")
    assert.matches("^ckpt: %S+model_%S+.pth: zip end record missing at byte %d+, the file ends early after 500 bytes\n$", err)
    assert.is_nil(out:find("resume takes"))
    assert.equal(3, status)
  end)

  it("starts from scratch in an empty directory, and refuses one that is not there", function()
    assert(os.execute("mkdir " .. quote(path "empty")))
    assert.equal("resume takes nothing: a run here starts from scratch\n", (succeeds("plan", "@empty")))
    assert.same({}, scratch.lines("ls -A " .. quote(path "empty")))
    refuses(3, "@none: there is no such directory", "plan", "@none")
    assert.is_nil(io.open(path "none"))
  end)
end)

describe("plan --save", function()
  it("shows what would be written, aliased and retired, and does nothing", function()
    train { 0.5, 0.7, 0.6 }
    local before = listing "run"
    local value = json("plan", "--save", "@run", "--policy", "@policy.lua", "--metric", "acc=0.65", "--json")
    assert.equal(4, value.epoch)
    assert.equal("model_epoch4.pth", value.save.file)
    assert.same({ "model_latest.pth" }, value.save.aliases)
    assert.same({}, value.save.retire)
    assert.is_nil(value.save_best.file)
    assert.is_false(value.save_best.result)
    value = json("plan", "--save", "@run", "--policy", "@policy.lua", "--metric", "acc=0.9", "--epoch", "7", "--json")
    assert.same({ "model_epoch7.pth", true }, { value.save_best.file, value.save_best.result })
    assert.same({ "model_epoch2.pth" }, value.save_best.retire)
    local out = succeeds("plan", "--save", "@run", "--policy", "@policy.lua", "--metric", "acc=0.9", "--epoch", "7")
    assert.matches("^%S+/run, epoch 7, each call by itself\n  save       writes  model_epoch7.pth\n" ..
      " +alias   model_latest.pth\n", out)
    assert.matches("\n  save_best  writes  model_epoch7.pth\n", out)
    assert.matches("\n             retires model_epoch2.pth  %([%d.]+ KB%): best = 1, last = 2\n", out)
    assert.matches("\nafter both, there are:\n  model_epoch3.pth  last 2 of 2\n  model_epoch7.pth  best #1, last 1 of 2\n$", out)
    assert.equal(before, listing "run")
  end)

  it("gives the policy the values that a trainer would bind", function()
    local value = json("plan", "--save", "@run", "--policy", "pet", "--json", "--value", "scheduler.iteration=8",
      "--value", "scheduler.info.cur_acc=0.5", "--value", "scheduler.info.best_acc=0.25",
      "--value", "scheduler.info.cur_epoch=7", "--value", "scheduler.info.best_epoch=3", "--set", "infix=step")
    assert.equal("model_step7.pth", value.save.file)
    assert.equal("model_step7-0.50.pth", value.save_best.file)
    assert.is_nil(io.open(path "run"))
    refuses(2, "'scheduler=1' is not of the form group.key=value", "plan", "--save", "@run", "--value", "scheduler=1")
  end)

  it("exits with 1 when the policy fails, and says what a save would do then", function()
    scratch.write(path "bad.lua", "return {\n  plan_save = function() error 'no idea' end }")
    local out, err, status = run("plan", "--save", "@run", "--policy", "@bad.lua", "--epoch", "5")
    assert.equal("", err)
    assert.matches("\n  save       the policy fails: %S*bad.lua:2: no idea", out)
    assert.matches("\na real save would write model_epoch5.pth and delete nothing\n$", out)
    assert.equal(1, status)
    refuses(3, "nonesuch: there is no such policy file, nor a built-in policy of that name (built in: default, pet)",
      "plan", "--save", "@run", "--policy", "nonesuch")
  end)
end)

describe("list", function()
  it("shows the run of a ledger", function()
    train { 0.5, 0.7, 0.6, 0 / 0 }
    local out = succeeds("list", "@run", "--policy", "@policy.lua")
    local lines = {}
    for line in out:gmatch("[^\n]+") do lines[#lines + 1] = line end
    assert.matches("^ epoch  step     acc +size  saved     file              kept because$", lines[1])
    assert.matches("^     2    20  0.7000  %S+ .?B  %d%d:%d%d:%d%d  model_epoch2.pth  best #1$", lines[2])
    assert.matches("^     3    30  0.6000  .* model_epoch3.pth  last 2 of 2$", lines[3])
    assert.matches("^     4    40     nan  .* model_epoch4.pth  last 1 of 2$", lines[4])
    assert.equal(" = model_epoch2.pth: model_best.pth", lines[5])
    assert.equal(" = model_epoch4.pth: model_latest.pth", lines[6])
    assert.matches("\nresume takes epoch 4 %(model_epoch4.pth, verified%). 1 retired, [%d.]+ KB freed.\n? *Ledger: ckpt.jsonl\n$", out)
  end)

  it("gives it as JSON", function()
    train { 0.5, 0.7, 0.6, 0 / 0 }
    scratch.write(path "run/notes.txt", "hello")
    local value = json("list", "@run", "--policy", "@policy.lua", "--json")
    local first, last = value.files[1], value.files[3]
    assert.same({ true, 3, 1, 1 }, { value.ledger, #value.files, value.retired, value.other_files })
    assert.same({ "model_epoch2.pth", 2, 20, true, "best #1" }, { first.file, first.epoch, first.step, first.best, first.why })
    assert.same({ acc = 0.7 }, first.metrics)
    assert.same({ acc = "nan" }, last.metrics)
    assert.same({ "model_latest.pth" }, last.aliases)
    assert.equal(#scratch.read(path "run/model_epoch2.pth"), first.bytes)
    assert.equal(first.bytes, value.freed)
    assert.same({ 4, true }, { value.resume.epoch, value.resume.verified })
  end)

  it("opens the files of a directory without a ledger", function()
    assert(os.execute("mkdir " .. quote(path "pet")))
    save("pet/model_epoch3.pth", { scheduler = { iteration = 4 } })
    save("pet/model_epoch2.pth", { epoch = 2 })
    scratch.write(path "pet/model_epoch9.pth", "PK\3\4 is all that is left of it")
    scratch.write(path "pet/metrics.csv", "epoch,acc\n")
    assert(os.execute(("ln %s %s"):format(quote(path "pet/model_epoch3.pth"), quote(path "pet/model_latest.pth"))))
    local value = json("list", "@pet", "--policy", "pet", "--json")
    assert.is_false(value.ledger)
    local rows = {}
    for i, row in ipairs(value.files) do rows[i] = ("%s %s %s"):format(row.file, row.epoch, row.error and "broken" or "ok") end
    assert.same({ "model_epoch9.pth nil broken", "model_epoch2.pth 2 ok", "model_epoch3.pth 4 ok" }, rows)
    assert.same({ "model_latest.pth" }, value.files[3].aliases)
    assert.equal(1, value.other_files)
    assert.equal(path "pet/model_latest.pth", value.resume.path)
    local out = succeeds("list", "@pet", "--policy", "pet")
    assert.matches("model_epoch9.pth  cannot be read\n", out)
    assert.matches("Besides: 1 file of\n? *another kind", out)
  end)

  it("refuses what is not a directory", function()
    refuses(3, "@none: there is no such directory", "list", "@none")
    save_small "small.pth"
    refuses(3, "@small.pth: there is no such directory", "list", "@small.pth")
  end)
end)

describe("run", function()
  local function script(text) scratch.write(path "s.lua", text) end

  it("hands the script its arguments and takes its status", function()
    script [[
      assert(require "ckpt".version == require "ckpt".version and select("#", ...) == 3)
      print(arg[0]:match("[^/]+$"), #arg, ...)
      return 7]]
    local out, err, status = run("run", "@s.lua", "--json", "-h", "x")
    assert.equal("s.lua\t3\t--json\t-h\tx\n", out)
    assert.equal("", err)
    assert.equal(7, status)
    script "return 'done'"
    assert.equal("", (succeeds("run", "@s.lua")))
  end)

  it("saves and opens", function()
    script [[
      local ckpt = require "ckpt"
      assert(ckpt.save(arg[1], { w = ckpt.tensor("float32", { 2 }, { 1, 2 }) }))
      print(ckpt.open(arg[1]):state_dict("")["w"]:tolist()[2])]]
    assert.equal("2.0\n", (succeeds("run", "@s.lua", "@w.pth")))
  end)

  it("tells an error with its traceback and exits with 1", function()
    script "#!/usr/bin/ckpt run\nlocal function deep() error 'boom' end\ndeep()\n"
    local _, err, status = run("run", "@s.lua")
    assert.matches("^ckpt: %S+/s.lua:2: boom\nstack traceback:\n", err)
    assert.matches("s.lua:3: in main chunk", err)
    assert.equal(1, status)
    script "error { code = 3 }"
    _, err, status = run("run", "@s.lua")
    assert.matches("^ckpt: table: ", err)
    assert.equal(1, status)
  end)

  it("refuses what is no script", function()
    refuses(3, "@none.lua: No such file or directory", "run", "@none.lua")
    script "x = = 1"
    refuses(1, "@s.lua:1: unexpected symbol near '='", "run", "@s.lua")
    script(string.dump(function() return 5 end))
    refuses(1, "@s.lua: attempt to load a binary chunk (mode is 't')", "run", "@s.lua")
  end)
end)
