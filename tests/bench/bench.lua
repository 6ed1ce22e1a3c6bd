-- bench.lua: drives the benchmark: ours, the peer and the machine in turn, medians with their spread, ratios beside
-- their targets. What is measured lies in rows.lua. `lua5.4 tests/bench/bench.lua --help` lists the options.
local here = arg[0]:match("^(.*)/") or "."
package.path = here .. "/?.lua;" .. package.path
local lists = require "rows"

local USAGE = [[
usage: bench.lua [--mb N] [--runs N] [--only ID,ID...] [--json FILE] [--no-counts]
  --mb N        size of the VGG16 in megabytes (553)
  --runs N      measurements of each side of a row (7)
  --only IDS    these rows only
  --json FILE   everything measured, as JSON ("-": on standard output, without the table)
  --no-counts   no instruction counts (they need valgrind)
environment: B (build folder), BENCH_PYTHON (Python with PyTorch, "" for none), BENCH_DIR (folder of the files)]]

local function fail(message)
  io.stderr:write("bench: ", message, "\n")
  os.exit(2)
end

local function options(args)
  local o = { mb = 553, runs = 7, counts = true }
  local i = 1
  while i <= #args do
    local name, value = args[i], args[i + 1]
    if name == "--help" then print(USAGE) os.exit(0) end
    if name == "--no-counts" then
      o.counts = false
      i = i + 1
    elseif name == "--mb" or name == "--runs" then
      o[name:sub(3)] = math.tointeger(tonumber(value)) or fail(name .. " takes a number")
      i = i + 2
    elseif name == "--json" or name == "--only" then
      o[name:sub(3)] = value or fail(name .. " takes a value")
      i = i + 2
    else
      fail("unknown option " .. name .. "\n" .. USAGE)
    end
  end
  return o
end

local function capture(command)
  local p = assert(io.popen(command))
  local text = p:read("a")
  p:close()
  return (text:gsub("%s+$", ""))
end

local o = options(arg)
local B = os.getenv("B") or "build"
local D = os.getenv("BENCH_DIR") or B .. "/bench.d"
o.threads = math.tointeger(tonumber(capture("nproc"))) or 1
o.ckpt, o.here = B .. "/ckpt", here

-- ---- the two programs, each behind a pipe and a FIFO ----

local function start(command, name)
  local fifo = D .. "/" .. name .. ".out"
  assert(os.execute("rm -f '" .. fifo .. "' && mkfifo '" .. fifo .. "'"))
  local input = assert(io.popen(command .. " > '" .. fifo .. "'", "w"))
  return { input = input, output = assert(io.open(fifo, "r")), fifo = fifo }
end

local function fill(text) return (text:gsub("%$d", D):gsub("%$bytes", tostring(o.mb * 1000000))) end

-- Seconds, or nil and a sentence.
local function tell(program, operation)
  if program == "alone" then -- in a process of its own, whose memory is not ours
    local answer = capture(("'%s/bench' %s"):format(B, fill(operation)))
    return tonumber(answer), "it failed: " .. answer
  end
  if not program then return nil, "not there" end
  program.input:write(fill(operation), "\n")
  program.input:flush()
  local line = program.output:read("l")
  if not line then return nil, "the program ended" end
  if line:find("^error: ") then return nil, line:sub(8) end
  return tonumber(line) or line
end

local function stop(program)
  if not program then return end
  program.input:close()
  program.output:close()
  os.remove(program.fifo)
end

-- ---- figures ----

