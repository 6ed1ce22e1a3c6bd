-- slim.lua: training checkpoints made fit to be given away: the weights alone, in bfloat16, as safetensors.
--
--   ckpt run scripts/examples/slim.lua OUT-DIR runs/*.pth
--
-- A checkpoint of a trainer holds more than a model: the optimizer's moments (twice the weights, with Adam), counters,
-- the state of the random generator. Who only wants to use the model needs none of that, and half of the digits. This
-- script takes the weights out of each file (the averaged ones where there are some), casts them, and says what it
-- saved. It is an ordinary Lua program: change it as you like.

local ckpt = require "ckpt"

-- Where trainers keep their weights, best first. cp:at(path) gives what lies there, or nil.
local PLACES = { "ema.module", "ema", "model", "state_dict" }

-- Floats that lose nothing that matters when they become bfloat16. Integers (counters, indices) stay as they are.
local WIDE = { float32 = true, float64 = true }

-- The weights of an opened checkpoint as an ordered dict of tensors, and the place where they were.
local function weights_of(cp)
  for _, place in ipairs(PLACES) do
    local sd = cp:at(place) ~= nil and cp:state_dict(place)
    if sd and #sd > 0 then return sd, place end
  end
  -- Wherever else there are some: it also tells what it left out, and where it found them; or nil and a message.
  local sd, left, place = cp:state_dict()
  if not sd then return nil, left end
  return sd, place
end

-- A new state dict with narrow floats. `to` does no work yet: a tensor is read and cast while it is written, so that a
-- checkpoint larger than the memory is no problem.
local function narrowed(sd)
  local out = {}
  for name, tensor in pairs(sd) do -- in the order of the file
    out[#out + 1] = { name, WIDE[tensor.dtype] and tensor:to "bfloat16" or tensor }
  end
  return ckpt.ordered(out)
end

local function slim(path, out_dir)
  -- nil, message: that is how ckpt tells what the world got wrong. verify: damaged bytes are not passed on.
  local cp, message = ckpt.open(path, { verify = true })
  if not cp then return nil, message end
  local sd, place = weights_of(cp)
  if not sd then return nil, path .. ": " .. place end
  local out = ("%s/%s.safetensors"):format(out_dir, path:match("([^/]+)$"):gsub("%.%w+$", ""))
  local report
  report, message = ckpt.save(out, narrowed(sd), { metadata = { source = path, format = "pt" } })
  if not report then return nil, path .. ": " .. message end
  local new <close> = assert(ckpt.open(out))
  print(("%s -> %s: %s, %d tensors, %d -> %d bytes"):format(path, out, place ~= "" and place or "all of it", #sd,
    cp.bytes, new.bytes))
  return true
end

-- Arguments come in `arg`, as with the stand-alone interpreter.
if #arg < 2 then
  io.stderr:write("usage: ckpt run slim.lua OUT-DIR FILE...\n")
  return 2 -- the integer that a script returns is its exit status
end

local failed = 0
for i = 2, #arg do
  local ok, message = slim(arg[i], arg[1])
  if not ok then
    io.stderr:write("slim: ", message, "\n")
    failed = failed + 1
  end
end
return failed == 0 and 0 or 1
