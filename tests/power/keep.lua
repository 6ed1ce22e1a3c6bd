-- keep.lua: the default policy with little room: old files go at almost every save
return { keep = { last = 2, best = 1 } }
