-- hdd-desktop-retry.lua: a desktop disk that tries for two minutes to read a bad sector
--
-- What:       a read of the bad place is answered with a medium error only after the retry time; the drive does
--             nothing else meanwhile. A write heals the place.
-- Imitates:   a disk without error recovery control (SCT ERC), which RAID kicks out.
-- Parameters: start=8M     where the bad place begins, bytes
--             len=4K       how long it is, bytes
--             retry=120s   how long the drive tries
-- Example:    ublk-script add hdd-desktop-retry start=8M len=4K size=1G
-- Simulate:   --rate 10 --time 5min size=16M len=1M
-- Live:       ublk-script ctl 0 ranges bad add 16M 4K     (remove, list, count, clear)
-- You see:    dd stands still for two minutes, and so does everything else on that disk; then No data available. md
--             and multipath have long timed out by then.
-- Numbers:    desktop disks may take over two minutes, and the kernel gives a SCSI command up after 30 s
--             (raid.wiki.kernel.org, Timeout Mismatch).

local p = params { start = "8M", len = "4K", retry = "120s" }
device { size = "1G", rotational = true, cache = "volatile" }

local bad = ranges("bad"):add(p.start, p.len)
local busy = counter("busy") -- until when the drive retries, on the device's clock
local retry = time(p.retry)
local unreadable = fail("ENODATA")

-- Rules cannot make one IO hold up all others, so handlers do.
local function wait()
  local left = busy:get() - now()
  if left > 0 then return delay(left) end
end

function read(io, offset, length)
  if not bad:has(offset, length) then return wait() end
  busy:set(math.max(busy:get(), now()) + retry)
  return wait() + unreadable
end

write, flush, discard, write_zeroes = wait, wait, wait, wait
rule { op = { "write", "discard", "write_zeroes" }, range = bad, heal = true }

test("everything waits while the drive retries", { start = "8M", len = "4K", retry = "7s" }, function(disk)
  local failing, other = disk:send("read", "8M", "4K"), disk:send("read", 0, "4K")
  disk:wait(failing)
  expect(failing.errno, "ENODATA")
  expect(failing.time, 7 * sec)
  disk:wait(other)
  expect(other.errno, nil)
  expect(other.time, 7 * sec)
  disk:write("8M", "4K")
  expect(disk:read("8M", "4K").errno, nil)
end)
