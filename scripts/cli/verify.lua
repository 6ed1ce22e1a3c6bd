-- verify.lua: `ckpt verify PATH...`: whether checkpoints are whole; for a run's directory also which one a resume would
-- take, and why not the others.

local ckpt = require "ckpt"
local believe = require "scripts.cli.believe"
local check = require "scripts.cli.check"
local json = require "scripts.cli.json"
local plan_run = require "scripts.cli.plan_run"
local run_dir = require "scripts.cli.run_dir"
local status = require "scripts.cli.status"
local text = require "scripts.cli.text"

local M = { summary = "Check that checkpoints are whole: structure, bounds, checksums, values." }

local LEDGER = "ckpt.jsonl"

---@param command table the argparse command
function M.declare(command)
  command:argument("PATH", "Checkpoints and run directories."):target("paths"):args("+")
  command:flag("--values", "Also read every number: NaN and infinity fail.")
  run_dir.declare(command)
  believe.declare(command)
  command:flag("--json", "One line of JSON.")
  command:epilog "Exit status: 0 whole, 1 something fails, 2 bad usage, 3 a file cannot be read."
end

-- ---- a run's directory ----

local CHECKPOINT_NAMES = { "%.pth$", "%.pt$", "%.ckpt$", "%.bin$", "%.safetensors$", "%.th$", "%.tar$" }

local function should_be_checkpoint(file)
  for _, pattern in ipairs(CHECKPOINT_NAMES) do
    if file.name:find(pattern) then return true end
  end
  return false
end

-- A file of another kind is no failure of a run, unless its name says that it is a checkpoint.
local function is_foreign(result, file)
  local failure = result.failures[1]
  return failure ~= nil and failure.code == "format" and not should_be_checkpoint { name = file.file }
end

local function check_files(run, dir, files, ledger, values)
  for _, file in ipairs(run_dir.group(files, ledger)) do
    local result = file.file ~= LEDGER and check.file(run_dir.join(dir, file.file), values)
    if result and is_foreign(result, file) then
      run.others = run.others + 1
    elseif result then
      result.name, result.aliases, result.inode = file.file, file.aliases, file.inode
      table.insert(run.results, result)
    end
  end
end

-- Why a resume does not take this file.
local function why_not(result, chosen)
  if not result.ok then return "it fails" end
  if not chosen then return "the run does not resume" end
  if result.epoch and chosen.epoch and result.epoch < chosen.epoch then
    return ("its epoch is %d"):format(result.epoch)
  end
  return "the policy asks for the other first"
end

local function explain(run, dir)
  local chosen
  for _, result in ipairs(run.results) do
    for _, name in ipairs { result.name, table.unpack(result.aliases) } do
      if run_dir.join(dir, name) == run.resume.path then chosen = result end
    end
  end
  for _, result in ipairs(run.results) do
    if result ~= chosen then result.why_not = why_not(result, chosen) end
  end
end

---@return table? run { dir, results, resume, others }
---@return string? message
---@return string? code
local function verify_run(dir, args)
  local cp, files, ledger, message, code
  cp, message, code = run_dir.open_existing { dir = dir, policy = args.policy, set = args.set }
  if not cp then return nil, message, code end
  files, ledger, code = cp:files()
  if not files then return nil, ledger, code end
  local run = { dir = dir, results = {}, others = 0 }
  check_files(run, dir, files, ledger, args.values)
  run.resume, message, code = plan_run.resume(cp, dir)
  if not run.resume then return nil, message, code end
  explain(run, dir)
  return run
end

-- A directory that is one checkpoint (sharded, distributed) rather than a run of many.
local function is_one_checkpoint(path, args)
  local ledger <close> = io.open(run_dir.join(path, LEDGER), "rb")
  if ledger then return false end
  local cp, _, code = ckpt.open(path, believe.options(args))
  if cp then cp:close() end
  return cp ~= nil or (code ~= "notfound" and code ~= "io" and code ~= "format")
end

-- ---- JSON ----

