-- rules.lua: mapping rules (policies/maps/README.md): what the keys of a checkpoint become and what is done to the
-- tensors on the way. Works on names, shapes and dtypes; reads no tensor. Runs in a policy's closed environment and
-- in scripts.
--
--   local compiled, problems = rules.compile(set)            -- every mistake in the set
--   local plan = rules.plan(compiled, sources, options)      -- every mistake for this file: plan.problems
local compile = require "policies.rules.compile"
local detect = require "policies.rules.detect"
local inverse = require "policies.rules.inverse"
local lint = require "policies.rules.lint"
local plan = require "policies.rules.plan"
local words = require "policies.rules.words"

local M = {}

M.compile = compile.compile
M.plan = plan.plan
M.detect = detect.detect
M.inverse = inverse.inverse
M.undo = inverse.of_plan
M.lint = lint.lint
M.nearest = words.nearest

---"maps/x.lua:12: rule 1.3: ..."
---@param p ckpt.rules.Problem
---@return string
function M.problem_text(p)
  local where = p.file and (p.line and ("%s:%d: "):format(p.file, p.line) or p.file .. ": ") or ""
  return ("%s%s%s"):format(where, p.rule and ("rule %s: "):format(p.rule) or "", p.message)
end

return M
