-- wear.lua: flash that wears out where it is written most
--
-- What:       counts the writes of each block; one that has had its share cannot be written any more, and one that
--             is read too often without being rewritten loses its data.
-- Imitates:   the end of the life of flash without wear levelling (an SD card, an eMMC), and read disturb.
-- Parameters: block=256K       an erase block
--             writes=1000      so many writes to it before it fails, give or take
--             spread=0.2       a share by which blocks differ
--             reads=0          so many reads of it before its data is unreadable; 0: any number
-- Example:    ublk-script add wear writes=50 block=64K size=256M
-- Live:       ublk-script ctl 0 ranges worn list           (and disturbed)
-- You see:    EIO for writes to the places that are written most: a filesystem's journal and its superblock first.
--             ENODATA for reads of a disturbed block until it is rewritten.
-- Numbers:    1000 to 3000 cycles is usual for TLC, 10^5 to 10^6 reads for read disturb (Cai et al., Proc. IEEE 2017);
--             here far fewer.

local p = params { block = "256K", writes = 1000, spread = 0.2, reads = 0 }
device { size = "1G", queues = 1 }

local block, worn, disturbed = bytes(p.block), ranges("worn"), ranges("disturbed")
local written, read_since, life = {}, {}, {}

rule { op = { "write", "write_zeroes" }, range = worn, error = "EIO" }
rule { op = "write", range = disturbed, heal = true }
rule { op = "read", range = disturbed, error = "ENODATA" }

function write(io, offset, length)
  for b = offset // block, (offset + length - 1) // block do
    life[b] = life[b] or math.floor(p.writes * (1 + p.spread * (2 * random() - 1)))
    written[b] = (written[b] or 0) + 1
    if written[b] >= life[b] then worn:add(b * block, block) end
    read_since[b] = 0
  end
end

if p.reads > 0 then
  function read(io, offset, length)
    for b = offset // block, (offset + length - 1) // block do
      read_since[b] = (read_since[b] or 0) + 1
      if read_since[b] >= p.reads then disturbed:add(b * block, block) end
    end
  end
end

test("a block is worn out, its neighbour is not", { writes = 3, spread = 0, reads = 0 }, function(disk)
  for _ = 1, 3 do expect(disk:write(0, "4K").errno, nil) end
  expect(disk:write(0, "4K").errno, "EIO")
  expect(disk:write(block, "4K").errno, nil)
  expect(disk:read(0, "4K").errno, nil)
end)

test("reads disturb until it is rewritten", { reads = 2, writes = 1000 }, function(disk)
  for _ = 1, 2 do expect(disk:read(0, "4K").errno, nil) end
  expect(disk:read(0, "4K").errno, "ENODATA")
  expect(disk:write(0, block).errno, nil)
  expect(disk:read(0, "4K").errno, nil)
end)
