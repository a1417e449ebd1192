-- misdirect.lua: now and then an IO goes to another place of the disk
--
-- What:       by chance a write lands elsewhere: its own place keeps the old data, the other place is overwritten.
--             Or a read answers what is elsewhere. All say success.
-- Imitates:   firmware or a controller that mixes addresses up ("flying" writes).
-- Parameters: op=write      write or read
--             p=0.001       the chance that an IO is misdirected, 0 to 1
--             distance=8K   how far off, whole sectors; "-8K" is back
-- Example:    ublk-script add misdirect p=0.01 distance=1M size=1G
-- Simulate:   --ops 20000 --allow data size=64M p=0.01
-- You see:    no error. Checksums without the block's address in them do not notice either: the victim holds a
--             block that is good, but not its own.
-- Numbers:    0.023 % of SSDs and 0.466 % of nearline disks a year (TigerBeetle's digest of FAST 2008 and
--             FAST 2020): far rarer than here. 8 KiB is the distance of PFault's flying writes.

local p = params { op = "write", p = 0.001, distance = "8K" }
device { size = "1G" }

rule { op = p.op, p = p.p, verdict = misdirect(p.distance) }

test("a write lands elsewhere", { op = "write", p = 1, distance = "8K" }, function(disk)
  local write = disk:write(0, "4K")
  expect(write.errno, nil)
  expect(disk:read(0, "4K").data, ("\0"):rep(4096))
  expect(disk:read("8K", "4K").data, write.data)
end)
