-- marks.lua: what rules have done to a file, written into it so that they do not do it twice ("color = bgr").
--
-- In a .pth: the entry "ckpt.marks" of the state dict's `_metadata`, beside PyTorch's version numbers, which PyTorch
-- ignores. In safetensors: "ckpt.marks" of `__metadata__`, as lines "name=text".

local ckpt = require "ckpt"

local M = {}

local KEY = "ckpt.marks"

local function from_text(text)
  local marks = {}
  for line in (type(text) == "string" and text or ""):gmatch("[^\n]+") do
    local name, value = line:match("^([^=]+)=(.*)$")
    if name then marks[name] = value end
  end
  return marks
end

local function item(value, key)
  local kind = value ~= nil and ckpt.type(value)
  if kind ~= "dict" and kind ~= "object" and kind ~= "table" then return nil end
  return ckpt.get(value, key)
end

---The marks of the state dict at a path.
---@return table<string, string>
function M.of(cp, path)
  local marks = from_text(item(cp.metadata, KEY))
  local value = cp:at(path)
  local state = value ~= nil and ckpt.type(value) == "dict" and ckpt.state(value) or nil
  local own = item(item(state, "_metadata"), KEY)
  if own ~= nil and ckpt.type(own) == "dict" then
    for name, text in pairs(own) do marks[tostring(name)] = tostring(text) end
  end
  return marks
end

---The marks of a result: those of the file, without those that are undone, and the new ones.
---@return table<string, string>
function M.after(before, new, undone)
  local marks = {}
  for name, text in pairs(before) do
    if not (undone and undone[name] ~= nil) then marks[name] = text end
  end
  for name, text in pairs(new) do marks[name] = text end
  return marks
end

local function names_of(marks)
  local names = {}
  for name in pairs(marks) do names[#names + 1] = name end
  table.sort(names)
  return names
end

---For the metadata of a safetensors file; nil without marks.
---@return table<string, string>?
function M.metadata(marks)
  local lines = {}
  for i, name in ipairs(names_of(marks)) do lines[i] = name .. "=" .. marks[name] end
  return #lines > 0 and { [KEY] = table.concat(lines, "\n") } or nil
end

---A state dict of { name, tensor } with its marks.
function M.value(rows, marks)
  local names = names_of(marks)
  if #names == 0 then return ckpt.items(rows) end
  local list = {}
  for i, name in ipairs(names) do list[i] = { name, marks[name] } end
  local metadata = ckpt.ordered { { KEY, ckpt.items(list) } }
  return ckpt.ordered(rows, { _metadata = metadata })
end

return M
