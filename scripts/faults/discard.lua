-- discard.lua: what reads give back where data was discarded
--
-- What:       after a discard, reads give zeroes, the old data, garbage or a mixture; or the discard is refused. It
--             may take its time, too.
-- Imitates:   drives that promise nothing about trimmed blocks, trims that are ignored or slow, devices without trim.
-- Parameters: mode=garbage   zero: what good ones do; old: the discard is ignored; garbage: random bytes, always the
--                            same ones, until the place is written again; mixed: each 4 KiB by chance one of these;
--                            refuse: EOPNOTSUPP
--             delay=0s       how long a discard takes
-- Example:    ublk-script add discard mode=old size=1G
-- Simulate:   --ops 20000 --allow data size=64M
-- Live:       ublk-script ctl 0 ranges discarded list     (what reads as garbage)
-- You see:    no error, not even for refuse (the kernel takes EOPNOTSUPP for done), and the old data then. Whoever
--             reads what it has discarded and expects zeroes is found out: garbage in a new file, a RAID whose parity
--             does not fit, a checksum that fails. With a delay, fstrim and mount -o discard are slow.
-- Numbers:    none; ATA calls the first two "RZAT" and "DRAT", the others are those without a promise.

local p = params { mode = "garbage", delay = "0s" }
local block = 4096
-- Of mixed so small, because a verdict has 8 places.
device { size = "1G", discard = p.mode ~= "mixed" or { granularity = block, max = 8 * block } }

local discarded = ranges("discarded")
if time(p.delay) > 0 then rule { op = "discard", delay = p.delay } end
if p.mode == "old" then
  rule { op = "discard", drop = true }
elseif p.mode == "refuse" then
  rule { op = "discard", error = "EOPNOTSUPP" }
elseif p.mode == "garbage" then
  function discard(io, offset, length) discarded:add(offset, length) end
elseif p.mode == "mixed" then
  local medium, choices = backing(), { "zero", "old", "garbage" }
  function discard(io, offset, length)
    local verdict
    for at = -offset % block, length - block, block do   -- whole blocks; what is left at the edges stays as it is
      local place, choice = offset + at, choices[random(3)]
      if choice == "garbage" then discarded:add(place, block) else discarded:remove(place, block) end
      if choice == "zero" then
        local part = to(place, medium, at, block)
        verdict = verdict and verdict + part or part
      end
    end
    return verdict or drop()
  end
elseif p.mode ~= "zero" then
  error("mode=" .. p.mode .. ": zero, old, garbage, mixed or refuse is expected", 0)
end
rule { op = { "write", "write_zeroes" }, range = discarded, heal = true }
rule { op = "read", range = discarded, verdict = corrupt { mode = "garbage", sticky = true } }

local zeroes = ("\0"):rep(4096)
local function after_discard(disk)
  local old = disk:write("1M", "4K").data
  disk:discard("1M", "4K")
  return disk:read("1M", "4K").data, old
end

test("zeroes", { mode = "zero" }, function(disk) expect(after_discard(disk), zeroes) end)
test("the old data", { mode = "old" }, function(disk) expect(after_discard(disk)) end)
test("the old data when it is refused", { mode = "refuse" }, function(disk) expect(after_discard(disk)) end)
test("garbage until it is written again", { mode = "garbage" }, function(disk)
  local data, old = after_discard(disk)
  assert(data ~= zeroes and data ~= old)
  expect(disk:read("1M", "4K").data, data)
  expect(disk:write("1M", "4K").data, disk:read("1M", "4K").data)
end)

test("each block of its own, until it is written again", { mode = "mixed" }, function(disk)
  local old, count = disk:write("1M", "512K").data, { old = 0, zero = 0, garbage = 0 }
  for at = 0, 512 * KiB - 1, 8 * block do disk:discard(1 * MiB + at, 8 * block) end
  local data = disk:read("1M", "512K").data
  expect(disk:read("1M", "512K").data, data)
  for at = 1, #data, 4096 do
    local now = data:sub(at, at + 4095)
    local what = now == zeroes and "zero" or now == old:sub(at, at + 4095) and "old" or "garbage"
    count[what] = count[what] + 1
  end
  for what, blocks in pairs(count) do assert(blocks > 20 and blocks < 70, what .. ": " .. blocks .. " of 128") end
  expect(disk:write("1M", "512K").data, disk:read("1M", "512K").data)
end)

test("a slow discard", { mode = "zero", delay = "1.5s" }, function(disk)
  expect(disk:discard(0, "1M").time, 1500 * ms)
  expect(disk:write(0, "4K").time, 0)
end)
