-- conv1_rgb2bgr.lua: a first convolution trained on RGB images, made to take BGR ones (and the other way round).
--
-- The same operation undoes it, so it must be applied once: never to a checkpoint of the run itself.
local M = { id = "conv1_rgb2bgr", key = "conv1.weight" }

---The operation for a convolution's weight of that shape, and the shape that it gives; or nil and why it cannot be.
---@param key string
---@param shape integer[]
---@return ckpt.Op[]? ops
---@return integer[]|string shape_or_reason
function M.apply(key, shape)
  if #shape < 2 or shape[2] < 3 then
    return nil, ("'%s' has no three input channels to reverse"):format(key)
  end
  local after = table.move(shape, 1, #shape, 1, {})
  after[2] = 3
  return { { "index_select", 1, { 2, 1, 0 } } }, after
end

return M
