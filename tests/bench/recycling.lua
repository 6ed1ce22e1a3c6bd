-- recycling.lua: one checkpoint is kept; the next is written over the blocks of the one before it.
local policy = require "policies.default"()
policy.keep, policy.recycle = { last = 1, best = 0 }, true
return policy