local ORDER = { "ok", "files", "resume" }
local FILE_ORDER = { "file", "ok", "format", "bytes", "tensors", "records", "checksums", "failures", "not_resumed" }
local FAILURE_ORDER = { "what", "code", "record", "tensor", "byte" }

local function file_object(result)
  local failures = {}
  for i, failure in ipairs(result.failures) do failures[i] = json.object(FAILURE_ORDER, failure) end
  return json.object(FILE_ORDER, {
    file = result.file, ok = result.ok, format = result.format or json.null, bytes = result.bytes or json.null,
    tensors = result.tensors or json.null, records = result.records, checksums = result.checksums,
    failures = failures, not_resumed = result.why_not,
  })
end

local function print_json(parts, ok)
  local files, resume = {}, {}
  for _, part in ipairs(parts) do
    for _, result in ipairs(part.results) do files[#files + 1] = file_object(result) end
    if part.resume then resume[#resume + 1] = plan_run.resume_object(part.dir, part.resume) end
  end
  json.print(json.object(ORDER, { ok = ok, files = files, resume = resume }))
end

-- ---- text ----

local function checksum_text(result)
  if not result.records or result.records == 0 then return "no checksums" end
  return ("%d of %s with a checksum"):format(result.checksums, text.plural(result.records, "record"))
end

local function print_result(result)
  for _, failure in ipairs(result.failures) do text.say(text.printable(failure.what)) end
  if not result.ok then return end
  local format = result.format:gsub("-", " ")
  text.say(text.wrap(("%s: ok, %s, %s, %s, %s"):format(text.printable(result.file), format, text.size(result.bytes),
    text.plural(result.tensors, "tensor"), checksum_text(result)), "  "))
end

-- Files with one reason on one line.
local function print_reasons(results)
  local names, order = {}, {}
  for _, result in ipairs(results) do
    local why = result.why_not
    if why and not names[why] then order[#order + 1], names[why] = why, {} end
    if why then table.insert(names[why], result.name) end
  end
  for _, why in ipairs(order) do
    text.say(text.wrap(("not %s: %s"):format(text.some(names[why], 8), why), "    ", "  "))
  end
end

local function print_run(run)
  if #run.results == 0 then text.say(text.printable(run.dir) .. ": no checkpoints") end
  text.say(text.wrap("resume takes " .. plan_run.resume_text(run.resume), "  "))
  print_reasons(run.results)
end

local function print_text(parts)
  local n, failed = 0, 0
  for _, part in ipairs(parts) do
    for _, result in ipairs(part.results) do
      print_result(result)
      n, failed = n + 1, failed + (result.ok and 0 or 1)
    end
    if part.resume then print_run(part) end
  end
  if n > 1 or failed > 0 then
    text.say(failed == 0 and ("all %d files are whole"):format(n) or
      ("%d of %s failed"):format(failed, text.plural(n, "file")))
  end
end

-- ---- the command ----

local function verify_path(path, args)
  if not run_dir.is_directory(path) or is_one_checkpoint(path, args) then
    return { results = { check.file(path, args.values, believe.options(args)) } }
  end
  return verify_run(path, args)
end

local UNREADABLE = { notfound = true, io = true }

-- 3 for a file that cannot be read at all, 1 for one that is not whole, or a resume that fails.
local function status_of(parts)
  local worst = status.OK
  for _, part in ipairs(parts) do
    if part.resume and part.resume.message then worst = math.max(worst, status.FAILED) end
    for _, result in ipairs(part.results) do
      for _, failure in ipairs(result.failures) do
        worst = math.max(worst, UNREADABLE[failure.code] and status.FILE or status.FAILED)
      end
    end
  end
  return worst
end

---@param args table
---@return integer status
function M.run(args)
  local parts = {}
  for i, path in ipairs(args.paths) do
    local part, message, code = verify_path(path, args)
    if not part then return status.fail(message, code, path) end
    parts[i] = part
  end
  local worst = status_of(parts)
  if args.json then print_json(parts, worst == status.OK) else print_text(parts) end
  return worst
end

return M
