-- smr-dm.lua: a drive-managed SMR disk, fast until its media cache is full
--
-- What:       writes are fast until the cache is full, then they wait for its cleaning; pauses empty it again.
--             Once as much as the cache holds has been asked for, writes also stall now and then.
-- Imitates:   shingled disks that RAID arrays throw out in a rebuild.
-- Parameters: media_cache=1G   how much is written at full speed
--             rate=1M          bytes a second when it is full, and how fast a pause empties it
--             stall=5s         how long nothing is written when the disk tidies up
--             p=0.0005         the chance that a write begins such a stall, 0 to 1
-- Example:    ublk-script add smr-dm media_cache=64M size=1G
-- Simulate:   --bs 64K --rate 100 --time 1min size=64M media_cache=16M
-- You see:    cp is quick and then slow; single writes take seconds. No error.
-- Numbers:    about 1 MB/s when full and latencies of seconds to minutes are users' reports (raid.wiki.kernel.org;
--             netdex.org, 2020); the size of the cache is our choice, vendors do not tell.

local p = params { media_cache = "1G", rate = "1M", stall = "5s", p = 0.0005 }
device { size = "8G", rotational = true }

local room = bucket { name = "media-cache", rate = p.rate, burst = p.media_cache }
rule { op = "write", rate = room }
rule { op = "write", after = { bytes = p.media_cache }, p = p.p, stall = p.stall }

test("when the media cache is full, writes stall", { media_cache = "1M", rate = "1M", p = 1 }, function(disk)
  expect(disk:write(0, "512K").time, 0)
  expect(disk:write(0, "512K").time, 0)
  assert(disk:write(0, "512K").time >= time(p.stall))
end)
