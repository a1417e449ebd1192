import Testing

@testable import UblkScript

/// Sizes, times and errno names as people write them.
@Suite struct QuantityTests {
    private static let sizes: [(String, UInt64)] = [
        ("0", 0), ("1", 1), ("4096", 4096), ("4K", 4096), ("4k", 4096), ("4KiB", 4096),
        ("4kiB", 4096), ("1M", 1 << 20), ("1m", 1 << 20), ("1MiB", 1 << 20), ("2G", 2 << 30),
        ("1T", 1 << 40), ("1P", 1 << 50), ("8s", 4096), ("1.5K", 1536), ("0.5G", 1 << 29),
        ("1.50000000000000000000000K", 1536), ("0.001953125K", 2), ("007K", 7168),
        ("9223372036854775807", 9_223_372_036_854_775_807), ("8191P", 8191 << 50),
    ]

    @Test(arguments: sizes)
    func `a size is read`(text: String, bytes: UInt64) {
        #expect(Quantity.bytes(text) == bytes)
    }

    @Test(arguments: [
        "", "K", "-1", "+1", " 1", "1 ", "1 K", "1KB", "1Ki", "1kb", "1B", "1S", "1E", "1.K", ".5K",
        "1.5", "0.3K", "1.1s", "1,5K", "1e3", "0x10", "9223372036854775808", "8192P",
        "18446744073709551616", "99999999999999999999", "1KiBx", "4K\0", "٤K",
        "0.1234567890123456789K",
    ])
    func `anything else is no size`(text: String) {
        #expect(Quantity.bytes(text) == nil)
    }

    private static let times: [(String, UInt64)] = [
        ("0", 0), ("0.0", 0), ("0ms", 0), ("10ns", 10), ("50us", 50_000),
        ("50ms", 50_000_000), ("1.5s", 1_500_000_000), ("2sec", 2_000_000_000),
        ("3m", 180_000_000_000), ("3min", 180_000_000_000), ("1h", 3_600_000_000_000),
        ("0.000001s", 1000), ("9223372036854775807ns", 9_223_372_036_854_775_807),
    ]

    @Test(arguments: times)
    func `a time is read`(text: String, nanoseconds: UInt64) {
        #expect(Quantity.nanoseconds(text) == nanoseconds)
    }

    @Test(arguments: [
        "", "5", "1.5", "ms", "-1ms", "1 ms", "1MS", "1Ms", "0.5ns", "1d", "1hour", "1msx", ".5s",
        "9223372036854775808ns", "2562048h", "1\0ms",
    ])
    func `anything else is no time`(text: String) {
        #expect(Quantity.nanoseconds(text) == nil)
    }

    @Test func `the errnos are those the block layer tells apart`() {
        let expected: [String: Int32] = [
            "EIO": 5, "ENODATA": 61, "EILSEQ": 84, "ETIMEDOUT": 110, "ETIME": 62, "ENOLINK": 67,
            "EREMOTEIO": 121, "EBADE": 52, "ENOSPC": 28, "EOPNOTSUPP": 95, "ENODEV": 19,
            "ENOMEM": 12, "EBUSY": 16, "EAGAIN": 11, "ETOOMANYREFS": 109, "EOVERFLOW": 75,
            "EINVAL": 22,
        ]
        #expect(Set(Quantity.blockErrnoNames) == Set(expected.keys))
        for (name, number) in expected { #expect(Quantity.blockErrno(named: name) == number) }
    }

    @Test(arguments: ["", "eio", "EIO ", "EPERM", "EREMCHG", "5", "EI", "EIOX", "EIO\0"])
    func `any other name is no errno of the block layer`(name: String) {
        #expect(Quantity.blockErrno(named: name) == nil)
    }

    private static let sizeTexts: [(UInt64, String)] = [
        (0, "0"), (1, "1"), (1023, "1023"), (1024, "1K"), (1536, "1536"), (4096, "4K"),
        (1 << 20, "1M"), (1 << 30, "1G"), (3 << 30, "3G"), (1 << 40, "1T"), (1 << 60, "1048576T"),
        (1025 << 10, "1025K"),
    ]

    @Test(arguments: sizeTexts)
    func `a size is written in the largest unit that leaves it whole`(bytes: UInt64, text: String) {
        #expect(Quantity.text(bytes: bytes) == text)
        #expect(Quantity.bytes(text) == bytes)
    }

    private static let timeTexts: [(UInt64, String)] = [
        (0, "0ns"), (1, "1ns"), (1000, "1us"), (1001, "1001ns"), (50_000_000, "50ms"),
        (1_500_000_000, "1500ms"), (5_000_000_000, "5s"), (60_000_000_000, "60s"),
    ]

    @Test(arguments: timeTexts)
    func `a time is written in the largest unit that leaves it whole`(time: UInt64, text: String) {
        #expect(Quantity.text(nanoseconds: time) == text)
        #expect(Quantity.nanoseconds(text) == time)
    }
}
