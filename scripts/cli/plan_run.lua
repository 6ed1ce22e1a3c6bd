-- plan_run.lua: `ckpt plan DIR`, which checkpoint a resume would take; `ckpt plan --save DIR`, what a save would do.

local ckpt = require "ckpt"
local json = require "scripts.cli.json"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = {}

-- ---- resume ----

-- Files newer than the chosen one (all, if none is) that do not verify: { file, why }.
local function refused(dir, files, chosen)
  local list, seen, since = {}, { [chosen and chosen.inode or -1] = true }, chosen and chosen.mtime or 0
  for _, file in ipairs(files) do
    if file.name:find("%.pth$") and not seen[file.inode] and file.mtime >= since then
      local cp, message = ckpt.open(run_dir.join(dir, file.name), { verify = true })
      if cp then cp:close() else list[#list + 1] = { file = file.name, why = message } end
      seen[file.inode] = true
    end
  end
  return list
end

local function find_file(dir, files, path)
  for _, file in ipairs(files) do
    if path == run_dir.join(dir, file.name) then return file end
  end
end

local function epoch_of(path)
  local cp = ckpt.open(path)
  return cp and run_dir.epoch_in(cp)
end

---@class plan_run.Resume
---@field mode string? nil when no candidate could be read
---@field path string?
---@field epoch integer?
---@field refused { file: string, why: string }[]
---@field message string? why there is no mode
---@field code string?

---What a resume in the directory would take. Nothing is bound, so the load contract is not asked.
---@param cp userdata a checkpointer of the directory
---@param dir string
---@return plan_run.Resume?, string? message, string? code
function M.resume(cp, dir)
  local files, ledger, code = cp:files()
  if not files then return nil, ledger, code end
  local plan, message
  plan, message, code = cp:plan_load()
  if not plan then
    return { message = message, code = code, refused = code == "policy" and {} or refused(dir, files) }
  end
  local chosen = plan.path and find_file(dir, files, plan.path)
  return { mode = plan.mode, path = plan.path, epoch = plan.path and epoch_of(plan.path),
           refused = (chosen or not plan.path) and refused(dir, files, chosen) or {} }
end

---"epoch 24 (model_epoch24.pth, verified)", or what happens instead.
---@param resume plan_run.Resume
---@return string
function M.resume_text(resume)
  if resume.message then return "nothing: " .. text.printable(resume.message) end
  if resume.mode == "scratch" then return "nothing: a run here starts from scratch" end
  local name = text.printable(resume.path:match("[^/]+$") or resume.path)
  if not resume.epoch then return ("%s (verified)"):format(name) end
  return ("epoch %d (%s, verified)"):format(resume.epoch, name)
end

local RESUME_ORDER = { "dir", "mode", "path", "epoch", "verified", "refused", "error" }

---@param dir string
---@param resume plan_run.Resume
---@return table for json.print
function M.resume_object(dir, resume)
  local list = {}
  for i, item in ipairs(resume.refused) do list[i] = json.object({ "file", "why" }, item) end
  return json.object(RESUME_ORDER, {
    dir = dir, mode = resume.mode or json.null, path = resume.path or json.null, epoch = resume.epoch or json.null,
    verified = resume.path ~= nil, refused = list, error = resume.message,
  })
end

local function print_resume(resume)
  if resume.mode then text.say("resume takes " .. M.resume_text(resume)) end
  for _, item in ipairs(resume.refused) do
    if item.why ~= resume.message then text.say(text.wrap("refused: " .. text.printable(item.why), "  ")) end
  end
end

---@param args table
---@return integer status
function M.run_resume(args)
  local cp, resume, message, code
  cp, message, code = run_dir.open_existing(args)
  if not cp then return status.fail(message, code) end
  resume, message, code = M.resume(cp, args.dir)
  if not resume then return status.fail(message, code, args.dir) end
  if args.json then json.print(M.resume_object(args.dir, resume)) else print_resume(resume) end
  return resume.message and status.fail(resume.message, resume.code) or status.OK
end

-- ---- save ----

local function number_or_text(word)
  local value = tonumber(word)
  if word == "true" or word == "false" then value = word == "true" end
  if value == nil then return word end
  return value
end

local function prepare(cp, args)
  for _, item in ipairs(args.metric) do cp:set_metric(item[1], item[2]) end
  if args.step then cp:set_step(args.step) end
  for _, item in ipairs(args.value) do
    local group, path = item[1]:match("^([^.]+)%.(.+)$")
    if not group then
      return nil, ("'%s=%s' is not of the form group.key=value"):format(item[1], item[2]), "argument"
    end
    local ok, message, code = cp:set(group, path, number_or_text(item[2]))
    if not ok then return nil, message, code end
  end
  return true
end

-- The epoch after the newest one of the ledger.
local function next_epoch(ledger)
  local newest = 0
  for _, entry in ipairs(ledger) do newest = math.max(newest, entry.epoch or 0) end
  return newest + 1
end

local SAVE_ORDER = { "file", "reuse", "aliases", "retire", "why", "result", "reason", "log", "error" }

local function save_object(answer)
  if answer.error then return json.object(SAVE_ORDER, answer) end
  answer.file = answer.file or json.null
  return json.object(SAVE_ORDER, answer)
end

local NOT_DUE = { reuse = false, result = false, aliases = {}, retire = {}, why = {}, log = {} }

-- The plan of one call; a save that is not due plans nothing.
local function ask(cp, epoch, best)
  local due, why = true, nil
  if not best then due, why = cp:due(epoch) end
  if due == false then return setmetatable({ reason = why }, { __index = NOT_DUE }) end
  local plan, message, code = cp:plan_save(epoch, best)
  return plan or { error = message, code = code }
end

local function print_names(what, names, sizes, why)
  for i, name in ipairs(names) do
    local size = sizes[name] and ("  (%s)"):format(text.size(sizes[name])) or ""
    local reason = why and why[i] and ": " .. text.printable(why[i]) or ""
    text.say(("             %-7s %s%s%s"):format(what, text.printable(name), size, reason))
  end
end

local function print_answer(title, plan, sizes)
  local first = plan.error and "the policy fails: " .. plan.error
    or not plan.file and "writes nothing" .. (plan.reason and ": " .. plan.reason or "")
    or (plan.reuse and "keeps   " or "writes  ") .. plan.file
  text.say(("  %-9s  %s"):format(title, text.printable(first)))
  if plan.error then return end
  print_names("alias", plan.aliases, {})
  print_names("retires", plan.retire, sizes, plan.why)
  for _, line in ipairs(plan.log) do
    text.say(text.wrap(text.printable(line), (" "):rep(21), "             log     "))
  end
end

local function sizes_of(files)
  local sizes = {}
  for _, file in ipairs(files) do sizes[file.name] = file.bytes end
  return sizes
end

-- What is kept once both calls were made, and why: they are played on a copy of the directory in memory.
local function kept_after(args, epoch)
  local set = {}
  for _, item in ipairs(args.set) do set[item[1]] = item[2] end
  local cp <close>, message, code =
    ckpt.checkpointer { dir = args.dir, policy = args.policy, set = set, simulate = true }
  if not cp then return nil, message, code end
  local ok
  ok, message, code = prepare(cp, args)
  if ok then ok, message, code = cp:save(epoch) end
  if ok then ok, message, code = cp:save_best(epoch) end
  if ok == nil then return nil, message, code end
  return cp:kept()
end

local function print_kept(kept)
  local rows = {}
  for i, item in ipairs(kept) do
    rows[i] = { text.printable(item.file), item.why == "" and "no pool wants it" or text.printable(item.why) }
  end
  if #rows > 0 then text.say "after both, there are:" end
  text.print_columns(rows)
end

local function print_save(args, epoch, answers, files)
  text.say(("%s, epoch %d, each call by itself"):format(text.printable(args.dir), epoch))
  print_answer("save", answers[1], sizes_of(files))
  print_answer("save_best", answers[2], sizes_of(files))
  if answers[1].error then
    text.say(("a real save would write model_epoch%d.pth and delete nothing"):format(epoch))
  end
end

---@param args table
---@return integer status
function M.run_save(args)
  local cp, ok, message, code
  cp, message, code = run_dir.open(args, { dir = args.dir, auto_resume = true })
  if not cp then return status.fail(message, code) end
  ok, message, code = prepare(cp, args)
  if not ok then return status.fail(message, code) end
  local files, ledger
  files, ledger, code = cp:files()
  if not files then return status.fail(ledger, code, args.dir) end
  local epoch = args.epoch or next_epoch(ledger)
  local answers = { ask(cp, epoch, false), ask(cp, epoch, true) }
  local kept = not answers[1].error and not answers[2].error and kept_after(args, epoch) or {}
  if args.json then
    local rows = {}
    for i, item in ipairs(kept) do rows[i] = json.object({ "file", "why" }, item) end
    json.print(json.object({ "dir", "epoch", "save", "save_best", "kept" }, {
      dir = args.dir, epoch = epoch, save = save_object(answers[1]), save_best = save_object(answers[2]), kept = rows,
    }))
  else
    print_save(args, epoch, answers, files)
    print_kept(kept)
  end
  return (answers[1].error or answers[2].error) and status.FAILED or status.OK
end

return M
