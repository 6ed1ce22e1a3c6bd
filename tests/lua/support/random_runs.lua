-- random_runs.lua: random metric logs and random policies, and the bests and pools by their definitions, written
-- without a look at policies/: what the property spec holds the policies to.
local M = {}

local NAN, INF = 0 / 0, math.huge

local function pick(list) return list[math.random(#list)] end
local function chance(p) return math.random() < p end

-- ---- logs ----

local VALUES = { 0.0, 0.1, 0.25, 0.5, 0.5, 0.51, 0.6, 0.6, 0.75, 0.9, 1.0, -0.5, 1e300, -1e300, NAN, NAN, INF, -INF }

local function metric() return not chance(0.1) and pick(VALUES) or nil end

---Rows { epoch, step, time, metrics }: mostly one after the other, now and then several steps of one epoch, a run that
---goes back, a clock that is put back, a metric that is not set.
function M.log(most)
  local rows, epoch, step, time = {}, math.random(0, 2), 0, 1700000000 + math.random(0, 100000)
  local stepped = chance(0.4)
  for i = 1, math.random(most) do
    if stepped and chance(0.4) then
      step = step + math.random(150)
    else
      epoch, step = epoch + (chance(0.9) and 1 or math.random(4)), step + math.random(150)
    end
    if i > 1 and chance(0.04) then
      local back = rows[math.random(#rows)]
      epoch, step = back.epoch, back.step or 0
    end
    time = time + (chance(0.02) and -5000 or pick { 0, 5, 60, 600, 1800, 3600, 9000, 90000 })
    rows[i] = { epoch = epoch, step = stepped and step or nil, time = time,
                metrics = { acc = metric(), loss = metric() } }
  end
  return rows, stepped
end

-- ---- policies, as Lua text and as what the oracle needs to know ----

local function criterion(metric_name)
  local rule = { metric = metric_name, mode = pick { "max", "min" }, delta = chance(0.3) and pick { 0.05, 0.2 } or 0 }
  return rule, ("metric = %q, mode = %q, min_delta = %s"):format(metric_name, rule.mode, rule.delta)
end

-- One best: rules, tie, and its text.
local function best(metric_name, other)
  local rule, text = criterion(metric_name)
  local spec = { rules = { rule }, tie = pick { "first", "last" } }
  if chance(0.3) then
    local second, second_text = criterion(other)
    spec.rules[2] = second
    return spec, ("{ { %s }, { %s, tie = %q } }"):format(text, second_text, spec.tie)
  end
  return spec, ("{ %s, tie = %q }"):format(text, spec.tie)
end

local function named(fields)
  if not chance(0.3) then return nil end
  local spec, text = criterion "loss"
  fields[#fields + 1] = ("bests = { { name = \"low\", %s, tie = \"last\", keep = 2%s } }"):format(text,
    pick { "", ", alias = false", ", alias = \"low-{epoch}-{step}.pth\"" })
  return { rules = { spec }, tie = "last", keep = 2 }
end

-- Each pool with a chance: its field and what the oracle reads.
local function keep(with_bytes)
  local pools, fields = {}, {}
  local function add(p, name, value, text)
    if not chance(p) then return end
    pools[name] = value
    fields[#fields + 1] = text or ("%s = %s"):format(name, value)
  end
  add(0.7, "last", math.random(0, 3))
  add(0.7, "best", math.random(0, 3))
  add(0.3, "epochs", math.random(1, 5))
  if pools.epochs then fields[#fields] = ("every = { epochs = %d }"):format(pools.epochs) end
  add(0.2, "hourly", math.random(0, 3))
  add(0.2, "daily", math.random(0, 2))
  add(0.2, "pin", "*1*", "pin = { '*1*' }")
  if with_bytes then
    add(0.2, "max_bytes", math.random(0, 400))
    add(0.2, "ceiling", math.random(0, 400))
  end
  return pools, ("keep = { %s }"):format(table.concat(fields, ", "))
end

local function when(stepped)
  local list = { "epochs = 2", "epochs = 3", "minutes = 30", "hours = 2", "epochs = 2, minutes = 90", "final = false",
                 "epochs = 2, best = false" }
  if stepped then list[#list + 1] = "steps = 100" end
  return ("when = { %s }"):format(pick(list))
end

---A policy's text, and what it says: { best, low, keep }.
function M.policy(stepped, with_bytes)
  local fields, said = {}, {}
  local text
  said.best, text = best("acc", "loss")
  fields[1] = "best = " .. text
  said.low = named(fields)
  said.keep, text = keep(with_bytes)
  fields[#fields + 1] = text
  local names = { "model_{infix}{epoch}.pth", "model_{infix}{epoch}.pth", "e{epoch:03d}.pth", "{date}-{epoch}.pth" }
  if stepped then names[#names + 1] = "e{epoch}-s{step:05d}.pth" end
  fields[#fields + 1] = ("name = %q"):format(pick(names))
  if chance(0.3) then
    fields[#fields + 1] = when(stepped)
    said.when = true
  end
  if chance(0.15) then fields[#fields + 1] = "reuse = false" end
  if chance(0.15) then fields[#fields + 1] = "latest = false" end
  if chance(0.15) then fields[#fields + 1] = pick { "best_alias = false", "best_alias = 'top-{epoch}-{step}.pth'" } end
  text = ("return {\n  %s,\n}\n"):format(table.concat(fields, ",\n  "))
  if not stepped then text = text:gsub("%-{step}", "") end
  return text, said
end

-- ---- the definitions ----

local function is_finite(value) return value ~= nil and value == value and value ~= INF and value ~= -INF end

local function better(spec, now, old)
  local first = spec.rules[1].metric
  if not is_finite(now[first]) then return false end
  if not old then return true end
  local exact = true
  for _, rule in ipairs(spec.rules) do
    local a, b = now[rule.metric], old[rule.metric]
    exact = exact and rule.delta == 0
    if is_finite(a) ~= is_finite(b) then return is_finite(a) end
    if is_finite(a) then
      local gain = rule.mode == "max" and a - b or b - a
      if gain > rule.delta then return true end
      if -gain > rule.delta then return false end
    end
  end
  return exact and spec.tie == "last"
end

local function winner(spec, saves)
  local top
  for _, save in ipairs(saves) do
    if better(spec, save.metrics, top and top.metrics) then top = save end
  end
  return top
end

local function position(save) return save.epoch * 1000000 + (save.step or 0) end

---The run's saves by the ledger: each { epoch, step, file, time, metrics }, what a run that went back overtook left out.
function M.saves(ledger)
  local saves = {}
  for _, entry in ipairs(ledger) do
    while #saves > 0 and position(saves[#saves]) > position(entry) do table.remove(saves) end
    local last = saves[#saves]
    if not (last and position(last) == position(entry) and last.file == entry.file) then
      last = { epoch = entry.epoch, step = entry.step, file = entry.file, metrics = {} }
      saves[#saves + 1] = last
    end
    if entry.event == "save" then last.metrics = {} end
    last.time = entry.time
    for name, value in pairs(entry.metrics) do last.metrics[name] = value end
  end
  return saves
end

---The best by definition, or nil.
function M.best(spec, saves) return winner(spec, saves) end

local function add_best(spec, saves, here, n, wanted)
  local rest = table.move(here, 1, #here, 1, {})
  for place = 1, n do
    local top = place == 1 and winner(spec, saves) or winner(spec, rest)
    local at
    for i, save in ipairs(rest) do at = save == top and i or at end
    if not at then
      top = winner(spec, rest)
      for i, save in ipairs(rest) do at = save == top and i or at end
    end
    if not at then return end
    wanted[rest[at].file] = "best"
    table.remove(rest, at)
  end
end

local function add_latest(here, n, seconds, wanted, name)
  local seen, left = nil, n
  for i = #here, 1, -1 do
    local span = here[i].time // seconds
    if left > 0 and span ~= seen then
      wanted[here[i].file], seen, left = name, span, left - 1
    end
  end
end

---File -> a pool that wants it, of the saves that are `here` (with the ceiling: of those it does not touch).
function M.wanted(said, saves, here)
  local keeps, wanted = said.keep, {}
  add_best(said.best, saves, here, keeps.ceiling and 1 or math.max(keeps.best or 0, 1), wanted)
  if said.low then add_best(said.low, saves, here, keeps.ceiling and 1 or said.low.keep, wanted) end
  if #here > 0 then wanted[here[#here].file] = "newest" end
  for _, save in ipairs(keeps.pin and here or {}) do
    if save.file:find("1", 1, true) then wanted[save.file] = "pin" end
  end
  if keeps.ceiling then return wanted end
  for i = 1, math.min(keeps.last or 0, #here) do wanted[here[#here - i + 1].file] = "last" end
  add_latest(here, keeps.hourly or 0, 3600, wanted, "hourly")
  add_latest(here, keeps.daily or 0, 86400, wanted, "daily")
  local is_here = {}
  for _, save in ipairs(here) do is_here[save] = true end
  for i, save in ipairs(keeps.epochs and saves or {}) do
    local before = saves[i - 1] and saves[i - 1].epoch or 0
    local crossed = save.epoch // keeps.epochs > before // keeps.epochs or i == 1 and save.epoch == 0
    if crossed and is_here[save] then wanted[save.file] = "every" end
  end
  local left = keeps.max_bytes or 0
  for i = #here, 1, -1 do
    left = left - 100
    if left < 0 then break end
    wanted[here[i].file] = "max_bytes"
  end
  return wanted
end

return M
