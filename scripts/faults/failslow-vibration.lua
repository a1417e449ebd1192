-- failslow-vibration.lua: a disk whose throughput drops by three orders of magnitude for a while
--
-- What:       full speed for the time up, then so few bytes a second for the time down, and so on.
-- Imitates:   a disk in a vibrating chassis, or one that retries everything: fail-slow.
-- Parameters: up=60s      how long it is well
--             down=30s    how long it is not
--             rate=100K   bytes a second then
-- Example:    ublk-script add failslow-vibration up=60s down=30s size=1G
-- You see:    no error; latencies of seconds, a RAID or a cluster that waits for its slowest member.
-- Numbers:    "down to 100 KB/s" by vibration, one of 101 incidents in 12 institutions (Gunawi et al., FAST 2018);
--             the times are our choice.

local p = params { up = "60s", down = "30s", rate = "100K" }
device { size = "1G" }

rule { window = { from = p.up, period = time(p.up) + time(p.down) }, rate = p.rate }
