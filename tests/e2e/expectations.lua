-- expectations.lua DATA: the value trees of ../shared's files against what was written down by hand. Two lines of
-- TAP.

local E = require "tests.e2e.expect"

local data, failed = arg[1], false

local function run(n, folder, files)
  local right, wrong = 0, {}
  for _, file in ipairs(files) do
    local difference = E.difference(("%s/%s/%s"):format(data, folder, file[1]), { file[2], file[3] })
    if difference then wrong[#wrong + 1] = ("# %s: %s"):format(file[1], difference) else right = right + 1 end
  end
  local ok = #wrong == 0 and #files > 0
  failed = failed or not ok
  print(("%s %d - %d of %d files of %s hold what was expected"):format(ok and "ok" or "not ok", n, right, #files,
    folder))
  for _, line in ipairs(wrong) do print(line) end
end

print "1..2"
run(1, "real", require "tests.e2e.expect_real")
run(2, "torch", require "tests.e2e.expect_torch")
os.exit(not failed)
