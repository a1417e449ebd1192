-- lse-nearline.lua: a SATA disk with latent sector errors, in clusters
--
-- What:       from some time on, clusters of sectors cannot be read; rewriting a sector heals it.
-- Imitates:   latent sector errors: nobody knows of them until somebody reads there.
-- Parameters: clusters=9   how many groups of bad sectors; each has 4 of them on average, within 1 MiB
--             span=1G      where: in the first so many bytes of the disk
--             after=60s    when: until then everything is good, and nothing heals
--             place=1      another number puts them elsewhere
-- Example:    ublk-script add lse-nearline clusters=20 after=30s size=1G
-- Simulate:   --rw randread --rate 100 --time 3min size=64M span=64M
-- Live:       ublk-script ctl 0 ranges bad list           (add 8M 4K, remove, count, clear)
-- You see:    No data available (O_DIRECT) or EIO where a read touches one; the kernel's log says critical medium
--             error. A scrub or a RAID rebuild finds them.
-- Numbers:    8.5 % of nearline disks and 1.9 % of enterprise disks had at least one in 32 months, with strong
--             spatial locality (Bairavasundaram et al., SIGMETRICS 2007). This disk is one of those; how many
--             clusters, 1 MiB and 4 sectors are our choice, nearline to enterprise as 8.5 to 1.9.

local p = params { clusters = 9, span = "1G", after = "60s", place = 1 }
device { size = "1G" }

-- Not random(): every queue of the device must find the same places.
local x = p.place
local function pick(n)
  x = x * 6364136223846793005 + 1442695040888963407
  return (x >> 33) % n
end

local bad = ranges("bad")
for _ = 1, p.clusters do
  local start = pick(math.max(1, bytes(p.span) // MiB)) * MiB
  repeat bad:add(start + pick(2048) * 512, 512) until pick(4) == 0
end

rule { op = "read", range = bad, after = p.after, error = "ENODATA" }
rule { op = { "write", "discard", "write_zeroes" }, range = bad, after = p.after, heal = true }

test("a bad sector is found when it is read, and healed by a write", { clusters = 1, after = "1s" }, function(disk)
  local place = bad:list()[1]
  expect(disk:read(place[1], place[2]).errno, nil)
  disk:wait("1s")
  expect(disk:read(place[1], place[2]).errno, "ENODATA")
  disk:write(place[1], place[2])
  expect(disk:read(place[1], place[2]).errno, nil)
end)
