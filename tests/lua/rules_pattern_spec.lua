-- rules_pattern_spec.lua: patterns and templates of mapping rules, arithmetic, the words of "did you mean".
local arith = require "policies.rules.arith"
local pattern = require "policies.rules.pattern"
local words = require "policies.rules.words"

-- The captures of a match joined by "|", "yes" without captures, false.
local function match(text, key)
  local p = assert(pattern.compile(text))
  local values = pattern.capture(p, key)
  local slow = pattern.match(p, key)
  if not values then
    assert.is_true(p.fast ~= nil or slow == nil)
    return false
  end
  local out = {}
  for i = 1, #values do out[i] = tostring(values[i]) end
  -- the fast way and the other agree
  for i, found in ipairs(slow) do assert.equal(found, out[i]) end
  return #out > 0 and table.concat(out, "|") or "yes"
end

describe("a pattern", function()
  local cases = {
    { "a.weight", "a.weight", "yes" }, { "a.weight", "a.weights", false }, { "a.weight", "xa.weight", false },
    { "a%d+", "a%d+", "yes" }, { "a%d+", "a12", false }, { "a.b", "axb", false },
    { "layer{i}.{s}", "layer3.weight", "3|weight" }, { "layer{i}.{s}", "layer.weight", false },
    { "layer{i}.{s}", "layer3.a.b", false }, { "layer{i}.{s}", "layerx.weight", false },
    { "{i}.x", "0.x", "0" }, { "{i}.x", "00.x", false }, { "{i}.x", "07.x", false }, { "{i}.x", "10.x", "10" },
    { "{i}.x", "-1.x", false }, { "{i}.x", "9223372036854775807.x", "9223372036854775807" },
    { "{i}.x", "9223372036854775808.x", false }, { "{i}.x", "99999999999999999999.x", false },
    { "{s}", "abc", "abc" }, { "{s}", "a.c", false }, { "{s}_g", "weight_g", "weight" }, { "{s}_g", "_g", false },
    { "{s}_g", "a_g_g", "a_g" }, { "{s1}.{s2}", "a.b", "a|b" }, { "{x:s}.{x:s}", "a.a", "a" },
    { "{x:s}.{x:s}", "a.b", false }, { "{i}.{i}", "3.3", "3" }, { "{i}.{i}", "3.4", false },
    { "{*}", "a.b.c", "a.b.c" }, { "{*}.b", "a.b", "a" }, { "{*}.b", ".b", false }, { "{*}.{*}", "a.b.c", "a|b.c" },
    { "{*}.LayerNorm.gamma", "bert.x.LayerNorm.gamma", "bert.x" },
    { "{*}.LayerNorm.gamma", "bert.x.MyLayerNorm.gamma", false }, { "{name:*}.w", "a.b.w", "a.b" },
    { "{n:i}x", "12x", "12" }, { "a{i}{s}", "a12b", "1|2b" }, { "a{i}{j}", "a12", "1|2" }, { "a{i}{j}", "a1", false },
    { "{*}.{i}.{s}", "a.1.2.w", "a.1|2|w" }, { "{*}.A.{*}", "x.A.y.A.z", "x|y.A.z" },
    { "glob:blocks.*.weight", "blocks.1.a.weight", "1.a" }, { "glob:*", "", "" }, { "glob:a*", "a", "" },
    { "glob:a*b*", "axbyb", "x|yb" }, { "glob:a.b", "axb", false },
    { "lua:^(%d+)%.weight$", "12.weight", "12" }, { "lua:^%d+%.weight$", "12.weight", "yes" },
    { "lua:^(%d+)%.weight$", "a.weight", false },
  }
  for _, case in ipairs(cases) do
    it(("%s of '%s' is %s"):format(case[1], case[2], tostring(case[3])), function()
      assert.equal(case[3], match(case[1], case[2]))
    end)
  end

  it("gives integers as integers and text as text", function()
    local values = pattern.capture(pattern.compile "l{i}.{s}.{*}", "l7.w1.a.b")
    assert.equal(7, values.i)
    assert.equal("integer", math.type(values.i))
    assert.equal("w1", values.s)
    assert.equal("a.b", values[3])
    assert.equal("integer", math.type(pattern.capture(pattern.compile "{x:s}.{*}.{n:i}.e", "a.b.4.e").n))
  end)

  local wrong = {
    { "", "not empty" }, { "a{", "brace" }, { "a}", "brace" }, { "{a-b}", "no capture" }, { "{}", "no capture" },
    { "{x:q}", "no capture" }, { "{x:i}.{x:s}", "two kinds" }, { "lua:abc", "begins with ^" },
    { 7, "is a string" },
  }
  for _, case in ipairs(wrong) do
    it(("'%s' is refused"):format(case[1]), function()
      local p, why = pattern.compile(case[1])
      assert.is_nil(p)
      assert.matches(case[2], why, 1, true)
    end)
  end

  it("does not backtrack for ever", function()
    local key = ("a."):rep(500) .. "x"
    local p = pattern.compile "{*}a.{*}a.{*}a.{*}a.{*}a.{*}a.{*}a.y"
    local ok, found = pcall(pattern.match, p, key)
    assert.is_true(ok and found == nil or type(found) == "table" and found.costly)
    ok, found = pcall(pattern.match, pattern.compile "{x:*}{y:*}{x:*}{y:*}{x:*}!", ("ab"):rep(300))
    assert.is_false(ok)
    assert.is_true(found.costly)
  end)

  it("says of no key that it cannot match although it does", function()
    local texts = { "layer{i}.{s}", "{*}.b1", "a1{i}2.x", "{s}12.{i}", "x{i}", "1.{*}.2", "{i}", "glob:a1*2b" }
    local keys = { "layer12.w3", "q.b1", "a1952.x", "ab12.3", "x77", "1.q.2", "5", "a1332b", "a12b" }
    for _, text in ipairs(texts) do
      local p = pattern.compile(text)
      for _, key in ipairs(keys) do
        if pattern.match(p, key) then assert.is_true(pattern.may_match(p, (key:gsub("%d+", "0"))), text .. " " .. key) end
      end
    end
  end)
end)

