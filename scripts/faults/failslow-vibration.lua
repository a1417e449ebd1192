-- failslow-vibration.lua: a disk whose throughput drops by three orders of magnitude for a while
--
-- What:       full speed for the time up, then so few bytes a second for the time down, and so on.
-- Imitates:   a disk in a vibrating chassis, or one that retries everything: fail-slow.
-- Parameters: up=60s      how long it is well
--             down=30s    how long it is not
--             rate=100K   bytes a second then
-- Example:    ublk-script add failslow-vibration up=60s down=30s size=1G
-- Simulate:   --rate 50 --time 2min
-- You see:    no error; latencies of seconds, a RAID or a cluster that waits for its slowest member.
-- Numbers:    "down to 100 KB/s" by vibration, one of 101 incidents in 12 institutions (Gunawi et al., FAST 2018);
--             the times are our choice.

local p = params { up = "60s", down = "30s", rate = "100K" }
device { size = "1G" }

rule { window = { from = p.up, period = time(p.up) + time(p.down) }, rate = p.rate }

test("while it shakes, 64 KiB take most of a second", { up = "60s", down = "30s", rate = "100K" }, function(disk)
  expect(disk:read(0, "64K").time, 0)
  disk:wait("60s")
  disk:read(0, "64K")
  local slow = disk:read(0, "64K").time
  assert(slow > 600 * ms and slow < 700 * ms)
end)