local function median(sorted) return (sorted[(#sorted + 1) // 2] + sorted[#sorted // 2 + 1]) / 2 end

local function summary(times)
  table.sort(times)
  return { median = median(times), low = times[1], high = times[#times], n = #times }
end

local function shown(value, unit)
  if unit == "MB" then return ("%.1f MB"):format(value) end
  if value >= 1 then return ("%.2f s"):format(value) end
  if value >= 1e-3 then return ("%.2f ms"):format(value * 1e3) end
  return ("%.2f us"):format(value * 1e6)
end

-- ---- measuring ----

local programs

local made = {}

-- A file of several rows is there whichever of them comes first (--only).
local function make_shared(row)
  for _, file in ipairs(lists.shared) do
    local path, operation, named = file[1], file[2], false
    for _, side in ipairs(row.sides) do named = named or side[3]:find(path, 1, true) ~= nil end
    if named and not made[path] then
      made[path] = true
      local _, why = tell(programs.ours, operation)
      if why then fail(row.id .. ": " .. operation .. ": " .. why) end
    end
  end
end

local function prepare(row)
  make_shared(row)
  if row.shell then os.execute(fill(row.shell)) end
  for _, list in ipairs { row.setup or {}, row.peer_setup or {} } do
    for _, step in ipairs(list) do
      local _, why = tell(programs[step[1]], step[2])
      if why and step[1] == "ours" then fail(row.id .. ": " .. step[2] .. ": " .. why) end
    end
  end
end

-- One measurement of a side; what cannot be measured is noted once and left out.
local function measure(row, side, result)
  if result.why then return end
  if row.clean then os.execute(fill(row.clean)) end
  for _, step in ipairs(row.before or {}) do tell(programs[step[1]], step[2]) end
  local took, why = tell(programs[side[2]], side[3])
  if took then result.times[#result.times + 1] = took else result.why = why end
end

local function judge(target, by_name)
  local of, to = by_name[target.of], target.to and by_name[target.to]
  local judged = { text = target[1], at_least = target.at_least, at_most = target.at_most }
  if not of.median or (target.to and not to.median) then
    judged.why = of.why or to.why
    return judged
  end
  judged.value = to and of.median / to.median or of.median
  judged.ratio = to ~= nil
  judged.met = target.at_least and judged.value >= target.at_least or
    target.at_most ~= nil and judged.value <= target.at_most
  return judged
end

local function run_row(row)
  local out = { id = row.id, title = row.title, unit = row.unit or "s", sides = {}, targets = {} }
  local by_name = {}
  prepare(row)
  for i, side in ipairs(row.sides) do
    out.sides[i] = { who = side[1], kind = side[2], times = {} }
    by_name[side[1]] = out.sides[i]
  end
  for _ = 1, row.repeat_ or o.runs do
    for i, side in ipairs(row.sides) do measure(row, side, out.sides[i]) end
  end
  for _, result in ipairs(out.sides) do
    if #result.times > 0 then
      for key, value in pairs(summary(result.times)) do result[key] = value end
    end
  end
  for _, step in ipairs(row.finish or {}) do tell(programs[step[1]], step[2]) end
  if row.clean then os.execute(fill(row.clean)) end
  if row.rate and out.sides[1].median then out.rate = tonumber((fill(row.rate))) / out.sides[1].median / 1e9 end
  for i, target in ipairs(row.targets) do out.targets[i] = judge(target, by_name) end
  return out
end

-- ---- showing ----

-- Bars of the logarithm: a factor of ten is as long everywhere.
local function bar(value, least, most)
  local width = most > least and math.log(value / least) / math.log(most / least) or 0
  return ("#"):rep(4 + math.floor(28 * width + 0.5))
end

local function print_side(side, unit, least, most)
  if not side.median then
    print(("  %-24s %s"):format(side.who, side.why or "not measured"))
    return
  end
  print(("  %-24s %11s  (%s to %s)"):format(side.who, shown(side.median, unit), shown(side.low, unit),
    shown(side.high, unit)) .. (most and "  " .. bar(side.median, least, most) or ""))
end

local function print_target(target, unit)
  local value = "-"
  if target.value then value = target.ratio and ("%.2fx"):format(target.value) or shown(target.value, unit) end
  local verdict = target.met == nil and "not measured: " .. target.why or target.met and "met" or "NOT MET"
  print(("    %-56s %10s  %s"):format(target.text, value, verdict))
end

local function print_row(row)
  local least, most
  for _, side in ipairs(row.sides) do
    if side.median then
      least = math.min(least or side.median, side.median)
      most = math.max(most or side.median, side.median)
    end
  end
  print(row.title .. (row.rate and ("  (%.2f GB/s)"):format(row.rate) or ""))
  for _, side in ipairs(row.sides) do print_side(side, row.unit, least, #row.sides > 1 and most or nil) end
  for _, target in ipairs(row.targets) do print_target(target, row.unit) end
end

local function to_json(report)
  local json = require "dkjson"
  local text = json.encode(report, { indent = true }) .. "\n"
  if o.json == "-" then
    io.write(text)
    return
  end
  local file = assert(io.open(o.json, "w"))
  file:write(text)
  file:close()
end

-- ---- instructions and sizes ----

local function instructions(operation)
  local text = capture(("valgrind --tool=callgrind --callgrind-out-file=/dev/null '%s/bench' %s 2>&1 > /dev/null")
    :format(B, fill(operation)))
  return tonumber(text:match("Collected : (%d+)"))
end

local function count_all()
  local list = {}
  if not o.counts or not os.execute("command -v valgrind > /dev/null") then return list end
  for _, c in ipairs(lists.counts) do
    local less, more = instructions(c[2]), instructions(c[3])
    if less and more then list[#list + 1] = { what = c[1], instructions = (more - less) / c[4] } end
  end
  return list
end

local function sizes()
  local list = {}
  for _, name in ipairs { "libckpt.so.0", "ckpt.so", "ckpt" } do
    local text = capture(("cp '%s/%s' '%s/size' && strip '%s/size' && wc -c < '%s/size'; rm -f '%s/size'")
      :format(B, name, D, D, D, D))
    list[#list + 1] = { name = name, bytes = tonumber(text) }
  end
  return list
end

-- ---- all ----

local function wanted(row) return not o.only or ("," .. o.only .. ","):find("," .. row.id .. ",", 1, true) ~= nil end

local function machine()
  local model = capture("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1")
  local memory = capture("awk '/MemTotal/ {printf \"%.0f\", $2 / 1e6}' /proc/meminfo")
  local disk = capture("stat -f -c %T '" .. D .. "'")
  return ("%s, %d cores, %s GB, %s, Linux %s"):format(model, o.threads, memory, disk, capture("uname -r"))
end

assert(os.execute("mkdir -p '" .. D .. "/load'"))
local python = os.getenv("BENCH_PYTHON") or "/usr/bin/python3"
local ours = start("'" .. B .. "/bench'", "ours")
programs = { ours = ours, machine = ours, alone = "alone" }
if python ~= "" and os.execute(python .. " -c 'import torch' 2> /dev/null") then
  programs.peer = start(python .. " -B '" .. here .. "/peer.py'", "peer")
end
local version = tell(programs.peer, "version")
local report = { machine = machine(), peer = version and "PyTorch " .. version, mb = o.mb, runs = o.runs, rows = {} }
local text = o.json ~= "-"
if text then
  print(report.machine)
  print((report.peer or "no PyTorch: rows without a peer") ..
    (", VGG16 of %d MB, medians of %d alternating runs (lowest to highest)\n"):format(o.mb, o.runs))
end
for _, name in ipairs { "ours", "peer" } do tell(programs[name], "model vgg16 $bytes") end
local met, missed, open = 0, 0, 0
for _, row in ipairs(lists.rows(o)) do
  if wanted(row) or row.files and o.only == nil then
    local result = run_row(row)
    report.rows[#report.rows + 1] = result
    for _, t in ipairs(result.targets) do
      if t.met == nil then open = open + 1 elseif t.met then met = met + 1 else missed = missed + 1 end
    end
    if text then print_row(result) end
  end
end
stop(programs.peer)
stop(ours)
report.instructions = count_all()
report.sizes = sizes()
os.execute("rm -rf '" .. D .. "'")
if o.json then to_json(report) end
if text then
  for _, c in ipairs(report.instructions) do print(("%-44s %12.0f instructions"):format(c.what, c.instructions)) end
  for _, s in ipairs(report.sizes) do print(("%-44s %12d bytes, stripped"):format(s.name, s.bytes)) end
  print(("\n%d targets met, %d not met, %d not measured"):format(met, missed, open))
end
