-- rate-limit.lua: a disk with limited throughput
--
-- What:       so many bytes, and if wanted so many IOs, a second, after a first burst; more has to wait its turn.
-- Imitates:   a cloud volume with provisioned throughput; nbdkit's rate filter, null_blk's mbps.
-- Parameters: rate=10M   bytes a second
--             burst=1M   bytes that pass at once after a pause
--             iops=0     IOs a second, of any length; 0: no limit
--             op=any     read, write, flush, discard, write_zeroes, or any
-- Example:    ublk-script add rate-limit rate=1M iops=100 size=1G
-- Simulate:   --bs 64K --rate 500 --time 10s
-- Live:       ublk-script ctl 0 rate 500K      (from the next IO on)
-- You see:    fio and iostat show that rate; latencies grow with the queue depth.
-- Numbers:    none: yours.

local p = params { rate = "10M", burst = "1M", iops = 0, op = "any" }
device { size = "1G" }

local op = p.op ~= "any" and p.op or nil
local limit = bucket { name = "bytes", rate = p.rate, burst = p.burst }
rule { op = op, rate = limit }
if p.iops > 0 then rule { op = op, rate = bucket { name = "ios", iops = p.iops } } end

function ctl(word, rate)
  if word ~= "rate" then error("ctl knows: rate BYTES_A_SECOND", 0) end
  return limit:rate(rate) .. " bytes a second"
end

test("after the burst it is slow", { rate = "1M", burst = "1M", iops = 0, op = "any" }, function(disk)
  expect(disk:write(0, "512K").time, 0)
  expect(disk:write(0, "512K").time, 0)
  expect(disk:write(0, "512K").time, 500 * ms)
  expect(disk:ctl("rate", "2M"), "2097152 bytes a second")
end)
