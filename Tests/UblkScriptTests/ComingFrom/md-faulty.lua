-- Proves the lines of docs/coming-from.md for md faulty. What a section is: ComingFromTests.swift.

--- write-transient
test("every hundredth write fails, and its data is there", function(disk)
  for number = 1, 300 do
    local write = disk:write("1M", "4K")
    expect(write.errno, number % 100 == 0 and "EIO" or nil, number)
    expect(disk:read("1M", "4K").data, write.data)
  end
end)

--- read-transient
test("every hundredth read fails, and the next does not", function(disk)
  local write = disk:write("1M", "4K")
  for number = 1, 300 do
    expect(disk:write(0, "4K").errno, nil)
    local read = disk:read("1M", "4K")
    expect(read.errno, number % 100 == 0 and "EIO" or nil, number)
    if not read.errno then expect(read.data, write.data) end
  end
end)

--- -- write-all
test("write-all fails everything that is not a read, once the state is set", { cache = "volatile" }, function(disk)
  local old = disk:write(0, "4K")
  expect(old.errno, nil)
  expect(disk:flush().errno, nil)
  disk:ctl("state", "failed")
  expect(disk:write(0, "4K").errno, "EIO")
  expect(disk:flush().errno, "EIO")
  expect(disk:discard(0, "4K").errno, "EIO")
  expect(disk:write_zeroes(0, "4K").errno, "EIO")
  expect(disk:read(0, "4K").data, old.data)
  disk:ctl("state", "mended")
  expect(disk:write(0, "4K").errno, nil)
end)

--- block: -- write-persistent
-- So many reads or writes that succeed.
local function pass(disk, op, count)
  for number = 1, count do expect(disk[op](disk, 0, "4K").errno, nil, number) end
end

test("the thousandth read fails for good until its first sector is rewritten", function(disk)
  pass(disk, "read", 999)
  expect(disk:read("8M", "4K").errno, "EIO")
  expect(disk:read("8M", "512").errno, "EIO")
  expect(disk:read(8 * MiB + 512, "512").errno, nil, "the sector behind")
  disk:write(8 * MiB + 512, "512")
  expect(disk:read("8M", "4K").errno, "EIO", "another sector was rewritten")
  local write = disk:write("8M", "512")
  expect(write.errno, nil)
  expect(disk:read("8M", "512").data, write.data)
end)

test("the two thousandth read fails for good, and rewriting does not help", function(disk)
  pass(disk, "read", 999)
  disk:read("8M", "4K")
  pass(disk, "read", 999)
  expect(disk:read("16M", "4K").errno, "EIO")
  local write = disk:write("16M", "4K")
  expect(write.errno, nil)
  expect(disk:read("16M", "512").errno, "EIO")
  disk:ctl("rule", "off", "all")
  expect(disk:read("16M", "4K").data, write.data)
end)

test("the thousandth write fails for good, its place can be read and has the data", function(disk)
  pass(disk, "write", 999)
  for _ = 1, 3 do
    local write = disk:write("8M", "4K")
    expect(write.errno, "EIO")
    expect(disk:read("8M", "4K").data, write.data)
  end
  expect(disk:write(8 * MiB + 512, "512").errno, nil)
  expect(disk:write("8188K", "8K").errno, "EIO")
end)
