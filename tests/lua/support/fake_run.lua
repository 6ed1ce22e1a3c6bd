-- fake_run.lua: what a policy gets and what the runtime makes of its plans, in plain Lua: for specs of policies alone.
--
-- State dicts have the interface of the real ones (#sd, sd[name], pairs in order) and hold { shape =, dtype = }.
-- `ckpt.align` is the definition, quadratic. `apply` plays the runtime: it checks a save plan by the contract in
-- policies/README.md and changes run.files, run.ledger and run.values. Loading this file sets the global `ckpt`.
local M = {}

-- ---- values ----

function M.state_dict(rows)
  local tensors = {}
  for _, row in ipairs(rows) do tensors[row[1]] = { shape = row[2], dtype = row[3] or "float32" } end
  local function iterate(_, name)
    local at = 0
    for i, row in ipairs(rows) do
      if row[1] == name then at = i end
    end
    local row = rows[at + 1]
    if row then return row[1], tensors[row[1]] end
    return nil
  end
  return setmetatable({}, {
    __len = function() return #rows end,
    __index = function(_, name) return tensors[name] end,
    __newindex = function() error("a policy must not write into a state dict", 2) end,
    __pairs = function(sd) return iterate, sd, nil end,
  })
end

local function fits(target, source, boundary)
  if target == source then return true end
  if #source >= #target or target:sub(-#source) ~= source then return false end
  return not boundary or target:sub(-#source - 1, -#source - 1) == boundary
end

function M.align(targets, sources, boundary)
  local found = {}
  for t, target in ipairs(targets) do
    found[t] = false
    for s, source in ipairs(sources) do
      local longer = not found[t] or #source >= #sources[found[t]]
      if longer and fits(target, source, boundary) then found[t] = s end
    end
  end
  return found
end

_G.ckpt = { align = M.align, infer = require("ckpt").infer, none = setmetatable({}, { __name = "ckpt.none" }) }

-- ---- run and source ----

local function file_of(file)
  if type(file) == "string" then return { name = file, bytes = 100, mtime = 0 } end
  return file
end

local function by_name(a, b) return a.name < b.name end

function M.run(fields)
  local run = { dir = "runs/x", auto_resume = true, rank = 0, options = {}, files = {}, ledger = {}, metrics = {},
                parts = { "model" }, values = {}, model = {} }
  for key, value in pairs(fields or {}) do run[key] = value end
  run.files, run.ledger = table.move(run.files, 1, #run.files, 1, {}), table.move(run.ledger, 1, #run.ledger, 1, {})
  for i, file in ipairs(run.files) do run.files[i] = file_of(file) end
  table.sort(run.files, by_name)
  run.model = M.state_dict(run.model)
  return run
end

-- `trees`: path -> rows of a state dict; `values`: plain values; `keys`: top-level keys.
function M.source(fields)
  local source = { path = "w.pth", file = "w.pth", mode = "pretrain", format = "torch-zip", keys = {}, values = {} }
  for key, value in pairs(fields) do source[key] = value end
  local trees = fields.trees or {}
  function source.state_dict(path) return trees[path] and M.state_dict(trees[path]) or nil end
  return source
end

function M.entry(fields)
  local entry = { event = "save", time = 0, bytes = 100, best = false, aliases = {}, retired = {}, metrics = {} }
  for key, value in pairs(fields) do entry[key] = value end
  return entry
end

function M.has_file(run, name)
  for i, file in ipairs(run.files) do
    if file.name == name then return i end
  end
  return nil
end

function M.file_names(run)
  local list = {}
  for i, file in ipairs(run.files) do list[i] = file.name end
  return list
end

-- ---- the runtime's part of a save ----

local function put(run, name, inode)
  local at = M.has_file(run, name)
  if at then table.remove(run.files, at) end
  table.insert(run.files, { name = name, bytes = 100, mtime = 0, inode = inode })
  table.sort(run.files, by_name)
end

local function contains(list, item)
  for _, other in ipairs(list) do
    if other == item then return true end
  end
  return false
end

local function check(run, plan)
  local aliases = plan.aliases or {}
  for _, alias in ipairs(aliases) do assert(alias ~= plan.file, "an alias of itself") end
  for _, name in ipairs(plan.retire or {}) do
    assert(plan.file and name ~= plan.file and not contains(aliases, name), "retires what it writes: " .. name)
    assert(M.has_file(run, name), "retires what is not there: " .. name)
  end
  if not plan.reuse then return end
  local epoch
  for _, entry in ipairs(run.ledger) do
    if entry.file == plan.file then epoch = entry.epoch end
  end
  assert(M.has_file(run, plan.file) and epoch == run.epoch, "reuses a file of another epoch: " .. plan.file)
end

local inodes = 0

local function write(run, plan)
  if not plan.reuse then
    inodes = inodes + 1
    put(run, plan.file, inodes)
  end
  local inode = run.files[M.has_file(run, plan.file)].inode
  for _, alias in ipairs(plan.aliases or {}) do put(run, alias, inode) end
  for _, name in ipairs(plan.retire or {}) do table.remove(run.files, M.has_file(run, name)) end
end

local function merge(into, from)
  for key, value in pairs(from) do
    if type(value) == "table" then
      into[key] = into[key] or {}
      merge(into[key], value)
    else
      into[key] = value
    end
  end
end

local function copy(t)
  local out = {}
  merge(out, t)
  return out
end

function M.apply(run, plan, event)
  check(run, plan)
  if not plan.file then return plan end
  merge(run.values, plan.set or {})
  write(run, plan)
  if plan.ledger == false then return plan end
  table.insert(run.ledger, M.entry {
    event = event, time = run.time or 0, epoch = run.epoch, step = run.step, file = plan.file,
    bytes = 100, best = event == "best" and plan.result or false,
    aliases = copy(plan.aliases or {}), retired = copy(plan.retire or {}), metrics = copy(run.metrics),
  })
  return plan
end

local function position(entry) return entry.epoch * 1000000 + (entry.step or 0) end

-- run.last, by its definition: what is left of the ledger when each entry drops those that it goes behind.
local function last_save(run)
  local saves = {}
  for _, entry in ipairs(run.ledger) do
    if (entry.event == "save" or entry.event == "best") and entry.file then
      while #saves > 0 and position(saves[#saves]) > position(entry) do table.remove(saves) end
      saves[#saves + 1] = entry
    end
  end
  while #saves > 0 and position(saves[#saves]) >= position(run) do table.remove(saves) end
  local last = saves[#saves]
  return last and { epoch = last.epoch, step = last.step, time = last.time }
end

-- ckpt_save: a plan that is carried out, or the reason why none was asked for.
function M.save(policy, run)
  run.last = last_save(run)
  local due, why = policy.due(policy, run)
  if not due then return { result = false, reason = why } end
  return M.apply(run, policy.plan_save(policy, run), "save")
end

-- ckpt_save_best
function M.save_best(policy, run)
  run.last = last_save(run)
  return M.apply(run, policy.plan_best(policy, run), "best")
end

-- One epoch of a trainer: metrics, save, save_best. Returns both plans.
function M.epoch(policy, run, epoch, metrics)
  run.epoch, run.metrics = epoch, metrics
  local saved = M.save(policy, run)
  return saved, M.save_best(policy, run)
end

-- ---- comparing ----

-- A text in which 1 and 1.0 differ and keys are in order: for assert.equal on whole plans.
function M.dump(value, indent)
  indent = indent or ""
  if math.type(value) == "float" then
    return value ~= value and "nan" or ("%.17g (float)"):format(value)
  end
  if type(value) ~= "table" then return type(value) == "string" and ("%q"):format(value) or tostring(value) end
  local keys, lines = {}, {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b)
    if type(a) ~= type(b) then return type(a) == "number" end
    return a < b
  end)
  for i, key in ipairs(keys) do
    lines[i] = ("%s  %s = %s"):format(indent, tostring(key), M.dump(value[key], indent .. "  "))
  end
  return "{\n" .. table.concat(lines, "\n") .. "\n" .. indent .. "}"
end

return M
