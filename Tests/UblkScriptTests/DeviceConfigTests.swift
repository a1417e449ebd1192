import Testing

@testable import UblkScript

/// `device{}` and the command line, checked as a whole: defaults, dependencies between keys, order of precedence.
@Suite struct DeviceConfigTests {
    private func config(_ settings: [(String, Setting.Value)]) throws -> DeviceConfig {
        try DeviceConfig(settings.map { .test($0, $1) })
    }

    private func refused(_ settings: [(String, Setting.Value)]) -> String? {
        refusal { () throws(ConfigError) in
            _ = try DeviceConfig(settings.map { .test($0, $1) })
        }?.description
    }

    @Test func `without anything but a size every key has its documented default`() throws {
        let config = try config([("size", "1G")])
        #expect(config.sizeBytes == 1 << 30)
        #expect(config.file == nil)
        #expect(config.backing == .memory)
        #expect(config.queues == 1)
        #expect(config.depth == 128)
        #expect(config.maxIOBytes == 512 << 10)
        #expect(config.logicalBlockBytes == 512)
        #expect(config.physicalBlockBytes == 4096)
        #expect(config.ioMinBytes == 4096)
        #expect(config.ioOptBytes == 0)
        #expect(!config.hasVolatileCache)
        #expect(!config.hasFUA)
        #expect(config.discard == .init(granularityBytes: 4096, maxBytes: 1 << 30))
        #expect(config.writeZeroes == .init(granularityBytes: 4096, maxBytes: 1 << 30))
        #expect(!config.isRotational)
        #expect(!config.isReadOnly)
        #expect(config.scansPartitions)
        #expect(config.seed == nil)
        #expect(config.onError == .fail)
        #expect(config.budgetNanoseconds == 50_000_000)
        #expect(config.scriptMemoryBytes == 64 << 20)
    }

    @Test
    func `a file alone means a file backing with a volatile cache and FUA, of the file's size`()
        throws
    {
        let config = try config([("file", "disk.img")])
        #expect(config.backing == .file)
        #expect(config.file == "disk.img")
        #expect(config.sizeBytes == nil)
        #expect(config.hasVolatileCache)
        #expect(config.hasFUA)
    }

    @Test func `a file without a volatile cache has no FUA`() throws {
        let config = try config([("file", "disk.img"), ("cache", "none")])
        #expect(!config.hasVolatileCache)
        #expect(!config.hasFUA)
    }

    @Test func `memory can have a volatile cache, and FUA with it`() throws {
        let cached = try config([("size", "1M"), ("cache", "volatile")])
        #expect(cached.hasVolatileCache)
        #expect(!cached.hasFUA, "not by itself")
        let fua = try config([("size", "1M"), ("cache", "volatile"), ("fua", true)])
        #expect(fua.hasFUA)
    }

    @Test func `FUA without a volatile cache is refused, as the driver would ignore it`() {
        let text = refused([("size", "1M"), ("fua", true)])
        #expect(text?.contains("test.lua:3") == true)
        #expect(text?.contains("cache = \"volatile\"") == true)
        #expect(refused([("size", "1M"), ("fua", false)]) == nil)
    }

    @Test(arguments: ["wait", "reissue", "fail"])
    func `a device can be recovered wherever its bytes are`(word: String) throws {
        let mode = Setting.Value.string(word)
        #expect(try config([("size", "1M"), ("recovery", mode)]).recovery.rawValue == word)
        #expect(try config([("file", "a.img"), ("recovery", mode)]).recovery.rawValue == word)
        let memory = try BackingConfig([.test("size", "1M")], origin: "test.lua:9")
        let file = try BackingConfig([.test("file", "a.img")], origin: "test.lua:9")
        let target: [Setting] = [
            .test("size", "1M"), .test("backing", "null"), .test("recovery", mode),
        ]
        #expect(try DeviceConfig(target, backings: [file, memory]).recovery.rawValue == word)
        let own: [Setting] = [.test("backing", .backing(1)), .test("recovery", mode)]
        #expect(try DeviceConfig(own, backings: [memory]).recovery.rawValue == word)
    }

    @Test(arguments: DeviceConfig.Recovery.allCases)
    func `a device's flags tell what it was added with`(recovery: DeviceConfig.Recovery) {
        #expect(DeviceConfig.Recovery(recovery.features.union([.quiesce, .safeStop])) == recovery)
    }

    @Test func `a size is needed unless there is a file`() {
        let text = refused([])
        #expect(text?.contains("size is missing") == true)
        #expect(text?.contains("size=1G") == true)
        #expect(refused([("backing", "null")])?.contains("size is missing") == true)
    }

