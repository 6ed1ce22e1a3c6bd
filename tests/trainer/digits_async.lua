-- digits_async.lua: digits.lua, saved in a thread and over the blocks of retired files
local policy = require "policies.digits"
policy.async, policy.recycle = true, true
return policy
