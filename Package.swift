// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]

let strictC: [CSetting] = [
    .enableWarning("all"),
    .enableWarning("extra"),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "ublk-script",
    products: [
        .executable(name: "ublk-script", targets: ["UblkScript"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // The kernel's side in C: liburing, the ublk ABI in our own words, GNU-only calls.
        .target(
            name: "CUring",
            cSettings: strictC,
            linkerSettings: [.linkedLibrary("uring")]
        ),
        // The script's side in C: every Lua call that can longjmp.
        .target(
            name: "CLua",
            cSettings: strictC,
            linkerSettings: [.linkedLibrary("lua5.4"), .linkedLibrary("m")]
        ),
        .executableTarget(
            name: "UblkScript",
            dependencies: [
                "CUring",
                "CLua",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "UblkScriptTests",
            dependencies: ["UblkScript"],
            exclude: ["ComingFrom"],
            swiftSettings: strict
        ),
    ]
)
