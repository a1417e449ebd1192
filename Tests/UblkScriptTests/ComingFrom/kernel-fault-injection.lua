-- Proves the lines of docs/coming-from.md for the kernel's fault injection and NVMe's. What a section is:
-- ComingFromTests.swift.

-- Reads 4 KiB so often, if they succeed; gives the numbers of those that failed, and the last of them.
local function failures(disk, count)
  local numbers, last = {}, nil
  for number = 1, count do
    local io = disk:read(0, "4K")
    if io.errno then
      numbers[#numbers + 1] = number
      last = io
    end
  end
  return numbers, last
end

--- fail_make_request, space
test("behind the first MiB every fifth IO fails by chance, three times", function(disk)
  local numbers, last = failures(disk, 2000)
  expect(#numbers, 3)
  expect(last.errno, "EIO")
  -- 1 MiB is 256 reads.
  for _, number in ipairs(numbers) do assert(number > 256 and (number - 256) % 5 == 0, number) end
  assert(numbers[3] > 271, "by chance these are not the first three that could fail")
end)

--- fail_make_request, space with p = 0.1 to p = 1
test("the space ends with the first MiB, then the interval counts", function(disk)
  expect(table.concat(failures(disk, 1000), " "), "261 266 271")
end)

test("the space counts bytes of all kinds of IO", function(disk)
  disk:write("8M", "512K")
  disk:write("8M", "512K")
  expect(table.concat(failures(disk, 100), " "), "5 10 15")
end)

--- -- fail_io_timeout
test("behind a thousand requests every fifth times out by chance, three times", function(disk)
  local numbers, last = failures(disk, 2000)
  expect(#numbers, 3)
  expect(last.errno, "ETIMEDOUT")
  expect(last.time, 30 * sec)
  for _, number in ipairs(numbers) do assert(number > 1000 and number % 5 == 0, number) end
  assert(numbers[3] > 1015, "by chance these are not the first three that could time out")
end)

--- -- fail_io_timeout with p = 0.1 to p = 1
test("the space ends with a thousand requests, of any length", function(disk)
  disk:write("8M", "512K")
  expect(table.concat(failures(disk, 1999), " "), "1004 1009 1014")
end)

--- -- fail-nth
test("the 17th fails, and no other", function(disk)
  local numbers, last = failures(disk, 200)
  expect(table.concat(numbers, " "), "17")
  expect(last.errno, "EIO")
end)

test("all kinds of IO count for it", function(disk)
  for _ = 1, 8 do
    disk:write(0, "4K")
    disk:discard(0, "4K")
  end
  expect(disk:write("1M", "4K").errno, "EIO")
end)

--- unrecovered read, not retried
test("one read of a hundred fails, five times at most", function(disk)
  for _ = 1, 2000 do expect(disk:write(0, "4K").errno, nil) end
  local numbers, last = failures(disk, 5000)
  expect(#numbers, 5)
  expect(last.errno, "ENODATA")
  assert(numbers[5] > 100 and numbers[5] < 1500, numbers[5])
end)

--- -- dont_retry
test("one command of a hundred fails for good, five times at most", function(disk)
  local numbers, last = failures(disk, 5000)
  expect(#numbers, 5)
  expect(last.errno, "EREMOTEIO")
  assert(numbers[5] > 100 and numbers[5] < 1500, numbers[5])
end)

--- path error: multipath
test("one command of a hundred has lost its path, five times at most", function(disk)
  local numbers, last = failures(disk, 5000)
  expect(#numbers, 5)
  expect(last.errno, "ENOLINK")
  assert(numbers[5] > 100 and numbers[5] < 1500, numbers[5])
end)
