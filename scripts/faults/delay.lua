-- delay.lua: a disk whose every IO takes longer
--
-- What:       adds a fixed time to each kind of IO; waits overlap, they do not queue.
-- Imitates:   a remote volume, a slow link; dm-delay, kublk --delay_us.
-- Parameters: read=0ms     added to every read
--             write=50ms   added to every write
--             flush=0ms    added to every flush of the cache, and so to fsync
-- Example:    ublk-script add delay read=5ms write=50ms size=1G
-- Simulate:   --rate 100 --time 10s
-- You see:    iostat's r_await and w_await grow by that much; nothing fails.
-- Numbers:    50 ms is a round figure that is easy to see.

local p = params { read = "0ms", write = "50ms", flush = "0ms" }
device { size = "1G", cache = "volatile" }

for _, op in ipairs { "read", "write", "flush" } do
  if time(p[op]) > 0 then rule { op = op, delay = p[op] } end
end

test("each kind takes as long as it is told to", { read = "5ms", write = "50ms", flush = "0ms" }, function(disk)
  expect(disk:read(0, "4K").time, 5 * ms)
  expect(disk:write(0, "4K").time, 50 * ms)
  expect(disk:flush().time, 0)
end)