    @Test func `a file backing needs a file, others refuse one`() {
        #expect(
            refused([("size", "1M"), ("backing", "file")])?.contains("file = \"PATH\"") == true
        )
        let text = refused([("size", "1M"), ("file", "x"), ("backing", "memory")])
        #expect(text?.contains("file is of no use with backing = \"memory\"") == true)
    }

    @Test func `a size is whole blocks`() throws {
        #expect(try config([("size", 1024), ("logical_block_size", 1024)]).sizeBytes == 1024)
        let text = refused([("size", 1536), ("logical_block_size", 1024)])
        #expect(text?.contains("size = 1536") == true)
        #expect(text?.contains("a multiple of the logical block (1024 bytes)") == true)
        #expect(refused([("size", 513)])?.contains("logical block (512 bytes)") == true)
    }

    @Test func `larger blocks raise the limits that follow from them`() throws {
        let logical = try config([("size", "1G"), ("logical_block_size", 4096)])
        #expect(logical.physicalBlockBytes == 4096)
        #expect(logical.ioMinBytes == 4096)
        #expect(logical.discard?.granularityBytes == 4096)
        let physical = try config([("size", "1G"), ("physical_block_size", "16K")])
        #expect(physical.ioMinBytes == 16384)
        let small = try config([("size", "1G"), ("physical_block_size", 512)])
        #expect(small.ioMinBytes == 512)
    }

    @Test func `blocks come in order of size`() {
        let logical = refused([
            ("size", "1G"), ("logical_block_size", 4096), ("physical_block_size", 512),
        ])
        #expect(logical?.contains("from 4K to 256M") == true)
        let opt = refused([("size", "1G"), ("io_min", "64K"), ("io_opt", "4K")])
        #expect(opt?.contains("from 64K to 256M") == true)
    }

    @Test func `an unknown key is refused with the list of keys`() {
        let text = refused([("size", "1M"), ("colour", "blue")])
        #expect(text?.contains("device has no key \"colour\"") == true)
        for key in DeviceConfig.keys { #expect(text?.contains(key) == true) }
    }

    @Test func `in batches a queue of one tag is refused, whichever was said last`() throws {
        let size = Setting.test("size", 4096)
        let (data, two) = (Setting.test("data", "batch"), Setting.test("depth", 2))
        #expect(try DeviceConfig([size, data, two]).depth == 2)
        let one = Setting.test("depth", 1, origin: "faulty.lua:1")
        for settings in [[size, data, one], [size, one, data]] {
            let refused = refusal { () throws(ConfigError) in _ = try DeviceConfig(settings) }
            #expect(refused?.origin == "faulty.lua:1")
            #expect(refused?.text == "depth = 1: 2 or more beside data = \"batch\" is expected")
        }
    }

    @Test func `later settings win, and the message names the place of the one that counts`() throws
    {
        let script = Setting.test("depth", 3, origin: "faulty.lua:1")
        let option = Setting.test("depth", "4", origin: "option -d/--depth")
        let size = Setting.test("size", "1M")
        #expect(try DeviceConfig([size, script, option]).depth == 4)
        // A bad value that was replaced does not count.
        let bad = Setting.test("depth", "none", origin: "faulty.lua:1")
        #expect(try DeviceConfig([size, bad, option]).depth == 4)
        let refused = refusal { () throws(ConfigError) in
            _ = try DeviceConfig([
                size, script, .test("depth", "9999", origin: "option -d/--depth"),
            ])
        }
        #expect(refused?.origin == "option -d/--depth")
    }

    @Test func `the command line's text means what the script's values mean`() throws {
        let settings: [(String, Setting.Value)] = [
            ("size", "1073741824"), ("queues", "2"), ("read_only", "true"), ("partitions", "0"),
            ("rotational", "1"), ("discard", "false"), ("write_zeroes", "true"), ("seed", "42"),
            ("budget", "1s"), ("memory", "1M"),
        ]
        let config = try config(settings)
        #expect(config.sizeBytes == 1 << 30)
        #expect(config.queues == 2)
        #expect(config.isReadOnly)
        #expect(!config.scansPartitions)
        #expect(config.isRotational)
        #expect(config.discard == nil)
        #expect(config.writeZeroes != nil)
        #expect(config.seed == 42)
        #expect(config.budgetNanoseconds == 1_000_000_000)
        #expect(config.scriptMemoryBytes == 1 << 20)
    }

    @Test func `a table sets the limits of discard and write zeroes`() throws {
        let config = try config([
            ("size", "1G"), ("discard", .table(["granularity": "64K", "max": "16M"])),
            ("write_zeroes", .table(["max": "1M"])),
        ])
        #expect(config.discard == .init(granularityBytes: 65536, maxBytes: 16 << 20))
        #expect(config.writeZeroes == .init(granularityBytes: 4096, maxBytes: 1 << 20))
    }

    @Test func `a table of limits is checked key by key`() {
        let wrong: [(Setting.Value, String)] = [
            (.table(["granularity": 3000]), "discard: granularity = 3000: a power of two from 512"),
            (.table(["granularity": 256]), "discard: granularity = 256"),
            (.table(["granularity": "512M"]), "to 256M"),
            (.table(["max": "2K"]), "discard: max = \"2K\": a size from 4K to 1T"),
            (.table(["max": "2T"]), "discard: max"),
            (.table(["maximum": "1M"]), "{ granularity = ..., max = ... }"),
            (.list([]), "discard = {}"),
            ("often", "true or false"),
        ]
        for (value, expected) in wrong {
            let text = refused([("size", "1G"), ("discard", value)])
            #expect(text?.contains(expected) == true, "\(value): \(text ?? "accepted")")
        }
    }

    @Test func `what the driver is told follows from the configuration`() throws {
        let config = try config([
            ("size", "1G"), ("logical_block_size", "4K"), ("io_opt", "64K"), ("max_io", "1M"),
            ("chunk_size", "128K"),
            ("read_only", true), ("rotational", true), ("cache", "volatile"), ("fua", true),
            ("discard", false),
        ])
        var expected = DeviceParams(sizeBytes: 1 << 29)
        expected.logicalBlockBytes = 4096
        expected.ioOptBytes = 64 << 10
        expected.chunkBytes = 128 << 10
        expected.maxIOBytes = 1 << 20
        expected.readOnly = true
        expected.rotational = true
        expected.volatileCache = true
        expected.fua = true
        expected.writeZeroes = .init(granularityBytes: 4096, maxBytes: 1 << 30)
        #expect(config.params(sizeBytes: 1 << 29) == expected)
    }
}
