-- history.lua: what the ledger says about the run. Part of policies/default.lua.
--
-- A point is one save: { epoch, step, file, time, bytes, metrics, stale, at }, in the order of the epochs (`at` is its
-- place among them, `folds` what best.lua has found of it and those before it). The best is
-- found among all of them by their metrics, so that a run killed between save and save_best loses no candidate; a
-- save whose epoch set no metric has none in the ledger.
-- A run that goes back (an older checkpoint was resumed, or the directory is used afresh) overtakes its own later
-- entries: those are no points any more, so that they neither win as the best nor are deleted as old.
-- All of it comes from the ledger alone: a restart, or a move of the directory, changes nothing.
local M = {}

-- ---- points ----

local function is_later(a, b)
  if a.epoch ~= b.epoch then return a.epoch > b.epoch end
  return (a.step or 0) > (b.step or 0)
end

local function is_same(a, b) return a.epoch == b.epoch and (a.step or 0) == (b.step or 0) end

-- The metrics of a save and of the save_best after it are those of one point; the later ones win. A save that is made
-- again wrote the file anew: what was measured before is of other weights.
local function merge(point, entry)
  for name, value in pairs(entry.metrics or {}) do point.metrics[name] = value end
  point.time = entry.time or point.time
  if entry.bytes and entry.bytes > 0 then point.bytes = entry.bytes end
end

-- The place in `points` of what `entry` is about: that of the point it repeats, or the one after the last that it does
-- not overtake.
local function place_of(points, entry)
  local n = #points
  while n > 0 and is_later(points[n], entry) do n = n - 1 end
  local last = points[n]
  if last and is_same(last, entry) and last.file == entry.file then return n, last end
  return n + 1, nil
end

local function copy_of(point)
  local copy = { epoch = point.epoch, step = point.step, file = point.file, time = point.time, bytes = point.bytes,
                 stale = point.stale, at = point.at, metrics = {} }
  for name, value in pairs(point.metrics) do copy.metrics[name] = value end
  return copy
end

-- ---- the ledger, digested ----

---@class ckpt.Digest
---@field n integer entries that are taken in
---@field points ckpt.Point[]
---@field by_file table<string, ckpt.Point> the last point of each name: an earlier one's content is gone
---@field aliases table<string, true> every name that was ever an alias
---@field pins table<string, true> what `ckpt pin` has pinned

local function new_digest() return { n = 0, points = {}, by_file = {}, aliases = {}, pins = {} } end

local function take_save(digest, entry)
  local points = digest.points
  local at, same = place_of(points, entry)
  for i = #points, at + (same and 1 or 0), -1 do points[i] = nil end
  if same and entry.event == "save" then same.metrics = {} end
  if not same then
    same = { epoch = entry.epoch, step = entry.step, file = entry.file, metrics = {}, at = at }
    points[at] = same
  end
  local earlier = digest.by_file[entry.file]
  if earlier then earlier.stale = true end
  same.stale = false
  digest.by_file[entry.file] = same
  same.folds = nil
  merge(same, entry)
end

-- A file that proved not to be valid: its save is no candidate and no best any more.
local function take_corrupt(digest, file)
  local point = digest.by_file[file]
  if not point or point.stale or digest.points[point.at] ~= point then return end
  point.stale, point.metrics = true, {}
  for i = point.at, #digest.points do digest.points[i].folds = nil end
end

local function take(digest, entry)
  local event = entry.event
  if event == "corrupt" and entry.file then take_corrupt(digest, entry.file) end
  if (event == "save" or event == "best") and entry.file and entry.epoch then take_save(digest, entry) end
  if event == "pin" and entry.file then digest.pins[entry.file] = true end
  if event == "unpin" and entry.file then digest.pins[entry.file] = nil end
  for _, name in ipairs(entry.aliases or {}) do digest.aliases[name] = true end
end

-- A ledger only grows: of the one that was seen last, only what is new is read.
local last_ledger, last_digest

local function digest_of(run)
  local ledger = run.ledger
  local digest = ledger == last_ledger and last_digest or new_digest()
  if digest.n > #ledger then digest = new_digest() end
  last_ledger, last_digest = ledger, digest
  for i = digest.n + 1, #ledger do take(digest, ledger[i]) end
  digest.n = #ledger
  return digest
end

-- ---- questions ----

-- Adds the save that is being made to a list of points that are shared with others.
local function add_now(digest, points, now)
  local at, same = place_of(points, now)
  for i = #points, at + 1, -1 do points[i] = nil end
  points[at] = same and copy_of(same)
    or { epoch = now.epoch, step = now.step, file = now.file, metrics = {}, stale = false, at = at }
  if now.event == "save" then points[at].metrics = {} end
  points[at].stale = false
  merge(points[at], now)
  local earlier = digest.by_file[now.file]
  if earlier and earlier.at < at and points[earlier.at] == earlier then
    points[earlier.at] = copy_of(earlier)
    points[earlier.at].stale = true
  end
end

---The run's saves by the ledger, and `now` ({ event, epoch, step, time, file, metrics }) as the last of them.
---@param run ckpt.Run
---@param now table?
---@return ckpt.Point[]
function M.points(run, now)
  local digest = digest_of(run)
  local points = table.move(digest.points, 1, #digest.points, 1, {})
  if now then add_now(digest, points, now) end
  return points
end

---The saves before this one.
---@param run ckpt.Run
---@return ckpt.Point[]
function M.before(run)
  local points = M.points(run)
  while #points > 0 and not is_later(run, points[#points]) do points[#points] = nil end
  return points
end

---The point among `points` whose content the file of that name has; nil if they do not say.
---@param run ckpt.Run
---@param points ckpt.Point[]
---@param name string
---@return ckpt.Point?
function M.holder(run, points, name)
  local point = digest_of(run).by_file[name]
  return point and points[point.at] == point and not point.stale and point or nil
end

---The last save that the ledger has of this very epoch and step.
---@param run ckpt.Run
---@return ckpt.LedgerEntry?
local function last_of_now(run)
  for i = #run.ledger, 1, -1 do
    local entry = run.ledger[i]
    if entry.event == "save" or entry.event == "best" then
      return entry.epoch == run.epoch and entry.step == run.step and entry or nil
    end
    if entry.event ~= "pin" and entry.event ~= "unpin" then return nil end
  end
  return nil
end

---The ledger's entry, if `file` is what the last save of this very epoch and step wrote.
---@param run ckpt.Run
---@param file string
---@return ckpt.LedgerEntry?
function M.just_saved(run, file)
  local last = last_of_now(run)
  return last and last.file == file and M.files(run)[file] and last or nil
end

---Every name that was ever another name of a checkpoint of this run.
---@param run ckpt.Run
---@return table<string, true> not to be changed
function M.aliases(run) return digest_of(run).aliases end

---What `ckpt pin` has pinned.
---@param run ckpt.Run
---@return table<string, true> not to be changed
function M.pins(run) return digest_of(run).pins end

---Name -> file of what is in the directory.
---@param run ckpt.Run
---@return table<string, ckpt.File>
function M.files(run)
  local files = {}
  for _, file in ipairs(run.files) do files[file.name] = file end
  return files
end

return M
