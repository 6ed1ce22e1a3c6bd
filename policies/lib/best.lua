-- best.lua: what counts as better. Best is always computed from the ledger, so that a restart or a move changes nothing.

local M = {}

local function finite(x)
  return type(x) == "number" and x == x and x ~= math.huge and x ~= -math.huge
end

-- The metric of an entry, or nil when it has none or it is not finite: such a one is never better and never poisons.
function M.value(best, entry)
  local x = entry.metrics[best.metric]
  return finite(x) and x or nil
end

-- True if `now` beats `before` (nil: nothing yet). A user's `better` decides alone, between finite values.
function M.beats(policy, best, now, before)
  local x, y = M.value(best, now), before and M.value(best, before)
  if not x then return false end
  if not y then return true end
  if policy.better then return policy.better(now.metrics, before.metrics) and true or false end
  local gain = best.mode == "min" and y - x or x - y
  if gain == 0 then return best.tie ~= "first" and best.min_delta == 0 end
  return gain > best.min_delta
end

-- The last entry of every file that is still there, oldest first. Names that are aliases are not files of their own.
function M.files(run)
  local there, last, order = {}, {}, {}
  for _, file in ipairs(run.files) do there[file.name] = file end
  for _, entry in ipairs(run.ledger) do
    if entry.file and there[entry.file] and entry.epoch then last[entry.file] = entry end
  end
  for i, entry in ipairs(run.ledger) do
    if entry.file and last[entry.file] == entry then
      order[#order + 1] = {
        file = entry.file, epoch = entry.epoch, step = entry.step, time = entry.time, metrics = entry.metrics,
        bytes = there[entry.file].bytes, inode = there[entry.file].inode, place = i,
      }
    end
  end
  return order
end

-- Every save that the ledger knows, whether its file is still there or not; the last of an epoch counts.
function M.history(run)
  local last, list = {}, {}
  for _, entry in ipairs(run.ledger) do
    if entry.epoch then last[entry.epoch] = entry end
  end
  for _, entry in ipairs(run.ledger) do
    if entry.epoch and last[entry.epoch] == entry then list[#list + 1] = entry end
  end
  return list
end

-- The best of a list by definition: each is compared with the best of those before it.
function M.of(policy, best, list)
  local champion
  for _, entry in ipairs(list) do
    if M.beats(policy, best, entry, champion) then champion = entry end
  end
  return champion
end

-- The k best, best first.
function M.ranked(policy, best, list, k)
  local rest, ranked = { table.unpack(list) }, {}
  while #ranked < k do
    local champion = M.of(policy, best, rest)
    if not champion then break end
    ranked[#ranked + 1] = champion
    for i, entry in ipairs(rest) do
      if entry == champion then table.remove(rest, i) break end
    end
  end
  return ranked
end

return M
