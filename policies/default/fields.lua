-- fields.lua: what `load` asks for: the run's options before the policy's fields before the defaults. Part of
-- policies/default.lua. A field that is misspelt would quietly relax the contract, so unknown ones are errors.
local M = {}

M.TREES = { "model", "state_dict", "" }
local PREFIXES = { "module.", "_orig_mod." }
M.MAPS = { "vgg16_reducedfc" }
local BOOLEANS = { ["true"] = true, ["1"] = true, ["false"] = false, ["0"] = false }

local FIELDS = { "align", "map", "maps", "on_mismatch", "optimizer", "require", "reset", "rgb2bgr", "strip", "vars",
                 "weights" }
local CONDITIONS = { "bytes", "file", "matched", "max_unexpected", "may_ignore", "may_miss", "must", "parts", "resume" }

-- ---- small helpers ----

local function as_list(value)
  if type(value) == "table" then return value end
  return { value }
end

local function option(run, name)
  local text = run.options[name]
  if BOOLEANS[text] ~= nil then return BOOLEANS[text] end
  return text
end

local function first_set(...)
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    if value ~= nil then return value end
  end
  return nil
end

-- { resume = a, pretrain = b } is a or b; anything else is for both.
local function by_role(value, mode)
  if type(value) ~= "table" or (value.resume == nil and value.pretrain == nil) then return value end
  return value[mode]
end

local function check_names(where, t, known)
  local allowed, unknown = {}, {}
  for _, name in ipairs(known) do allowed[name] = true end
  for name in pairs(t) do
    if not allowed[name] then unknown[#unknown + 1] = tostring(name) end
  end
  if #unknown == 0 then return end
  table.sort(unknown)
  error(("%s has no field '%s'; there are %s"):format(where, unknown[1], table.concat(known, ", ")), 0)
end

local ACTIONS = { skip = true, error = true, overlap = true }

local function check_action(action)
  if type(action) == "function" or ACTIONS[action] then return action end
  error(("load.on_mismatch must be 'skip', 'error', 'overlap' or a function, not '%s'"):format(tostring(action)), 0)
end

local function check_mode(mode)
  if mode == "suffix" or mode == "exact" then return mode end
  error(("align.mode must be 'suffix' or 'exact', not '%s'"):format(tostring(mode)), 0)
end

-- ---- settings ----

---@class ckpt.default.LoadSettings
---@field trees string[]
---@field strip string[] with mode = "each" | "all"
---@field map string|false|table|function|nil nil: not asked for in this mode
---@field matched number
---@field bytes number

-- A prefix that the run's option names goes from each key that has it: who types it has seen the keys.
local function prefixes(load, run)
  local asked = option(run, "strip")
  if asked then return { asked, mode = "each" } end
  return as_list(first_set(load.strip, PREFIXES))
end

-- What is not for a resume unless it is asked for by role: its file is the run's own.
local function map_of(load, run, resuming)
  local map = by_role(load.map, resuming and "resume" or "pretrain")
  if resuming then return map ~= load.map and map or nil end
  return first_set(option(run, "map"), map, "auto")
end

local function contract(set, need)
  set.matched, set.resume, set.bytes = need.matched or 0.5, need.resume or 1, need.bytes or 0
  set.must, set.may_miss, set.may_ignore = need.must, need.may_miss, need.may_ignore
  set.max_unexpected, set.parts, set.file = need.max_unexpected, need.parts ~= false, need.file
end

---@param policy ckpt.Policy
---@param run ckpt.Run
---@param mode "resume"|"pretrain"
---@return ckpt.default.LoadSettings
function M.read(policy, run, mode)
  local load, resuming = policy.load or {}, mode == "resume"
  local align, need = load.align or {}, load.require or {}
  check_names("load", load, FIELDS)
  check_names("load.require", need, CONDITIONS)
  local set = {
    resuming = resuming,
    trees = as_list(first_set(by_role(load.weights, mode), M.TREES)),
    strip = prefixes(load, run),
    map = map_of(load, run, resuming), maps = load.maps or M.MAPS, vars = load.vars,
    rgb2bgr = not resuming and first_set(option(run, "rgb2bgr"), load.rgb2bgr, false),
    mode = check_mode(align.mode or "suffix"), boundary = first_set(align.boundary, "."), fanout = align.fanout,
    on_mismatch = check_action(load.on_mismatch or "skip"),
    reset = not resuming and load.reset and as_list(load.reset) or {},
    optimizer = resuming or first_set(option(run, "optimizer"), load.optimizer, false),
    verbose = first_set(option(run, "verbose"), false),
  }
  contract(set, need)
  return set
end

return M
