std = "lua54"
max_line_length = 120
exclude_files = { "build", "policies/types.lua" }
files["policies"] = { read_globals = { "ckpt" } }
files["tests/lua"] = { std = "lua54+busted", max_line_length = 140 } -- tables of scenarios
files["tests/trainer/*.lua"] = { read_globals = { "ckpt" } }
