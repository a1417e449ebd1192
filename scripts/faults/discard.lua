-- discard.lua: what reads give back where data was discarded
--
-- What:       after a discard, reads give zeroes, the old data or garbage, or the discard is refused.
-- Imitates:   drives that promise nothing about trimmed blocks, trims that are ignored, and devices without trim.
-- Parameters: mode=garbage   zero: what good ones do; old: the discard is ignored; garbage: random bytes, always the
--                            same ones, until the place is written again; refuse: EOPNOTSUPP
-- Example:    ublk-script add discard mode=old size=1G
-- Live:       ublk-script ctl 0 ranges discarded list
-- You see:    no error, not even for refuse (the kernel takes EOPNOTSUPP for done), and the old data then. Whoever
--             reads what it has discarded and expects zeroes is found out: garbage in a new file, a RAID whose parity
--             does not fit, a checksum that fails.
-- Numbers:    none; ATA calls the three "RZAT", "DRAT" and no promise.

local p = params { mode = "garbage" }
device { size = "1G", discard = true }

local discarded = ranges("discarded")
if p.mode == "old" then
  rule { op = "discard", drop = true }
elseif p.mode == "refuse" then
  rule { op = "discard", error = "EOPNOTSUPP" }
elseif p.mode == "garbage" then
  function discard(io, offset, length) discarded:add(offset, length) end
  rule { op = { "write", "write_zeroes" }, range = discarded, heal = true }
  rule { op = "read", range = discarded, verdict = corrupt { mode = "garbage", sticky = true } }
elseif p.mode ~= "zero" then
  error("mode=" .. p.mode .. ": zero, old, garbage or refuse is expected")
end

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
