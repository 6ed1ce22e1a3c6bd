-- align.lua: suffix alignment at growing numbers of keys, beside the quadratic algorithm: align.lua BENCH
local function run(operation, n)
  local best
  for _ = 1, 5 do
    local p = assert(io.popen(("'%s' %s %d"):format(arg[1], operation, n)))
    local took = assert(tonumber(p:read("a")), operation)
    p:close()
    best = math.min(best or took, took)
    if operation ~= "align" then break end
  end
  return best * 1e3
end

print(("%7s %10s %8s %13s %8s"):format("keys", "ckpt ms", "growth", "quadratic ms", "growth"))
local before, slow_before
for _, n in ipairs { 1000, 3000, 10000, 30000, 100000 } do
  local ours, slow = run("align", n), n <= 10000 and run("align_quadratic", n) or nil
  local function growth(now, last) return now and last and ("%.1fx"):format(now / last) or "" end
  print(("%7d %10.3f %8s %13s %8s"):format(n, ours, growth(ours, before), slow and ("%.1f"):format(slow) or "",
    growth(slow, slow_before)))
  before, slow_before = ours, slow
end
