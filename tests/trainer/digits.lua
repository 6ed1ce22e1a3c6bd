-- digits.lua: keep the best three by accuracy, and the last two
local policy = require "policies.default"()
policy.best = { metric = "acc", mode = "max" }
policy.keep = { last = 2, best = 3 }
function policy.better(now, best)
  return now.acc > best.acc and now.loss < 2 * best.loss
end
return policy
