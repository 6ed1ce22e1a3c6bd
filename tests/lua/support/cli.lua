-- cli.lua: runs the executable as a user does. `@name` in an argument lies in the spec's scratch directory.

local ckpt = require "ckpt"
local dkjson = require "dkjson"
local gate = require "support.gate"
local scratch = require "support.scratch"

local CKPT = os.getenv "CKPT" or "build/ckpt"

local M = { dir = nil }

---A scratch directory for this test; to be called in before_each.
function M.enter() M.dir = scratch.dir() end

---To be called in after_each.
function M.leave()
  scratch.remove(M.dir)
  gate()
end

function M.path(name) return M.dir .. "/" .. name end

function M.quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

---Arguments arrive as they are. Returns stdout, stderr, exit status.
function M.run(...)
  local words = { M.quote(CKPT) }
  for i, word in ipairs { ... } do words[i + 1] = M.quote((word:gsub("@", M.dir .. "/"))) end
  local pipe = assert(io.popen(table.concat(words, " ") .. " 2> " .. M.quote(M.dir .. "/.stderr"), "r"))
  local out = pipe:read("a")
  local _, how, status = pipe:close()
  assert(how == "exit", how)
  return out, scratch.read(M.dir .. "/.stderr"), status
end

---The command must end with this status and nothing on stderr; gives stdout with the scratch directory as `@`.
function M.says(status, ...)
  local out, err, got = M.run(...)
  assert(err == "", err)
  assert(got == status, ("status %d, not %d: %s"):format(got, status, out))
  return (out:gsub(M.dir:gsub("%p", "%%%0") .. "/", "@"))
end

---The command must fail with this status and exactly this sentence.
function M.refuses(status, sentence, ...)
  local out, err, got = M.run(...)
  err = err:gsub(M.dir:gsub("%p", "%%%0") .. "/", "@")
  assert(err == "ckpt: " .. sentence .. "\n", ("said %q\nnot  %q"):format(err, sentence))
  assert(out == "" and got == status, ("status %d, stdout %q"):format(got, out))
end

---One line of JSON, decoded; the command must end with this status. null is dkjson.null.
function M.json(status, ...)
  local out, err, got = M.run(...)
  assert(err == "", err)
  assert(got == status, ("status %d, not %d: %s"):format(got, status, out))
  assert(select(2, out:gsub("\n", "")) == 1, out)
  return assert(dkjson.decode(out, 1, dkjson.null)), out
end

function M.iota(dtype, shape, n)
  local values = {}
  for i = 1, n do values[i] = i end
  return assert(ckpt.tensor(dtype, shape, values))
end

function M.save(name, value) assert(ckpt.save(M.path(name), value)) end

---Changes the byte of a file where `key` begins.
function M.damage(name, key)
  local bytes = scratch.read(M.path(name))
  local at = assert(bytes:find(key, 1, true))
  scratch.write(M.path(name), bytes:sub(1, at - 1) .. string.char(bytes:byte(at) ~ 1) .. bytes:sub(at + 1))
end

return M
