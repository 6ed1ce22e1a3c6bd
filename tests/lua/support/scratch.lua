-- scratch.lua: temporary directories of a spec, and what lies in them.
local M = {}

local function lines(command)
  local out = {}
  local pipe = assert(io.popen(command))
  for line in pipe:lines() do out[#out + 1] = line end
  pipe:close()
  return out
end

M.lines = lines

function M.dir()
  return lines("mktemp -d ${TMPDIR:-/tmp}/ckpt-spec-XXXXXX")[1]
end

function M.remove(dir)
  assert(dir:find("ckpt-spec-", 1, true))
  os.execute("rm -rf '" .. dir .. "'")
end

-- Names in byte order, those that begin with '.' left out.
function M.names(dir)
  return lines("cd '" .. dir .. "' && LC_ALL=C ls")
end

function M.write(path, text)
  local file = assert(io.open(path, "wb"))
  file:write(text)
  file:close()
end

function M.read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read("a")
  file:close()
  return text
end

return M
