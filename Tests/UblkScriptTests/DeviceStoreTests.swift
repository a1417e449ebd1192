import Testing

@testable import UblkScript

/// What a configuration gets for stores: the one factory of the server and the simulator.
@Suite struct DeviceStoreTests {
    /// A factory whose files are their paths, all of `fileBytes`.
    private func stores(
        _ settings: [String: String],
        backings: [[Setting]] = [],
        own: Int = 0,
        fileBytes: UInt64 = 1 << 20,
        asked: (String, UInt64?, UInt64) -> Void = { _, _, _ in }
    ) throws -> DeviceStores<String> {
        var config = try DeviceConfig(
            settings.map { .test($0.key, .string($0.value)) },
            backings: backings.map { try BackingConfig($0, origin: "t") }
        )
        config.ownBacking = own
        return try DeviceStores(config) { request in
            asked(request.path, request.sizeBytes, request.leastBytes)
            return (request.path, request.sizeBytes ?? fileBytes)
        }
    }

    @Test func `a device has its own store first, then those it declares`() throws {
        let stores = try stores(
            ["size": "1M", "file": "own"],
            backings: [
                [.test("size", "64K")],
                [.test("file", "other")],
            ]
        )
        #expect(stores.files == ["other", "own"] && stores.ownFile == "own")
        #expect(stores.views.map(\.sizeBytes) == [1 << 20, 64 << 10, 1 << 20])
        #expect(stores.sizeBytes == 1 << 20)
    }

    @Test func `a store of nothing has any size, and the device the one it names`() throws {
        let stores = try stores(["size": "1T", "backing": "null"])
        #expect(stores.views.map(\.sizeBytes) == [nil] && stores.ownFile == nil)
        #expect(stores.sizeBytes == 1 << 40)
    }

    @Test func `a declared backing that is the device's own is the same bytes`() throws {
        let stores = try stores(
            ["size": "64K"],
            backings: [
                [.test("size", "64K")],
                [.test("size", "64K")],
            ],
            own: 2
        )
        let views = stores.views
        #expect(views.count == 3)
        #expect(views[0].isSame(as: views[2]) && !views[0].isSame(as: views[1]))
    }

    @Test func `a device without a size has the whole blocks of its file`() throws {
        #expect(try stores(["file": "f"], fileBytes: 10_000).sizeBytes == 9_728)
    }

    @Test(arguments: [
        (UInt64(511), "backing file f has 511 bytes, not one block of 512"),
        (UInt64(0), "backing file f has 0 bytes, not one block of 512"),
    ])
    func `a file without a block is refused`(bytes: UInt64, text: String) throws {
        #expect {
            _ = try stores(["file": "f"], fileBytes: bytes)
        } throws: {
            "\($0)" == text
        }
        #expect(try stores(["file": "f"], fileBytes: 512).sizeBytes == 512)
    }

    @Test func `a file is asked for with its size, and with what the device needs of it`() throws {
        var asked: [String] = []
        _ = try stores(
            ["size": "1M", "file": "own"],
            backings: [[.test("file", "other")]]
        ) { asked.append("\($0) \($1 ?? 0) \($2)") }
        #expect(asked == ["other 0 0", "own 1048576 1048576"])
    }

    @Test(arguments: [
        (["size": "1M"], false), (["size": "1M", "backing": "null"], true), (["file": "f"], false),
    ])
    func `a device without data of its own is a target`(
        settings: [String: String],
        isTarget: Bool
    ) throws {
        let given = settings.map { Setting.test($0.key, .string($0.value)) }
        #expect(try DeviceConfig(given).isTarget == isTarget)
        let backing = try BackingConfig(
            [.test("size", "1M")],
            origin: "t"
        )
        #expect(try DeviceConfig(given, backings: [backing]).isTarget)
    }
}
