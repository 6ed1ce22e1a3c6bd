-- check.lua: whether one checkpoint is whole: structure and bounds (opening), the checksums of its records, and on
-- request that every number in it is finite. All failures are found, not only the first.

local ckpt = require "ckpt"
local progress = require "scripts.cli.progress"
local run_dir = require "scripts.cli.run_dir"

local M = {}

---@class check.Failure
---@field what string a sentence that begins with the file
---@field record string?
---@field tensor string?
---@field byte integer?
---@field code string

---@class check.Result
---@field file string
---@field ok boolean
---@field format string?
---@field bytes integer?
---@field tensors integer?
---@field records integer? with bytes in them
---@field checksums integer? of these, with a checksum
---@field failures check.Failure[]
---@field epoch integer?

local function add(result, message, code, fields)
  fields = fields or {}
  if not message:find(result.file, 1, true) then message = result.file .. ": " .. message end
  fields.what, fields.code, fields.byte = message, code, math.tointeger(message:match("byte (%d+)"))
  table.insert(result.failures, fields)
end

local function total_of(records)
  local sum = 0
  for _, record in ipairs(records) do sum = sum + record.bytes end
  return sum
end

-- An empty record has nothing to be checked, and the CRC-32 of nothing is 0.
local function check_records(result, cp)
  local records = cp:records()
  local bar = progress.new("checking " .. result.file, total_of(records))
  result.records, result.checksums = 0, 0
  for i, record in ipairs(records) do
    if record.bytes > 0 then
      result.records = result.records + 1
      result.checksums = result.checksums + (record.crc and 1 or 0)
      local ok, message, code = cp:check_record(i)
      if not ok then add(result, message, code, { record = record.name }) end
    end
    bar:step(record.bytes)
  end
  bar:done()
  local ok, message, code = cp:check_contents()
  if not ok then add(result, message, code) end
end

local function nonfinite_text(entry, stats)
  local words = {}
  if stats.nan > 0 then words[#words + 1] = stats.nan .. " NaN" end
  if stats.inf > 0 then words[#words + 1] = stats.inf .. " infinite" end
  return ("tensor '%s': %d of %d values are not finite (%s)"):format(entry.name, stats.nonfinite, stats.count,
    table.concat(words, ", "))
end

local function check_values(result, tensors)
  local bar = progress.new("reading " .. result.file, result.bytes)
  for _, entry in ipairs(tensors) do
    local stats, message, code
    if not entry.tensor:is_meta() then stats, message, code = entry.tensor:stats() end
    if message and code ~= "unsupported" then
      add(result, ("tensor '%s': %s"):format(entry.name, message), code, { tensor = entry.name })
    elseif stats and stats.nonfinite > 0 then
      add(result, nonfinite_text(entry, stats), "nonfinite", { tensor = entry.name })
    end
    bar:step(entry.tensor.nbytes)
  end
  bar:done()
end

local function look(result, cp, values)
  local tensors, message, code = cp:list()
  if not tensors then return add(result, message, code) end
  result.format, result.bytes, result.tensors, result.epoch = cp.format, cp.bytes, #tensors, run_dir.epoch_in(cp)
  check_records(result, cp)
  if values then check_values(result, tensors) end
end

---@param path string
---@param values boolean also look at every number
---@param options table? of ckpt.open
---@return check.Result
function M.file(path, values, options)
  local result = { file = path, failures = {} }
  local cp, message, code = ckpt.open(path, options)
  if cp then
    look(result, cp, values)
    cp:close()
  else
    add(result, message, code)
  end
  result.ok = #result.failures == 0
  return result
end

return M
