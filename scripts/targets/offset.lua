-- offset.lua: a window of a larger disk
--
-- What:       the device is the part of a larger disk that begins at start; nothing outside of it is ever touched.
-- Imitates:   a partition, dm-linear, losetup --offset.
-- Parameters: start=1M   where the window begins, bytes, whole sectors
--             path=      the disk, a file or block device (made when missing); in memory without it
-- Example:    ublk-script add offset start=1M size=512M
-- You see:    byte 0 of the device is byte start of the disk. The partition scan at the start sees no file yet.
-- Numbers:    1M is where partitioning tools put the first partition.

local p = params { start = "1M", path = "" }
local d = device { size = "1G" }

local start = bytes(p.start)
local disk = backing { size = start + bytes(d.size), file = p.path ~= "" and p.path or nil }

-- A whole IO moves: there is nothing to split.
local function shifted(io, offset) return to(start + offset, disk) end

read, write, discard, write_zeroes = shifted, shifted, shifted, shifted

test("first and last byte of the window are there", { start = "1M", size = "1M" }, function(disk)
  local first, last = disk:write(0, "4K"), disk:write(disk.size - 4096, "4K")
  expect(disk:read(0, "4K").data, first.data)
  expect(disk:read(disk.size - 4096, "4K").data, last.data)
end)
