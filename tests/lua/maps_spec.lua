-- maps_spec.lua: the mapping tables that come with the policies.
local root = debug.getinfo(1, "S").source:match("^@(.-)tests/lua/[^/]*$")
package.path = root .. "?.lua;" .. root .. "tests/lua/support/?.lua;" .. package.path
local fake = require "fake_run"
local vgg16 = require "policies.maps.vgg16_reducedfc"
local rgb2bgr = require "policies.maps.conv1_rgb2bgr"

describe("maps.vgg16_reducedfc", function()
  -- the table of the reference, number by number
  local layers = { [0] = "features1.0", [2] = "features1.2", [5] = "features1.5", [7] = "features1.7",
    [10] = "features1.10", [12] = "features1.12", [14] = "features1.14", [17] = "features1.17", [19] = "features1.19",
    [21] = "features1.21", [24] = "features2.1", [26] = "features2.3", [28] = "features2.5", [31] = "conv6",
    [33] = "conv7" }

  it("has 30 rows, each as the reference has it", function()
    assert.equal(30, #vgg16.table)
    for _, row in ipairs(vgg16.table) do
      local number, kind = row[1]:match("^(%d+)%.(%a+)$")
      assert.equal(layers[math.tointeger(tonumber(number))] .. "." .. kind, row[2])
      assert.is_true(kind == "weight" or kind == "bias")
    end
  end)

  it("maps one to one", function()
    local from, to = {}, {}
    for _, row in ipairs(vgg16.table) do
      assert.is_nil(from[row[1]])
      assert.is_nil(to[row[2]])
      from[row[1]], to[row[2]] = true, true
    end
  end)

  it("is detected by keys that it lists, and names a convolution that it makes", function()
    local from, to = {}, {}
    for _, row in ipairs(vgg16.table) do from[row[1]], to[row[2]] = true, true end
    assert.is_true(#vgg16.detect.keys >= 2)
    for _, key in ipairs(vgg16.detect.keys) do assert.is_true(from[key], key) end
    assert.is_true(to[vgg16.first_conv])
    assert.equal("vgg16_reducedfc", vgg16.id)
    assert.equal("caffe", vgg16.from)
    assert.equal("pet", vgg16.to)
  end)
end)

describe("maps.conv1_rgb2bgr", function()
  local cases = {
    { "a convolution of three channels", { 64, 3, 7, 7 }, { 64, 3, 7, 7 } },
    { "more channels: three are left, as in the reference", { 64, 4, 3, 3 }, { 64, 3, 3, 3 } },
    { "a matrix", { 5, 3 }, { 5, 3 } },
  }
  for _, case in ipairs(cases) do
    it("reverses " .. case[1], function()
      local ops, shape = rgb2bgr.apply("conv1.weight", case[2])
      assert.equal(fake.dump { { "index_select", 1, { 2, 1, 0 } } }, fake.dump(ops))
      assert.equal(fake.dump(case[3]), fake.dump(shape))
    end)
  end

  it("leaves the shape that it was given alone", function()
    local shape = { 64, 4, 3, 3 }
    rgb2bgr.apply("k", shape)
    assert.same({ 64, 4, 3, 3 }, shape)
  end)

  for _, shape in ipairs { {}, { 64 }, { 64, 1, 3, 3 }, { 64, 2 } } do
    it("refuses a shape of " .. #shape .. " dimensions with too few channels, naming the key", function()
      local ops, why = rgb2bgr.apply("conv1.weight", shape)
      assert.is_nil(ops)
      assert.matches("'conv1.weight' has no three input channels", why, 1, true)
    end)
  end
end)
