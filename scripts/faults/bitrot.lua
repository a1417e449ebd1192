-- bitrot.lua: sectors in which a bit has changed at rest
--
-- What:       from some time on, so many sectors read back with one bit flipped, always the same one, without
--             an error, until they are rewritten.
-- Imitates:   silent corruption: checksum mismatches that no drive reports.
-- Parameters: sectors=64   how many sectors rot
--             span=1G      where: in the first so many bytes of the disk
--             after=60s    when: until then everything is good, and nothing heals
--             place=1      another number puts them elsewhere
-- Example:    ublk-script add bitrot sectors=1000 after=30s size=1G
-- Simulate:   --rate 100 --time 3min --allow data size=64M span=64M
-- Live:       ublk-script ctl 0 ranges rotten list        (add 8M 512, remove, count, clear)
-- You see:    no error: btrfs and ZFS report a checksum error, ext4 and XFS give you the wrong byte in data, and
--             metadata checksums fail. The ledger lists every corrupted read.
-- Numbers:    more than 400,000 checksum mismatches on 1.53 million disks in 41 months (Bairavasundaram et al.,
--             FAST 2008): far rarer than here. This disk is one of the bad ones.

local p = params { sectors = 64, span = "1G", after = "60s", place = 1 }
device { size = "1G" }

-- Not random(): every queue of the device must find the same places.
local x = p.place
local function pick(n)
  x = x * 6364136223846793005 + 1442695040888963407
  return (x >> 33) % n
end

local rotten = ranges("rotten")
for _ = 1, p.sectors do rotten:add(pick(bytes(p.span) // 512) * 512, 512) end

rule { op = "read", range = rotten, after = p.after, verdict = corrupt { mode = "flip", sticky = true } }
rule { op = { "write", "discard", "write_zeroes" }, range = rotten, after = p.after, heal = true }

test("a sector rots after a while, and is good again when it is rewritten", { sectors = 1, span = 512 }, function(disk)
  local written = disk:write(0, "4K")
  expect(disk:read(0, "4K").data, written.data)
  disk:wait(p.after)
  local rotted = disk:read(0, "4K")
  assert(rotted.errno == nil and rotted.data ~= written.data, "the data is wrong, and nobody says so")
  expect(disk:read(0, "4K").data, rotted.data, "the same at every read")
  disk:write(0, written.data)
  expect(disk:read(0, "4K").data, written.data)
end)
