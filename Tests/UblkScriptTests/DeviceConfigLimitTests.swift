import Testing

@testable import UblkScript

/// Every key of `device{}` at its limits: the lowest and highest value it takes, one below, one above, a wrong type.
@Suite struct DeviceConfigLimitTests {
    struct Key: Sendable, CustomTestStringConvertible {
        let name: String
        /// Other settings that the key needs beside it.
        var beside: [(String, Setting.Value)] = []
        let accepted: [Setting.Value]
        let refused: [Setting.Value]
        /// What the message says is expected.
        let expected: String
        var testDescription: String { name }
    }

    private static let page = Int64(DeviceConfig.pageBytes)

    private static let numbers: [Key] = [
        Key(
            name: "queues",
            accepted: [1, 4096, "1", "4096"],
            refused: [0, 4097, -1, "0", "4097", "many", "1.5", 1.5, true, .list([1])],
            expected: "a whole number from 1 to 4096"
        ),
        Key(
            name: "depth",
            accepted: [1, 4096],
            refused: [0, 4097, .integer(.min), "", "4K"],
            expected: "a whole number from 1 to 4096"
        ),
        Key(
            name: "io_desc_size",
            accepted: [24, 32, 256, "64"],
            refused: [0, 16, 23, 257, 264, -24, "1K", true],
            expected: "a whole number from 24 to 256"
        ),
        Key(
            name: "seed",
            accepted: [0, .integer(.max), "9223372036854775807"],
            refused: [-1, "9223372036854775808", 0.5, "x"],
            expected: "a whole number from 0 to 9223372036854775807"
        ),
    ]

    private static let sizes: [Key] = [
        Key(
            name: "size",
            accepted: [512, "1K", .integer(1 << 60), "1024P"],
            refused: [0, 511, -512, .integer((1 << 60) + 512), "1025P", "8E", 1.5, true, "big"],
            expected: "a size from 512 to 1048576T"
        ),
        Key(
            name: "max_io",
            accepted: [.integer(page), "32M"],
            refused: [.integer(page - 1), .integer((32 << 20) + page), "64M", 0, false],
            expected: "to 32M"
        ),
        Key(
            name: "logical_block_size",
            accepted: [512, .integer(page)],
            refused: [0, 256, 513, 1000, .integer(page * 2), "1s ", true],
            expected: "a power of two from 512 to"
        ),
        Key(
            name: "physical_block_size",
            accepted: [512, "256M"],
            refused: [256, 3000, "512M", "x"],
            expected: "a power of two from 512 to 256M"
        ),
        Key(
            name: "io_min",
            accepted: [512, "256M"],
            refused: [256, 3000, "512M"],
            expected: "a power of two from 512 to 256M"
        ),
        Key(
            name: "io_opt",
            accepted: [4096, "256M"],
            refused: [0, 2048, 6000, "512M"],
            expected: "a power of two from 4K to 256M"
        ),
        Key(
            name: "chunk_size",
            accepted: [4096, "64K", "256M"],
            refused: [0, 512, 5000, "96K", "512M"],
            expected: "a power of two from 4K to 256M"
        ),
        Key(
            name: "memory",
            accepted: ["256K", "64G"],
            refused: [0, .integer((256 << 10) - 1), .integer((64 << 30) + 1), "50ms"],
            expected: "a size from 256K to 64G"
        ),
    ]

