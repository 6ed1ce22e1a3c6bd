-- names.lua: templates of file names, globs over keys, and lists as text. Part of policies/default.lua.
local dates = require "policies.default.dates"

local M = {}

-- ---- globs ----

-- Plain searches only: a pattern of the user's cannot cost more than its length times the text's.
local function split_stars(glob)
  local parts, from = {}, 1
  while true do
    local star = glob:find("*", from, true)
    parts[#parts + 1] = glob:sub(from, star and star - 1)
    if not star then return parts end
    from = star + 1
  end
end

---Whether `text` as a whole matches `glob`, where * stands for any characters.
---@param glob string
---@param text string
---@return boolean
function M.matches(glob, text)
  local parts = split_stars(glob)
  local first, last = parts[1], parts[#parts]
  if #parts == 1 then return text == glob end
  if #text < #first + #last or text:sub(1, #first) ~= first then return false end
  if last ~= "" and text:sub(-#last) ~= last then return false end
  local at = #first + 1
  for i = 2, #parts - 1 do
    local from, to = text:find(parts[i], at, true)
    if not from or to > #text - #last then return false end
    at = to + 1
  end
  return true
end

---@param globs string[]?
---@param text string
---@return boolean
function M.matches_any(globs, text)
  for _, glob in ipairs(globs or {}) do
    if M.matches(glob, text) then return true end
  end
  return false
end

-- ---- templates ----

-- A number as it stands in a name or a log line. C may print a NaN with a sign.
function M.number(value, spec)
  if value ~= value then return "nan" end
  if spec then return spec:format(value) end
  if math.type(value) == "integer" then return tostring(value) end
  return ("%.4f"):format(value)
end

local FIELD = "{([%w_][%w_./%-]*):?([^}]*)}" -- a metric may be called val/acc
local DATES = { date = "%Y-%m-%d", time = "%H%M%S" }

-- `%` and what follows the colon of {epoch:03d}.
local function spec_of(text)
  if text == "" then return nil end
  return text:sub(1, 1) == "%" and text or "%" .. text
end

local function value_of(run, name)
  if name == "infix" then return run.options.infix or "epoch" end
  if name == "epoch" or name == "step" then return run[name] end
  local metric = run.metrics[name]
  return metric == nil and run.options[name] or metric
end

local function expand_field(run, name, spec)
  if DATES[name] and run.time then return dates.format(spec == "" and DATES[name] or spec, run.time) end
  local value = value_of(run, name)
  if value == nil then error(("this save has no epoch, step, metric or option '%s'"):format(name), 0) end
  if type(value) == "string" then return (value:gsub("[/%c]", "_")) end -- a name is one component of a path
  return M.number(value, spec_of(spec))
end

---The file name that a template gives at this save: {infix}, {epoch}, {step}, {metric}, {option}, {epoch:03d},
---{acc:.2f}, {date}, {time}, {date:%Y%m%d}.
---@param template string
---@param run ckpt.Run
---@return string
function M.expand(template, run)
  return (template:gsub(FIELD, function(name, spec)
    local ok, text = pcall(expand_field, run, name, spec)
    if not ok then error(("name '%s': %s"):format(template, text:gsub("^%S*:%d+: ", "")), 0) end
    return text
  end))
end

local FIXED = { infix = true } -- the same at every save, and so are options

-- A template with fields must tell saves apart, or a save would overwrite another that is to be kept.
local function check_template(template, run)
  local varies, unique = false, false
  for name in template:gmatch(FIELD) do
    unique = unique or name == "epoch" or name == "step" or name == "time"
    varies = varies or not FIXED[name] and (run.options[name] == nil or run.metrics[name] ~= nil)
  end
  if varies and not unique then
    error(("name '%s' can give two saves the same name: it needs {epoch}, {step} or {time}"):format(template), 0)
  end
  return varies
end

---The name of the file of this save. Where an earlier save of the run, at another step, has the name, the step is
---added: model_epoch3.pth, model_epoch3-s200.pth. Only a template without any field overwrites.
---@param template string
---@param run ckpt.Run
---@param is_taken fun(name: string): boolean whether a save before this one has the name
---@return string
function M.file(template, run, is_taken)
  local name, varies = M.expand(template, run), check_template(template, run)
  if not varies or not run.step or not is_taken(name) then return name end
  local stem, suffix = name:match("^(.+)(%.[^.]*)$")
  return ("%s-s%d%s"):format(stem or name, run.step, suffix or "")
end

local function escape(text) return (text:gsub("%W", "%%%0")) end

-- The Lua pattern of a template's names, with one capture for the epoch; nil if it has none, or so many other fields
-- that a match could take long.
local function pattern_of(template, infix)
  local epochs, others = 0, 0
  local pattern = escape(template):gsub("%%{([%w_]+).-%%}", function(name)
    if name == "infix" then return escape(infix) end
    if name ~= "epoch" then
      others = others + 1
      return ".-"
    end
    epochs = epochs + 1
    return "(%d+)"
  end)
  return epochs == 1 and others <= 2 and "^" .. pattern .. "$" or nil
end

local LONGEST = 100 -- bytes: matching a longer name could cost more than it is worth

---A function that tells the epoch in a file's name, or nil. Knows the template's names, model_<infix>N.pth, and
---Pet's model_<infix>N-<metric>.pth.
---@param template string
---@param infix string
---@return fun(name: string): integer?
function M.epoch_reader(template, infix)
  local patterns = { "^model_%D*(%d+)%.pth$", "^model_%D*(%d+)%-s%d+%.pth$", "^model_%D*(%d+)%-[%d%. naif-]*%.pth$" }
  local own = pattern_of(template, infix)
  if own then table.insert(patterns, 1, own) end
  return function(name)
    if #name > LONGEST then return nil end
    for _, pattern in ipairs(patterns) do
      local epoch = math.tointeger(tonumber(name:match(pattern)))
      if epoch then return epoch end
    end
    return nil
  end
end

-- ---- lists as text ----

---"a, b, c, ... (4 more)"
---@param items string[]
---@param most integer?
---@return string
function M.list(items, most)
  most = most or 5
  if #items <= most then return table.concat(items, ", ") end
  return ("%s, ... (%d more)"):format(table.concat(items, ", ", 1, most), #items - most)
end

---@param list string[]
---@param item string
---@return boolean
function M.contains(list, item)
  for _, other in ipairs(list) do
    if other == item then return true end
  end
  return false
end

return M
