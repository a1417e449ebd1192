-- thin-queue.lua: a thin volume whose writes wait when the pool is full
--
-- What:       a chunk gets its slot in the pool at the first write to it. Discards of whole chunks give slots back;
--             what has no slot reads zero. When the pool is full, writes to new chunks wait for a discard
--             (in thin, which is simpler, they fail).
-- Imitates:   dm-thin with queue_if_no_space.
-- Parameters: pool=256M   bytes there really are
--             chunk=64K   bytes that are allocated at a time, a power of two, 4K to 4M
-- Example:    ublk-script add thin-queue pool=64M size=1G
-- Live:       ublk-script ctl 0 status    how much of the pool is in use, and how many writes wait
-- You see:    processes in state D with df far from full. fstrim gives slots back; when
--             as many writes wait as the queue is deep (depth=), it waits, too. IOs longer than 7 chunks come in
--             several, because a verdict has 8 segments. The map is lost with the device. One queue.
-- Numbers:    64K is dm-thin's smallest chunk; its writes wait for 60 s, these as long as it takes.

local p = params { pool = "256M", chunk = "64K" }
local chunk = bytes(p.chunk)
local longest = 7 * chunk   -- touches 8 chunks at most, wherever it begins
local d = device { size = "1G", queues = 1, max_io = longest,
  discard = { granularity = chunk, max = longest }, write_zeroes = { max = longest } }
if tonumber(d.queues) ~= 1 then error("queues=" .. d.queues .. ": a map in a Lua table is one queue's", 0) end

-- In memory an IO is done before the next one is looked at, and what was discarded is zero. There are slots for the
-- whole device, because a write that waits has got its own: how many may be in use is a matter of counting.
local pool, chunks = backing { size = (bytes(d.size) + chunk - 1) // chunk * chunk }, bytes(p.pool) // chunk
local map, free, used, fresh = {}, {}, 0, 0   -- chunk to slot; slots given back; how many; never used from here on
local waiting, held = {}, {}                  -- writes, the oldest first; chunk to how many of them touch it

-- Gives the chunks of a write their slots. false: the pool has no room for them, or a write before it waits for that.
local function allocate(first, last)
  local new, fits = 0, true
  for number = first, last do
    if not map[number] then new = new + 1 end
    if held[number] then fits = false end
  end
  fits = fits and used + new <= chunks
  for number = first, last do
    if not map[number] then
      map[number] = table.remove(free) or fresh
      if map[number] == fresh then fresh = fresh + 1 end
    end
    if not fits then held[number] = (held[number] or 0) + 1 end
  end
  if fits then used = used + new else waiting[#waiting + 1] = { first = first, last = last, new = new } end
  return fits
end

local function let_in()   -- the writes for which there is room now
  local count = 0
  while waiting[1] and used + waiting[1].new <= chunks do
    local write = table.remove(waiting, 1)
    used, count = used + write.new, count + 1
    for number = write.first, write.last do held[number] = held[number] > 1 and held[number] - 1 or nil end
  end
  if count > 0 then release("fifo", count) end
end

local function split(io, offset, length)
  local fits = io.op ~= "write" or allocate(offset // chunk, (offset + length - 1) // chunk)
  local verdict, at = nil, 0
  while at < length do
    local number, inside = (offset + at) // chunk, (offset + at) % chunk
    local count = math.min(chunk - inside, length - at)
    local slot = map[number]
    if slot and (io.op ~= "discard" or count == chunk) then
      local segment = to(slot * chunk + inside, pool, at, count)
      verdict = verdict and verdict + segment or segment
      if io.op == "discard" and not held[number] then
        map[number], used, free[#free + 1] = nil, used - 1, slot
      end
    end
    at = at + count
  end
  if io.op == "discard" then let_in() end
  if not fits then return hang(nil, verdict) end
  -- None of its chunks is allocated: zero to read, nothing to clear.
  return verdict or io.op == "read" and zero() or done()
end

read, write, discard, write_zeroes = split, split, split, split

function ctl(word)
  if word ~= "status" then error("ctl knows: status", 0) end
  local text = used .. " of " .. chunks .. " chunks of " .. chunk .. " bytes are in use"
  return #waiting == 0 and text or text .. ", " .. #waiting .. " writes wait"
end

local full = { pool = "128K", chunk = "64K", size = "1M" }
test("writes wait until discards return space, the oldest first", full, function(disk)
  disk:write(0, "128K")
  local function send(offset, length)
    local write = disk:send("write", offset, length)
    disk:wait("1h")                           -- what is sent at the same time arrives in any order
    return write
  end
  local large, same, last = send("240K", "32K"), send("252K", "4K"), send("512K", "4K")
  expect(disk:write("4K", "4K").errno, nil)   -- it has its slot
  expect(disk:ctl("status"), "2 of 2 chunks of 65536 bytes are in use, 3 writes wait")
  disk:discard(0, "64K")
  expect(large.done, false)                   -- needs two
  disk:discard("192K", "128K")                -- they are waited for: nothing comes back
  expect(large.done, false)
  disk:discard("64K", "64K")
  disk:wait(same)
  expect(large.done, true)
  expect(last.done, false)
  expect(disk:read("240K", "12K").data, large.data:sub(1, 12288))
  expect(disk:read("252K", "4K").data, same.data)
  expect(disk:read("512K", "4K").data, ("\0"):rep(4096))
  disk:discard("192K", "64K")
  disk:wait(last)
  expect(last.errno, nil)
  expect(disk:read("512K", "4K").data, last.data)
  expect(disk:ctl("status"), "2 of 2 chunks of 65536 bytes are in use")
end)

test("discards that come together let as many writes in", full, function(disk)
  disk:write(0, "128K")
  local writes = { disk:send("write", "256K", "4K"), disk:send("write", "512K", "4K") }
  disk:wait("1h")
  disk:send("discard", 0, "64K")
  disk:send("discard", "64K", "64K")
  for _, write in ipairs(writes) do
    disk:wait(write)
    expect(write.errno, nil)
  end
end)
