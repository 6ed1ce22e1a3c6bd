-- build.lua: the expressions of results: operations over what was there, with their shapes and dtypes found by C.
local operations = require "policies.rules.ops"

local ckpt = ckpt or require "ckpt" -- a global of a policy's environment

local M = {}

local FLOATING = { float16 = true, bfloat16 = true, float32 = true, float64 = true }

-- Of integers nothing is cast but what a rule names wholly.
local function is_exempt(rule, op, entry)
  return op[1] == "cast" and not rule.whole and entry.dtype and not FLOATING[entry.dtype]
    and not entry.dtype:find("^float8") and not entry.dtype:find("^complex")
end

-- Shape and dtype of `node`, whose operands are these entries; false if one of theirs is not known.
local function infer(node, operands)
  local metas, of = {}, node.of
  for i, operand in ipairs(operands) do
    if not operand.shape then return false end
    metas["x" .. i] = operand
  end
  if of ~= nil then
    local list = {}
    for i in ipairs(operands) do list[i] = "x" .. i end
    node.of = node.many and list or list[1]
  end
  local shape, dtype = ckpt.infer(node, metas)
  node.of = of
  if not shape then return nil, dtype end
  return shape, dtype
end

-- Of one operand: what a fixed operation makes of a shape and dtype is inferred once.
local function infer_known(op, node, operands)
  local shape, dtype = operands[1].shape, operands[1].dtype
  if not (op.fixed and shape and dtype) then return infer(node, operands) end
  op.known = op.known or {}
  local key = dtype .. " " .. table.concat(shape, "x")
  local known = op.known[key]
  if not known then
    known = { infer(node, operands) }
    op.known[key] = known
  end
  return known[1], known[2]
end

-- A new entry: op of the operands. nil and why.
local function apply(rule, op, operands, many)
  local node = table.move(op, 1, #op, 1, { rule = rule.id, many = many or nil })
  if many then
    node.of = {}
    for i, operand in ipairs(operands) do node.of[i] = operand.expr end
  elseif operands[1] then
    node.of = operands[1].expr
  end
  local shape, dtype
  if not many and operands[1] then shape, dtype = infer_known(op, node, operands) else
    shape, dtype = infer(node, operands)
  end
  if shape == nil then return nil, dtype end
  return { expr = node, shape = shape or nil, dtype = shape and dtype or nil }
end

local function filled(state, op)
  return operations.fill(op, state.env)
end

-- The pieces of a split or chunk: a list of entries.
local function pieces(rule, op, entry, n)
  local count = op[1] == "split" and #op[3] or op[3]
  if count ~= n then return nil, ("%s makes %d pieces, to names %d"):format(op[1], count, n) end
  local list = {}
  for i = 1, n do
    local piece, why = apply(rule, { op[1], op[2], op[3], i - 1 }, { entry })
    if not piece then return nil, why end
    list[i] = piece
  end
  return list
end

local function note(texts, op) texts[#texts + 1] = operations.text(op) end

---The entry under a list of prepared operations from `first` on: a list of one, or of `n` pieces; nil and why.
---@return table[]? entries, string|string[] why_or_texts
function M.chain(state, rule, list, entry, first, n)
  local texts = {}
  for i = first, #list do
    local op, why = filled(state, list[i])
    if not op then return nil, why end
    if operations.KINDS[op[1]].place == "last" then
      note(texts, op)
      local out
      out, why = pieces(rule, op, entry, n)
      if not out then return nil, why end
      return out, texts
    end
    if not is_exempt(rule, op, entry) then
      note(texts, op)
      local kind = operations.KINDS[op[1]]
      entry, why = apply(rule, op, kind.place == "make" and {} or { entry })
      if not entry then return nil, why end
    end
  end
  return { entry }, texts
end

---What filled operations of a rule come to for a tensor of that shape and dtype: those that are done (of integers not
---all are), their text, and what comes out. nil: they cannot be done.
---@return table?
function M.recipe(rule, list, shape, dtype)
  local out, texts, entry = {}, {}, { expr = "", shape = shape, dtype = dtype }
  for _, op in ipairs(list) do
    if not is_exempt(rule, op, entry) then
      note(texts, op)
      out[#out + 1] = op
      entry = apply(rule, op, { entry })
      if not entry then return nil end
    end
  end
  out.text, out.shape, out.dtype = operations.append("", texts), entry.shape, entry.dtype
  return out
end

---The parts of a gather as one.
---@return table? entry, string text_or_why
function M.join(state, rule, op, parts)
  local full, why = filled(state, op)
  if not full then return nil, why end
  local entry
  entry, why = apply(rule, full, parts, true)
  return entry, entry and operations.text(full) or why
end

---An expression of emit over the named parts.
---@return table? entry, string? why
function M.emitted(state, rule, expr, parts, texts)
  if type(expr) == "string" then return parts[expr] end
  local operands = {}
  for i, item in ipairs(expr.of) do
    local operand, why = M.emitted(state, rule, item, parts, texts)
    if not operand then return nil, why end
    operands[i] = operand
  end
  local op, why = filled(state, expr.op)
  if not op then return nil, why end
  note(texts, op)
  return apply(rule, op, operands, expr.list)
end

return M