    private static let others: [Key] = [
        Key(
            name: "budget",
            accepted: ["1ms", "5s", 1_000_000, 5_000_000_000],
            refused: [0, 999_999, "999us", 5_000_000_001, "6s", "1", "fast", true],
            expected: "a time from 1ms to 5s"
        ),
        Key(
            name: "ledger",
            accepted: ["faults", "all"],
            refused: ["mapping", "", true, 1],
            expected: "one of \"faults\", \"all\""
        ),
        Key(
            name: "ledger_size",
            accepted: [16, 1_048_576, "8192"],
            refused: [0, 15, 1_048_577, -1, "4Q", true],
            expected: "a whole number from 16 to 1048576"
        ),
        Key(
            name: "backing",
            accepted: ["memory", "null"],
            refused: ["ram", "", 1, true],
            expected: "one of \"memory\", \"file\", \"null\""
        ),
        Key(
            name: "data",
            accepted: ["auto"] + DataMode.allCases.map { .string($0.rawValue) },
            refused: ["zero", "user-copy", "", 1, true],
            expected: "one of \"auto\", "
                + DataMode.allCases.map { "\"\($0.rawValue)\"" }.joined(separator: ", ")
        ),
        Key(
            name: "shared_memory",
            beside: [("data", "shared_memory")],
            accepted: [.integer(page), "4G"],
            refused: [.integer(page - 1), 0, "5G", "much", true],
            expected: "to 4G"
        ),
        Key(
            name: "cache",
            accepted: ["volatile", "none"],
            refused: ["Volatile", true, ""],
            expected: "one of \"volatile\", \"none\""
        ),
        Key(
            name: "on_error",
            accepted: ["fail", "pass", "stop"],
            refused: ["ignore", false, 0],
            expected: "one of \"fail\", \"pass\", \"stop\""
        ),
        Key(
            name: "fua",
            beside: [("cache", "volatile")],
            accepted: [true, false],
            refused: [1, "yes"],
            expected: "true or false"
        ),
        Key(
            name: "rotational",
            accepted: [true, false, "true", "false", "1", "0"],
            refused: [1, 0, "yes", "", .list([])],
            expected: "true or false"
        ),
        Key(
            name: "shared",
            beside: [("file", "disk.img")],
            accepted: [true, false],
            refused: [1, "yes"],
            expected: "true or false"
        ),
        Key(name: "read_only", accepted: [true, false], refused: [2], expected: "true or false"),
        Key(
            name: "lock_memory",
            accepted: [true, false, "true"],
            refused: [1, "yes"],
            expected: "true or false"
        ),
        Key(
            name: "partitions",
            accepted: [true, false],
            refused: ["no"],
            expected: "true or false"
        ),
        Key(
            name: "recovery",
            beside: [("backing", "null")],
            accepted: ["off", "wait", "reissue", "fail"],
            refused: ["queue", "", true, 1],
            expected: "one of \"off\", \"wait\", \"reissue\", \"fail\""
        ),
        Key(
            name: "discard",
            accepted: [true, false],
            refused: [1, "on"],
            expected: "true or false"
        ),
        Key(
            name: "write_zeroes",
            accepted: [true, false],
            refused: [1, "on"],
            expected: "true or false"
        ),
        Key(
            name: "file",
            accepted: ["disk.img", "/dev/sda"],
            refused: ["", "a\0b", 7, true],
            expected: "text that is not empty"
        ),
    ]

    static let keys = numbers + sizes + others

    private func settings(_ key: Key, _ value: Setting.Value) -> [Setting] {
        var settings = key.beside.map { Setting.test($0, $1) }
        // io_opt and the blocks are checked against each other; a size that suits all of them stands beside.
        if key.name != "size", key.name != "file" { settings.append(.test("size", "1G")) }
        return settings + [.test(key.name, value, origin: "faulty.lua:7")]
    }

    @Test func `the table here has every key`() {
        #expect(Self.keys.map(\.name).sorted() == DeviceConfig.keys.sorted())
    }

    @Test(arguments: keys)
    func `the lowest and the highest value are accepted`(key: Key) {
        for value in key.accepted {
            let problem = refusal { () throws(ConfigError) in
                _ = try DeviceConfig(settings(key, value))
            }
            #expect(problem == nil, "\(value)")
        }
    }

    @Test(arguments: keys)
    func `what is outside is refused with origin, key, value and range`(key: Key) {
        for value in key.refused {
            let problem = refusal { () throws(ConfigError) in
                _ = try DeviceConfig(settings(key, value))
            }
            #expect(problem?.origin == "faulty.lua:7", "\(value)")
            let text = problem?.description ?? "accepted"
            #expect(
                text.hasPrefix("faulty.lua:7: \(key.name) = \(Setting.describe(value)): "),
                "\(text)"
            )
            #expect(text.contains(key.expected), "\(text)")
            #expect(text.hasSuffix("is expected"), "\(text)")
        }
    }

    @Test func `a largest request is whole pages`() {
        let problem = refusal { () throws(ConfigError) in
            _ = try DeviceConfig([.test("size", "1G"), .test("max_io", .integer(Self.page + 512))])
        }
        #expect(problem?.text.contains("a multiple of the page size (\(Self.page))") == true)
    }

    @Test func `memory to share is whole pages, and for the mode that shares it`() {
        func problem(_ data: String, _ memory: Setting.Value) -> String {
            do {
                _ = try DeviceConfig([
                    .test("size", "1G"), .test("data", .string(data)),
                    .test("shared_memory", memory),
                ])
                return ""
            } catch { return "\(error)" }
        }
        let text = problem("shared_memory", .integer(Self.page + 512))
        #expect(text.contains("a multiple of the page size (\(Self.page))"))
        #expect(problem("copy", "1M").contains("data = \"shared_memory\" beside it"))
        #expect(problem("shared_memory", "1M").isEmpty)
    }

    @Test func `values are shown as people wrote them`() {
        let shown: [(Setting.Value, String)] = [
            (true, "true"), (-5, "-5"), (1.5, "1.5"), ("x", "\"x\""), (.ranges(1), "ranges"),
            (.list([1, "a"]), "{1, \"a\"}"), (.table(["b": 1, "a": 2]), "{a = ..., b = ...}"),
        ]
        for (value, text) in shown { #expect(Setting.describe(value) == text) }
    }
}
