-- spinning.lua: a disk with an arm, which has to get to where the data is
--
-- What:       an IO that begins where the last one ended is only transferred; any other waits for the seek, which
--             grows with the square root of the way up to half of the disk and evenly beyond, and for the sector to
--             come around. The disk does one thing at a time, so a queue adds up.
-- Imitates:   a hard disk without a cache; nbdkit's spinning filter.
-- Parameters: rotation=8.33ms    of the platter: after a seek a part of it by chance; 0s: none
--             min_seek=1ms       to the next track
--             half_seek=10.5ms   over half of the disk
--             max_seek=18ms      from end to end
--             heads=1            so many parts of the disk have a head of their own, all on one arm
--             bandwidth=180M     bytes a second
-- Example:    ublk-script add spinning rotation=5.56ms bandwidth=120M size=1G
-- Simulate:   --ops 2000 size=1G
-- You see:    fio reads some 80 random blocks a second, and 180 MB/s in sequence; two programs that read in sequence
--             at the same time spoil it for both.
-- Numbers:    a turn at 7200 rpm is 8.33 ms (5400: 11.1 ms). With these seeks a random one takes 8.4 ms, where data
--             sheets of such disks have 8 to 9 ms. The curve is that of Ruemmler and Wilkes, IEEE Computer 1994.

local p = params {
  rotation = "8.33ms", min_seek = "1ms", half_seek = "10.5ms", max_seek = "18ms", heads = 1, bandwidth = "180M",
}
local d = device { size = "8G", queues = 1, rotational = true, discard = false }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": each would have an arm of its own", 0) end

rule {
  service = {
    rotation = p.rotation, min_seek = p.min_seek, half_seek = p.half_seek, max_seek = p.max_seek,
    heads = p.heads, bandwidth = p.bandwidth,
  },
}

-- Settings without chance in them, at a MiB a millisecond.
local function exact(changes)
  local settings = { rotation = "0s", min_seek = "1ms", half_seek = "9ms", max_seek = "16ms", heads = 1,
    bandwidth = "1000M", size = "1G" }
  for name, value in pairs(changes or {}) do settings[name] = value end
  return settings
end
local transfer = 500 * us   -- of 512K

test("what follows the last IO is only transferred", exact(), function(disk)
  for i = 0, 9 do expect(disk:read(i * 512 * KiB, "512K").time, transfer) end
  expect(disk:write(10 * 512 * KiB, "512K").time, transfer)
end)

test("the farther the slower", exact(), function(disk)
  local function seek(from, to)
    disk:read(from * MiB - 512 * KiB, "512K")
    return disk:read(to * MiB, "512K").time - transfer
  end
  expect(seek(1, 1), 0)
  expect(seek(1, 1 + 128), 5 * ms)       -- an eighth: half way between 1 and 9 ms
  expect(seek(1 + 128, 1), 5 * ms)
  expect(seek(1, 1 + 512), 9 * ms)
  expect(seek(1, 1 + 768), 12500 * us)   -- three quarters: half way between 9 and 16 ms
end)

test("with two heads the arm is over two places at once", exact { heads = 2 }, function(disk)
  disk:read(0, "512K")
  expect(disk:read(512 * MiB + 512 * KiB, "512K").time, transfer)
end)

local same = { rotation = "8ms", half_seek = "1ms", max_seek = "1ms" }   -- each seek takes 1 ms
test("after a seek the sector is up to one turn away", exact(same), function(disk)
  local least, most, sum = 8 * ms, 0, 0
  for i = 1, 200 do
    local turn = disk:read(i % 2 * 512 * MiB, "512K").time - transfer - 1 * ms
    least, most, sum = math.min(least, turn), math.max(most, turn), sum + turn
  end
  assert(least >= 0 and least < 1 * ms and most > 7 * ms and most <= 8 * ms, least .. " to " .. most)
  assert(sum > 200 * 3 * ms and sum < 200 * 5 * ms, "half a turn on average")
  expect(disk:read(512 * KiB, "512K").time, transfer, "none without a seek")
end)

test("a queue adds up", exact(), function(disk)
  local near, far = disk:send("read", 0, "512K"), disk:send("read", "512M", "512K")
  disk:wait(near)
  disk:wait(far)
  assert(math.max(near.time, far.time) > math.min(near.time, far.time) + 9 * ms)
end)

test("a disk of 7200 rpm", { size = "1G", bandwidth = "180M" }, function(disk)
  local sum = 0
  for _ = 1, 500 do sum = sum + disk:read(random(0, 262143) * 4096, "4K").time end
  local mean = sum / 500 / ms
  assert(mean > 11.5 and mean < 13.5, mean .. " ms for a random block")
end)
