-- concat.lua: several disks, one after the other
--
-- What:       the device begins with the first disk, goes on with the second, and so on. An IO across a border is done
--             in two segments.
-- Imitates:   md's linear, dm-linear with several lines, LVM's usual volumes.
-- Parameters: disks=512M,512M   the size of each extent, in order: 8 at most, whole sectors
--             path=             they are the files PATH1, PATH2 ... (made when missing); in memory without it
-- Example:    ublk-script add concat disks=256M,768M size=1G
-- You see:    a device as large as all of them; size= makes it smaller, never larger. The partition scan at the
--             start sees no file yet.
-- Numbers:    none.

local p = params { disks = "512M,512M", path = "" }
local extents, total = {}, 0
for size in p.disks:gmatch("[^,]+") do
  local number = #extents + 1
  local disk = backing { size = size, file = p.path ~= "" and p.path .. number or nil }
  extents[number] = { disk = disk, from = total, to = total + bytes(size) }
  total = total + bytes(size)
end
-- A verdict has 8 segments: so few disks never need more, however long an IO is.
if #extents > 8 then error("disks=" .. p.disks .. ": 8 at most", 0) end
local d = device { size = total }
if bytes(d.size) > total then error("size=" .. d.size .. ": the disks have " .. total .. " bytes", 0) end

local function split(io, offset, length)
  local verdict
  for _, extent in ipairs(extents) do
    local from, to_end = math.max(offset, extent.from), math.min(offset + length, extent.to)
    if from < to_end then    -- this much of the IO is in this extent
      local segment = to(from - extent.from, extent.disk, from - offset, to_end - from)
      verdict = verdict and verdict + segment or segment
    end
  end
  return verdict
end

read, write, discard, write_zeroes = split, split, split, split

test("an IO across a border is whole", { disks = "1M,1M", size = "2M" }, function(disk)
  local write = disk:write(1 * MiB - 4 * KiB, "8K")
  expect(write.errno, nil)
  expect(disk:read(1 * MiB - 4 * KiB, "8K").data, write.data)
  expect(disk:read("1M", "4K").data, write.data:sub(4097))
end)
