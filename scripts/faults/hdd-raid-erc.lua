-- hdd-raid-erc.lua: a RAID disk that gives a bad sector up after seven seconds
--
-- What:       a read of the bad place is answered with a medium error only after the retry time; the drive does
--             nothing else meanwhile. A write heals the place.
-- Imitates:   a disk with error recovery control (smartctl -l scterc,70,70).
-- Parameters: start=8M     where the bad place begins, bytes
--             len=4K       how long it is, bytes
--             retry=7s     how long the drive tries
-- Example:    ublk-script add hdd-raid-erc start=8M len=4K size=1G
-- Simulate:   --rate 10 --time 1min size=16M len=1M
-- Live:       ublk-script ctl 0 ranges bad add 16M 4K     (remove, list, count, clear)
-- You see:    a pause of seven seconds, then No data available; RAID reads the other disk and rewrites this one,
--             which heals it.
-- Numbers:    70 tenths of a second is what vendors and mdraid's guides set (raid.wiki.kernel.org, Timeout Mismatch).

local p = params { start = "8M", len = "4K", retry = "7s" }
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
