-- recycle.lua: as keep.lua, and new files are written over the blocks of retired ones
return { keep = { last = 2, best = 1 }, recycle = true }
