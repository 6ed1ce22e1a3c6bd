/*
 * hostile_scripts.h - scripts that try to run for ever, or to take all memory, with what must become of each.
 *
 * `part` is in the error that a million steps end in; NULL: the script ends well, since what it asks for is refused or
 * trivial. Scripts of `MEMORY` have 2 MiB, the others 16 MiB.
 */
#ifndef CKPT_TEST_HOSTILE_SCRIPTS_H
#define CKPT_TEST_HOSTILE_SCRIPTS_H

#define STEPS "ran for more than"
#define SLOW "for more than 5,000 steps" /* long instructions, so that a million of them would take half a minute */
#define MEMORY "for one string): stopped"

static const struct {
  const char *text, *part;
} hostile[] = {
    {"while true do end", STEPS},
    {"local function f() return f() end f()", STEPS},
    {"::top:: goto top", STEPS},
    {"for i = 1, math.huge do end", STEPS},
    {"repeat until false", STEPS},
    {"while true do pcall(function() while true do end end) end", STEPS},
    {"while true do pcall(error) end", STEPS},
    {"local function f() pcall(f) while true do end end f()", STEPS},
    {"xpcall(function() while true do end end, function() while true do end end)", STEPS},
    {"while true do xpcall(function() while true do end end, function(m) while true do end return m end) end", STEPS},
    {"while true do xpcall(error, function() end) end", STEPS},
    {"local function deep(n) return n > 0 and 1 + deep(n - 1) or 0 end; deep(50) -- call frames that need no memory\n"
     "local function loop() while true do end end; xpcall(loop, loop)",
     STEPS},
    {"xpcall(error, function() while true do end end)", STEPS},
    {"local t = setmetatable({}, { __close = function() while true do end end }); local x <close> = t", STEPS},
    {"local t = setmetatable({}, { __close = function() while true do end end })\n"
     "local ok = pcall(function() local x <close> = t; local y <close> = t; while true do end end); while true do end",
     STEPS},
    {"local t = setmetatable({}, { __index = function() while true do end end }); return t.x", STEPS},
    {"return setmetatable({}, { __len = function() while true do end end }), #setmetatable({}, { __len = function() "
     "while true do end end })",
     STEPS},
    {"print(setmetatable({}, { __tostring = function() while true do end end }))", STEPS},
    {"error(setmetatable({}, { __tostring = function() while true do end end }))", STEPS},
    {"for k in pairs(setmetatable({}, { __pairs = function() while true do end end })) do end", STEPS},
    {"table.sort({ 1, 2, 3 }, function() while true do end end)", STEPS},
    {"('x'):gsub('x', function() while true do end end)", STEPS},
    {"for c in ('x'):rep(100):gmatch('') do while true do end end", STEPS},
    {"local s = ('x'):rep(1000000); s:gsub('.', pcall)", STEPS},
    {"local s = ('x'):rep(900000); while true do pcall(s.gsub, s, '.', pcall) end", STEPS},
    {"return ('a'):rep(30000):find(('a-'):rep(6) .. 'b')", STEPS},
    {"return ('a'):rep(30000):find(('a*'):rep(30) .. 'b')", STEPS},
    {"return ('x'):rep(500000):find('.-b')", STEPS},
    {"return ('x'):rep(260):find('.-.-.-.-b')", STEPS},
    {"return ('a'):rep(40):match(('a?'):rep(40) .. ('a'):rep(40))", STEPS},
    {"return ('('):rep(200000):find('%b()')", STEPS},
    {"return ('a'):rep(100000):find('(a*)%1b')", STEPS},
    {"return ('x' .. (' '):rep(9000)):gsub('%s+b', '')", STEPS},
    {"for w in ('a'):rep(100000):gmatch('a*b') do end", STEPS},
    {"return ('x'):rep(100000):find('[%]]-]b')", NULL},
    {"while true do pcall(string.find, ('a'):rep(30000), ('a-'):rep(6) .. 'b') end", STEPS},
    {"while true do local x = ('a'):rep(50):find('a*a*b') end", STEPS},
    {"while true do local f = ('a'):rep(300):gmatch('a*b'); f() end", STEPS},
    {"local s, p = ('a'):rep(4000000), ('a'):rep(2000000) .. 'b'; while true do local x = s:find(p, 1, true) end",
     STEPS},
    {"return string.rep('', 1 << 62)", NULL},
    {"return string.rep('', 1 << 62, '')", NULL},
    {"return string.rep('x', 1 << 62)", "would not fit"},
    {"return string.rep('xy', math.maxinteger, 'sep')", "would not fit"},
    {"return string.rep('x', 1 << 30)", "would not fit"},
    {"while true do pcall(string.rep, 'x', 1 << 30) end", STEPS},
    {"while true do local s = ('x'):rep(4000000) end", STEPS},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.insert(t, 1, 0)", NULL},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.remove(t)", NULL},
    {"local t = setmetatable({}, { __len = function() return 1 << 62 end }); table.concat(t); table.unpack(t)\n"
     "table.sort(t)",
     NULL},
    {"local t = {}; for i = 0, 61 do t[1 << i] = true end; for i = 1, #t > 9 and 9 or 1 do table.insert(t, 1, 0) end\n"
     "table.move(t, 1, 1 << 60, 2)",
     STEPS},
    {"table.move({}, 1, 1 << 62, 2)", STEPS},
    {"table.move({}, 1, math.maxinteger, 1, {})", STEPS},
    {"table.move(setmetatable({}, { __index = function() return 1 end }), 1, 1 << 61, 1)", STEPS},
    {"table.concat({}, '', 1, 1 << 62)", "invalid value"},
    {"table.concat({}, '', math.mininteger, math.maxinteger)", "invalid value"},
    {"local t = {}; for i = 1, 1000 do t[i] = '' end; while true do table.concat(t) end", STEPS},
    {"table.unpack({}, 1, 1 << 62)", "too many results"},
    {"table.unpack({}, math.mininteger, math.maxinteger)", "too many results"},
    {"while true do pcall(table.unpack, {}, 1, 900000) end", STEPS},
    {"local t = {}; for i = 1, 40000 do t[i] = i end; while true do table.insert(t, 1, 0) end", STEPS},
    {"local t = {}; for i = 1, 40000 do t[i] = i end; while true do table.remove(t, 1) end", STEPS},
    {"local s = ('x'):rep(1000000); local t = {}; for i = 1, 5000 do t[i] = s end; table.sort(t)", STEPS},
    {"local t = {}; for i = 1, 100000 do t[i] = i end; while true do table.sort(t) end", STEPS},
    {"local a, b = ('x'):rep(4000000), ('x'):rep(3999999) .. 'x'\n"
     "local t = {}; for i = 1, 4000 do t[i] = i % 2 == 0 and a or b end; table.sort(t, rawequal)",
     STEPS},
    {"local a, b = ('x'):rep(2000000), ('x'):rep(1999999) .. 'x'; while true do local c = a == b end", SLOW},
    {"local a, b = ('x'):rep(2000000), ('x'):rep(1999999) .. 'x'; while true do local c = a < b end", SLOW},
    {"local a = ('x'):rep(2000000); while true do a:upper() end", STEPS},
    {"local a = ('x'):rep(2000000); while true do a:byte(1, 900000) end", STEPS},
    {"local a = ('x'):rep(2000000); while true do utf8.len(a) end", STEPS},
    {"local f = utf8.codes(''); local a = 'x' .. ('\\x80'):rep(2000000); while true do pcall(f, a, 1) end", STEPS},
    {"local a = ('x'):rep(2000000); while true do tonumber(a) end", STEPS},
    {"local a = ('x'):rep(1000000); while true do local b = a .. 'y' end", STEPS},
    {"local s = ('ab'):rep(1000000); while true do s:find(('.'):rep(200) .. 'c') end", STEPS},
    {"local f = ('!1'):rep(400000); while true do string.packsize(f) end", STEPS},
    {"local t = {}; for i = 1, 300000 do t[i] = i end; for i = 1, 300000 do t[i] = nil end; while true do next(t) end",
     STEPS},
    {"local t = {}; while true do t[#t + 1] = {} end", MEMORY},
    {"local s = 'x'; while true do s = s .. s end", MEMORY},
    {"local s = 'x'; while true do s = s:gsub('x', 'xx') end", STEPS},
    {"local t = { 'x' }; while true do t[1] = table.concat({ t[1], t[1] }) end", MEMORY},
    {"local t = {}; while true do pcall(function() t[#t + 1] = ('x'):rep(100000) .. #t end) end", STEPS},
    {"local function f(...) return f(1, ...) end return f()", SLOW},
    {"local function f() return 1 + f() end return f()", STEPS},
    {"return ('x'):rep(100):gsub('x', function() return ('x'):rep(500000) end)", STEPS},
    {"return ('x'):rep(1000):gsub('x', ('y'):rep(10000))", MEMORY},
    {"return string.format('%99999d', 1)", "invalid conversion"},
    {"local t = setmetatable({}, {}); getmetatable(t).__index = t; return t.x", NULL},
    {"print(('x'):rep(900000)); while true do print(('x'):rep(1000)) end", STEPS},

    /* what the clock or a count of instructions alone does not stop */
    {"setmetatable({}, { __mode = 'k' })", "weak tables"},
    {"local mt = {}; local t = setmetatable({}, mt); mt.__mode = 'k'; local k, keys = {}, {}\n"
     "for i = 1, 3000 do keys[i] = {} end; for i = 1, 2999 do t[keys[i]] = keys[i + 1] end; keys = keys[1]\n"
     "while true do local x = {} end",
     STEPS},
    {"local t = {}; setmetatable(t, { __call = t }); t()", "__call must be a function"},
    {"local mt = {}; local t = setmetatable({}, mt); mt.__call = t; while true do pcall(t) end", STEPS},
    {"local t = {}; setmetatable(t, { __index = t })", "leads back"},
    {"local t = {}; setmetatable(t, { __newindex = t })", "leads back"},
    {"local a, b = {}, {}; setmetatable(a, { __index = b }); setmetatable(b, { __index = a })", "leads back"},
    {"local first = {}; local last = first\n"
     "for i = 1, 2500 do local t = {}; setmetatable(last, { __index = t }); last = t end; while true do local x = "
     "first.y end",
     NULL},
    {"local t = {}; for i = 1, 200 do t = setmetatable({}, { __index = t }) end", "a chain of more than"},
    {"local t = {}; for i = 1, 2000 do t[1 + i * 2.0 ^ -50] = i end; while true do local x = t[1] end", STEPS},
    {"local t = {}; for i = 1, 2000 do t[1 + i * 2.0 ^ -50] = i end; while true do pcall(next, t, 0) end", SLOW},
    {"local t = {}; for i = 1, 7900 do t[i] = i end; local function g(...) while true do select('#', ...) end end\n"
     "g(table.unpack(t))",
     SLOW},
    {"local function f(...) return f(..., ...) end; f(1)", SLOW},
    {"local t = {}; for i = 1, 1023 do t['k' .. i] = i end; local i = 0\n"
     "while true do t['a' .. i] = nil; i = i + 1; t['a' .. i] = 1 end",
     STEPS},
    {"local t = {}; for i = 1, 20000 do t['k' .. i] = i end; while true do for k in pairs(t) do break end end", STEPS},
    {"local t = {}; for i = 1, 20000 do t['k' .. i] = i end; while true do next(t, 'k1') end", STEPS},
    {"local n = 0; while true do print(n); n = n + 1 end", STEPS},
    {"while true do print(('x\\n'):rep(100000)) end", STEPS},
    {"while true do string.format('%s', setmetatable({}, { __tostring = function() return ('x'):rep(9999) end })) end",
     STEPS},
    {"string.format('%s', setmetatable({}, { __tostring = function() while true do end end }))", STEPS},
    {"xpcall(error, function(e) return tostring(setmetatable({}, { __tostring = function() while true do end end })) "
     "end)",
     STEPS},
    {"local t = setmetatable({}, { __close = function() error(setmetatable({}, { __tostring = function() while true do "
     "end end })) end }); local x <close> = t",
     STEPS},
    {"local mt = { __index = function(t, k) return t[k + 1] end }; local t = setmetatable({}, mt); return t[1]",
     "C stack overflow"},
    {"local mt = {}; mt.__eq = function(a, b) return a == b end\n"
     "local a, b = setmetatable({}, mt), setmetatable({}, mt); return a == b",
     "C stack overflow"},
    {"local mt = {}; mt.__lt = function() while true do end end; local t = {}; for i = 1, 9 do t[i] = setmetatable({}, "
     "mt)"
     " end; table.sort(t)",
     STEPS},
    {"local mt = {}; mt.__concat = function(a, b) return a .. b end; local t = setmetatable({}, mt); return t .. 'x'",
     "C stack overflow"},
    {"local n = 0; table.sort({ 3, 2, 1, 5, 4 }, function() n = n + 1; return true end); while n > 0 do end", STEPS},
    {"return require(('x'):rep(200))", "there is no module"},
    {"while true do pcall(require, 'no') end", STEPS},
    {"while true do pcall(string.rep) end", STEPS},
    {"while true do pcall(string.find, 'x', '[') end", STEPS},
    {"while true do pcall(setmetatable, {}, { __gc = print }) end", STEPS},
    {"local t = {}; t.t = t; while true do t = { t } end", MEMORY},
    {"local f = function() end; while true do local g = f; f = function() return g() end end", MEMORY},
    {"local s = {}; for i = 1, 250 do s[i] = i end; while true do table.unpack(s) end", STEPS},
    {"while true do local a = { table.unpack({}, 1, 7999) } end", STEPS},
    {"local s = ('x'):rep(8000); while true do s:byte(1, -1) end", STEPS},
    {"return ('x'):rep(9000):byte(1, -1)", "too long"},
    {"return string.unpack(('b'):rep(9000), ('x'):rep(9000))", "more than 8000"},
    {"return ('x'):rep(5000000)", "would not fit"},
    {"local a = ('1'):rep(4000000); while true do local x = a + 1 end", STEPS},
    {"local a = ('x'):rep(100000); local t = {}; while true do t[a] = 1; a = a:sub(2) .. 'x' end", STEPS},
    {"return ('%1'):rep(3000):find(('(a'):rep(40))", "too many captures"},
    {"return ('a'):rep(3000):find(('a?'):rep(300) .. 'b')", "too complex"},
    {"local s = ('a'):rep(2000); while true do s:find('(.-)(.-)(.-)b') end", STEPS},
    {"local s = ('ab'):rep(2000); while true do s:gsub('(.-)%1', '%1%1') end", STEPS},
    {"local s = (' '):rep(100000); while true do s:match('^(.-)%s*$') end", STEPS},
    {"local s = ('a'):rep(100000); while true do s:find('%f[b]') end", STEPS},
    {"local s = ('a'):rep(1000); for x in s:gmatch('.-.-.-b') do end", STEPS},
};

#endif
