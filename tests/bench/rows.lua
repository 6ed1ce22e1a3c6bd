-- rows.lua: what is measured. The order is that of the table in the README.
--
-- A row: title; sides: { who, side, operation } in the order in which they alternate ("ours", "peer", "machine", or
-- "alone" for a process of its own; and what that side is told); setup, before: operations that are not timed (once; in
-- front of each timed one); finish: the same when all is measured; clean: a shell command in front of each; targets:
-- { text, of, to, at_least = | at_most = } about the ratio of two medians, or { text, of, at_most = } about one.
-- unit: "s" (default), "MB", or "per_call". repeat_: runs, if not the driver's number.
-- $d is the folder of the files, $bytes the size of the VGG16.

local function rows(o)
  local list = {}
  local function add(row) list[#list + 1] = row end

  add { id = "open", title = "open VGG16",
    sides = { { "ckpt", "ours", "open $d/vgg.pth" }, { "torch.load", "peer", "load $d/vgg.pth" },
      { "mmap=True", "peer", "load_mmap $d/vgg.pth" }, { "load_file", "peer", "load_safetensors $d/vgg.safetensors" },
      { "libzip", "machine", "libzip $d/vgg.pth" } },
    peer_setup = { { "peer", "save_safetensors $d/vgg.safetensors" } },
    targets = { { ">= 1,000x faster than torch.load", of = "torch.load", to = "ckpt", at_least = 1000 },
      { ">= 10x faster than mmap=True", of = "mmap=True", to = "ckpt", at_least = 10 },
      { ">= 1x safetensors' load_file", of = "load_file", to = "ckpt", at_least = 1 } } }

  add { id = "open_cold", title = "open VGG16, page cache dropped", before = { { "machine", "drop $d/vgg.pth" } },
    sides = { { "ckpt", "ours", "open $d/vgg.pth" }, { "torch.load", "peer", "load $d/vgg.pth" } }, targets = {} }

  add { id = "load", title = "load into a bound model: the copy",
    sides = { { "ckpt", "ours", "copy $d/vgg.pth" }, { "torch.load + copy", "peer", "load_into $d/vgg.pth" },
      { "mmap=True + copy", "peer", "load_into_mmap $d/vgg.pth" },
      { "memcpy", "machine", "memcpy $d/vgg.pth " .. o.threads } },
    targets = {
      { "<= 1.15x of memcpy out of a mapping by as many threads", of = "ckpt", to = "memcpy", at_most = 1.15 },
      { ">= 4x faster than torch.load + copy", of = "torch.load + copy", to = "ckpt", at_least = 4 } } }

  add { id = "load_checked", title = "the same by ckpt_load: checksums first, and the policy",
    sides = { { "ckpt", "ours", "load $d/vgg.pth $d/load" }, { "torch.load + copy", "peer", "load_into $d/vgg.pth" },
      { "memcpy", "machine", "memcpy $d/vgg.pth " .. o.threads } },
    targets = { { ">= 4x faster than torch.load + copy", of = "torch.load + copy", to = "ckpt", at_least = 4 } } }

  add { id = "load_cold", title = "ckpt_load, page cache dropped", before = { { "machine", "drop $d/vgg.pth" } },
    sides = { { "ckpt", "ours", "load $d/vgg.pth $d/load" }, { "torch.load + copy", "peer", "load_into $d/vgg.pth" } },
    targets = {} }

  add { id = "save", title = "save + fsync, new file",
    sides = { { "ckpt", "ours", "save $d/new.pth" }, { "torch.save + fsync", "peer", "save $d/peer.pth" },
      { "write + fsync", "machine", "write $d/raw" } },
    targets = { { "<= 1.10x of raw write + fsync", of = "ckpt", to = "write + fsync", at_most = 1.10 },
      { ">= 1.6x faster than torch.save + fsync", of = "torch.save + fsync", to = "ckpt", at_least = 1.6 } } }

  add { id = "recycled", title = "save + fsync over recycled blocks", shell = "mkdir -p $d/recycled",
    sides = { { "ckpt", "ours", "recycled $d/recycled " .. o.here .. "/recycling.lua" },
      { "torch.save + fsync", "peer", "save $d/peer.pth" } },
    finish = { { "ours", "close_run" } },
    targets = { { ">= 3.5x faster than torch.save + fsync", of = "torch.save + fsync", to = "ckpt", at_least = 3.5 } } }

  add { id = "stall", title = "stall of an asynchronous save", shell = "mkdir -p $d/stall",
    sides = { { "ckpt", "ours", "stall $d/stall " .. o.here .. "/recycling.lua" },
      { "memcpy of the state", "machine", "memcpy_state " .. o.threads },
      { "fork + first writes", "machine", "fork_state" } },
    finish = { { "ours", "close_run" } },
    targets = { { "<= 1.3x of a memcpy by as many threads", of = "ckpt", to = "memcpy of the state", at_most = 1.3 } } }

  add { id = "latest", title = "save + copy_latest", shell = "mkdir -p $d/latest $d/pet",
    clean = "rm -f $d/latest/* $d/pet/*",
    sides = { { "ckpt", "ours", "save_latest $d/latest 1" },
      { "torch.save + copyfile", "peer", "save_copy $d/pet 1" } },
    targets = {
      { ">= 3x faster than torch.save + copyfile", of = "torch.save + copyfile", to = "ckpt", at_least = 3 } } }

  add { id = "rss_open", title = "peak memory of ckpt inspect", unit = "MB",
    sides = { { "ckpt", "alone", "run " .. o.ckpt .. " inspect $d/vgg.pth" } },
    targets = { { "<= 16 MB + metadata", of = "ckpt", at_most = 16 } } }
  add { id = "rss_verify", title = "peak memory of ckpt verify", unit = "MB",
    sides = { { "ckpt", "alone", "run " .. o.ckpt .. " verify $d/vgg.pth" } },
    targets = { { "<= 16 MB + metadata", of = "ckpt", at_most = 16 } } }
  add { id = "rss_convert", title = "peak memory of ckpt convert", unit = "MB", clean = "rm -f $d/converted.pth",
    sides = { { "ckpt", "alone", "run " .. o.ckpt .. " convert $d/vgg.pth $d/converted.pth" } },
    targets = { { "<= 16 MB + metadata", of = "ckpt", at_most = 16 } } }

  add { id = "convert", title = "convert: the whole file written again, synced", clean = "rm -f $d/converted.pth",
    sides = { { "ckpt", "ours", "resave $d/vgg.pth $d/converted.pth" },
      { "copy_file_range", "machine", "copy_file $d/vgg.pth $d/converted.pth" } },
    targets = {}, rate = "$bytes" }

  for _, n in ipairs { 1000, 20000, 100000 } do
    local file, told = "$d/many" .. n .. ".pth", n == 20000
    add { id = "open_" .. n, title = "open " .. n .. " tensors", files = true,
      setup = { { "ours", "model many " .. n }, { "ours", "save " .. file }, { "peer", "model many " .. n } },
      sides = { { "ckpt", "ours", "open " .. file }, { "torch.load", "peer", "load " .. file },
        { "mmap=True", "peer", "load_mmap " .. file }, { "libzip", "machine", "libzip " .. file } },
      targets = told and { { ">= 40x faster than torch.load", of = "torch.load", to = "ckpt", at_least = 40 },
        { "<= 3x of libzip's bare open", of = "ckpt", to = "libzip", at_most = 3 } } or {} }
    add { id = "save_" .. n, title = "save " .. n .. " tensors + fsync",
      setup = { { "ours", "model many " .. n }, { "peer", "model many " .. n } },
      sides = { { "ckpt", "ours", "save $d/new.pth" }, { "torch.save", "peer", "save $d/peer.pth" } },
      targets = told and { { ">= 15x faster than torch.save", of = "torch.save", to = "ckpt", at_least = 15 } } or {} }
  end

  add { id = "optimizer", title = "open Adam's state of 10,000 parameters",
    setup = { { "ours", "optimizer $d/adam.pth 10000" } },
    sides = { { "ckpt", "ours", "open $d/adam.pth" }, { "torch.load", "peer", "load $d/adam.pth" } }, targets = {} }

  add { id = "pickle", title = "pickle parsed, seconds for a megabyte",
    sides = { { "ckpt", "ours", "pickle $d/adam.pth" } }, targets = {} }

  add { id = "align", title = "align 10,000 x 10,000 keys",
    sides = { { "ckpt", "ours", "align 10000" }, { "quadratic in C", "machine", "align_quadratic 10000" },
      { "ckpt, 100,000", "ours", "align 100000" } },
    targets = { { "<= 10 ms", of = "ckpt", at_most = 0.010 },
      { "10x the keys cost <= 13x the time", of = "ckpt, 100,000", to = "ckpt", at_most = 13 } } }

  add { id = "align_pet", title = "align 4,000 x 4,000 keys, beside Pet's",
    sides = { { "ckpt", "ours", "align 4000" }, { "Pet's", "peer", "align 4000" } }, targets = {}, repeat_ = 3 }

  add { id = "start", title = "runtime start with policies", shell = "mkdir -p $d/start",
    sides = { { "ckpt", "ours", "start $d/start" }, { "policies/pet.lua", "ours", "start $d/start pet" } },
    targets = { { "<= 3 ms", of = "ckpt", at_most = 0.003 } } }

  add { id = "policy", title = "policy call: plan of a save", shell = "mkdir -p $d/policy", unit = "per_call",
    sides = { { "ckpt", "ours", "policy $d/policy 2000 " .. o.here .. "/constant.lua" },
      { "thinking of the default", "ours", "policy $d/policy 2000" }, { "the gate alone", "ours", "gate 100000" } },
    targets = { { "<= 20 us", of = "ckpt", at_most = 20e-6 } } }

  add { id = "rules", title = "plan of 50 mapping rules for 20,000 keys, in a policy", shell = "mkdir -p $d/rules",
    sides = { { "ckpt", "ours", "policy $d/rules 3 " .. o.here .. "/rules_plan.lua" } }, targets = {} }

  return list
end

-- Instructions (callgrind) of what is too short to time: the difference of two counts, divided by that of the numbers.
local counts = {
  { "gate into the sandbox and back", "gate 100", "gate 1100", 1000 },
  { "plan of a save by the default policy", "policy $d/policy 10", "policy $d/policy 110", 100 },
  { "start of a run with the default policy", "gate 0", "start $d/start", 1 },
  { "open, for each of 1,000 tensors", "libzip $d/many1000.pth", "open $d/many1000.pth", 1000 },
  { "align, for each of 1,000 keys", "align 1", "align 1000", 1000 },
}

-- A file that many rows read, and what makes it: done in front of the first row that names it.
local shared = { { "$d/vgg.pth", "save $d/vgg.pth" } }

return { rows = rows, counts = counts, shared = shared }