describe("a template", function()
  local env = { values = {} }
  function env.get(name)
    local value = env.values[name] or ({ n = 4, text = "q" })[name]
    if value == nil then return nil, "no " .. name end
    return value
  end
  function env.lookup(name, index)
    local value = ({ t = { [3] = "three", w = "weight" } })[name][index]
    if value == nil then return nil, "nothing for " .. index end
    return value
  end
  function env.rank() return 2 end

  local function fill(text, from, key)
    local p = pattern.compile(from)
    env.values = assert(pattern.capture(p, key))
    return pattern.fill(assert(pattern.template(text)), p, env.values, env)
  end

  local cases = {
    { "x", "a{i}", "a3", "x" }, { "x{i}", "a{i}", "a3", "x3" }, { "x{i+1}", "a{i}", "a3", "x4" },
    { "x{2*i-1}", "a{i}", "a3", "x5" }, { "{i//2}.{i%2}", "a{i}", "a3", "1.1" }, { "{(i+1)*(i-1)}", "a{i}", "a3", "8" },
    { "{1}.{2}", "{i}.{s}", "3.w", "3.w" }, { "{2}.{1}", "{i}.{s}", "3.w", "w.3" }, { "{*}.x", "{*}.y", "a.b.y", "a.b.x" },
    { "{*}.to.{*}", "{*}.A.{*}", "p.A.q.r", "p.to.q.r" }, { "{s:s}", "{s}", "w", "w" }, { "{t[i]}", "a{i}", "a3", "three" },
    { "{t[s]}", "{s}", "w", "weight" }, { "{rank(i)}", "a{i}", "a3", "2" }, { "{n}", "a{i}", "a3", "4" },
    { "{i+n}", "a{i}", "a3", "7" }, { "100%{i}", "a{i}", "a3", "100%3" }, { "{i-3}", "a{i}", "a3", "0" },
    { "{text}.{i}", "a{i}", "a3", "q.3" }, { "{ i }", "a{i}", "a3", "3" },
  }
  for _, case in ipairs(cases) do
    it(("%s of %s is %s"):format(case[1], case[3], case[4]), function()
      assert.equal(case[4], fill(case[1], case[2], case[3]))
    end)
  end

  local wrong = {
    { "{i-4}", "a{i}", "a3", "-1 is negative" }, { "{i//0}", "a{i}", "a3", "3 // 0" }, { "{i%0}", "a{i}", "a3", "3 % 0" },
    { "{i/2}", "a{i}", "a3", "1.5 is not whole" }, { "{s+1}", "{s}", "w", "'w' is no number" },
    { "{i*i}", "a{i}", "a9223372036854775807", "overflows" }, { "{i+1}", "a{i}", "a9223372036854775807", "overflows" },
    { "{0-i-2}", "a{i}", "a9223372036854775807", "overflows" }, { "{t[i]}", "a{i}", "a4", "nothing for 4" },
  }
  for _, case in ipairs(wrong) do
    it(("%s of %s says why not"):format(case[1], case[3]), function()
      local key, why = fill(case[1], case[2], case[3])
      assert.is_nil(key)
      assert.matches(case[4], why, 1, true)
    end)
  end

  for _, text in ipairs { "", "{", "a}", "{i+}", "{i i}", "{(i}", "{t[i}", "{rank(}", "{99999999999999999999+i}", "{*" } do
    it(("'%s' is refused"):format(text), function() assert.is_nil((pattern.template(text))) end)
  end

  it("does not recurse for ever", function()
    assert.is_nil((arith.parse(("("):rep(10000))))
    assert.is_nil((arith.parse(("("):rep(60) .. "1" .. (")"):rep(60))))
  end)
end)

describe("nearest", function()
  local cases = {
    { "optionl", { "op", "optional", "order" }, "optional" }, { "conv1.weigth", { "conv1.weight", "conv2.weight" }, "conv1.weight" },
    { "abc", { "xyz" }, nil }, { "a", { "b" }, nil }, { "ab", { "ac" }, "ac" }, { "permutte", { "permute", "pad" }, "permute" },
  }
  for _, case in ipairs(cases) do
    it(("of '%s' is %s"):format(case[1], tostring(case[3])), function()
      assert.equal(case[3], words.nearest(case[1], case[2]))
    end)
  end
end)
