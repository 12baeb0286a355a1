// swift-tools-version: 6.2
import PackageDescription

// Warnings are errors everywhere; the pure targets are also checked for memory safety, where each unsafe call is marked.
let settings: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
]
let pure: [SwiftSetting] = settings + [.strictMemorySafety()]

// NIO's C modules and Glibc both carry stat and the socket structures, and which of them counts as their home differs between debug
// and release builds: where NIO is linked, the use of their members must not depend on it.
let besideNIO: [SwiftSetting] = [
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("InferIsolatedConformances"),
]

let log: Target.Dependency = .product(name: "Logging", package: "swift-log")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(name: "HummingbirdCore", package: "hummingbird")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")

let unixSignals: Target.Dependency = .product(name: "UnixSignals", package: "swift-service-lifecycle")

let package = Package(
    name: "chunkmesh",
    products: [
        .executable(name: "chunkmeshd", targets: ["chunkmeshd"]),
        .executable(name: "chunkmesh", targets: ["chunkmesh"]),
        .library(name: "ChunkmeshRead", targets: ["ChunkmeshRead"]),
        .executable(name: "mount.flist", targets: ["mount-flist"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0", traits: []),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // C libraries, and the few calls that Swift cannot import (variadics, macros, epoll).
        .systemLibrary(name: "CSodium", path: "Sources/C/CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CSnappy", path: "Sources/C/CSnappy", providers: [.apt(["libsnappy-dev"])]),
        .systemLibrary(name: "CSQLite", path: "Sources/C/CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CCrypto", path: "Sources/C/CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", path: "Sources/C/CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CZstd", path: "Sources/C/CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .systemLibrary(name: "CArchive", path: "Sources/C/CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
        .systemLibrary(name: "CZlib", path: "Sources/C/CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CLinux", path: "Sources/C/CLinux"),

        // What everything speaks of.
        .target(name: "ChunkModel", dependencies: ["CSodium"], swiftSettings: settings),
        .target(name: "MeshKeys", dependencies: ["CSodium", "ChunkModel"], swiftSettings: settings),
        .target(name: "Minisign", dependencies: ["CSodium", "ChunkModel"], swiftSettings: settings),
        .target(name: "SQLiteFile", dependencies: ["CSQLite"], swiftSettings: settings),
        .target(name: "BlockingThreads", swiftSettings: settings),
        .target(name: "LocalFiles", dependencies: ["CLinux"], swiftSettings: settings),
        .target(name: "Archives", dependencies: ["CArchive", "CZlib", "CZstd"], swiftSettings: settings),

        // Pure: no I/O, no clock.
        .target(name: "BlockCodec", dependencies: ["CCrypto", "CSnappy", "CZstd", "ChunkModel"], swiftSettings: settings),
        .target(name: "Flist", dependencies: ["BlockCodec", "ChunkModel", "SQLiteFile"], swiftSettings: settings),
        .target(
            name: "LegacyFlist",
            dependencies: ["Archives", "ChunkModel", "Flist", "SQLiteFile", .product(name: "Yams", package: "Yams")],
            swiftSettings: settings),
        .target(name: "Gossip", dependencies: ["ChunkModel", "MeshKeys"], swiftSettings: pure),
        .target(name: "PeerProtocol", dependencies: ["CSodium", "ChunkModel", "MeshKeys"], swiftSettings: pure),
        .target(name: "FetchPlanner", dependencies: ["ChunkModel", "MeshKeys"], swiftSettings: pure),
        .target(name: "MeshSimulation", dependencies: ["ChunkModel", "FetchPlanner", "Gossip", "MeshKeys"], swiftSettings: pure),
        .target(name: "CarryFile", dependencies: ["ChunkModel"], swiftSettings: settings),
        .target(name: "LineBudget", dependencies: ["ChunkModel", "MeshKeys"], swiftSettings: pure),
        .target(name: "FuseProtocol", swiftSettings: pure),
        .target(name: "ReadProtocol", dependencies: ["ChunkModel"], swiftSettings: pure),

        // I/O.
        .target(
            name: "FlistTools",
            dependencies: [
                "Archives", "BlockCodec", "BlockingThreads", "CCrypto", "CLinux", "ChunkModel", "Flist", "LocalFiles", "SQLiteFile",
            ],
            swiftSettings: settings),
        .target(name: "ChunkStore", dependencies: ["CLinux", "ChunkModel", "LocalFiles", "SQLiteFile", log], swiftSettings: settings),
        .target(
            name: "UpstreamStores", dependencies: ["BlockingThreads", "CCrypto", "CCurl", "ChunkModel", nioCore, nioPosix],
            swiftSettings: besideNIO),
        .target(
            name: "GossipTransport", dependencies: ["ChunkModel", "Gossip", "MeshKeys", log, nioCore, nioPosix], swiftSettings: besideNIO),
        .target(name: "PeerExchange", dependencies: ["CLinux", "ChunkModel", "MeshKeys", "PeerProtocol", log], swiftSettings: settings),
        .target(name: "GracefulServices", dependencies: [lifecycle, log], swiftSettings: besideNIO),
        .target(name: "HubServer", dependencies: ["GracefulServices", hummingbird, log, nioCore, nioPosix], swiftSettings: besideNIO),
        .target(
            name: "DecodedFiles", dependencies: ["BlockCodec", "BlockingThreads", "CLinux", "ChunkModel", "LocalFiles", log],
            swiftSettings: settings),
        .target(
            name: "ReadServer", dependencies: ["BlockingThreads", "CLinux", "ChunkModel", "ReadProtocol", log], swiftSettings: settings),
        .target(
            name: "ReadClient", dependencies: ["BlockingThreads", "CLinux", "ChunkModel", "Flist", "LocalFiles", "ReadProtocol"],
            swiftSettings: settings),
        .target(name: "ReadAPI", dependencies: ["BlockCodec", "BlockingThreads", "ChunkModel", "Flist"], swiftSettings: settings),

        .target(
            name: "FlistMount",
            dependencies: ["BlockingThreads", "CLinux", "Flist", "FuseProtocol", "LocalFiles", "ReadAPI", "ReadClient"],
            swiftSettings: settings),

        // The node, and what controls it.
        .target(
            name: "NodeConfiguration",
            dependencies: ["LineBudget", "MeshKeys", "Minisign", "UpstreamStores", .product(name: "Yams", package: "Yams")],
            swiftSettings: settings),
        .target(
            name: "ChunkmeshRead",
            dependencies: [
                "BlockCodec", "BlockingThreads", "ChunkModel", "ChunkStore", "Flist", "LegacyFlist", "LocalFiles", "NodeConfiguration",
                "ReadAPI", "ReadClient", "UpstreamStores", log,
            ], swiftSettings: besideNIO),
        .target(name: "ControlModel", dependencies: ["ChunkModel"], swiftSettings: pure),
        .target(name: "ControlClient", dependencies: ["CCurl", "ControlModel"], swiftSettings: settings),
        .target(
            name: "ControlAPI",
            dependencies: ["ChunkModel", "ControlModel", "GracefulServices", hummingbird, hummingbirdCore, lifecycle, log, nioCore],
            swiftSettings: besideNIO),
        .target(
            name: "MeshNode",
            dependencies: [
                "BlockCodec", "BlockingThreads", "CarryFile", "ChunkModel", "ChunkStore", "ControlModel", "DecodedFiles", "FetchPlanner",
                "Flist", "Gossip", "GossipTransport", "LegacyFlist", "LineBudget", "LocalFiles", "MeshKeys", "Minisign",
                "NodeConfiguration", "PeerExchange", "PeerProtocol", "ReadAPI", "ReadProtocol", "ReadServer", "SQLiteFile",
                "UpstreamStores",
                lifecycle, log,
            ], swiftSettings: besideNIO),

        // Programs.
        .executableTarget(
            name: "chunkmeshd", dependencies: ["ControlAPI", "MeshNode", "NodeConfiguration", arguments, lifecycle, log, unixSignals],
            swiftSettings: besideNIO),
        .executableTarget(
            name: "chunkmesh",
            dependencies: [
                "BlockCodec", "BlockingThreads", "CarryFile", "ChunkModel", "ControlClient", "ControlModel", "Flist", "FlistMount",
                "FlistTools", "HubServer", "LegacyFlist", "LocalFiles", "MeshKeys", "MeshNode", "Minisign", "NodeConfiguration",
                "UpstreamStores", arguments, log,
            ], swiftSettings: besideNIO),

        .executableTarget(
            name: "mount-flist",
            dependencies: [
                "BlockingThreads", "CLinux", "ChunkModel", "Flist", "FlistMount", "FlistTools", "LegacyFlist", "LocalFiles",
                "NodeConfiguration", "ReadAPI", "ReadClient", "UpstreamStores",
            ], swiftSettings: besideNIO),

        .executableTarget(
            name: "exchange-bench", dependencies: ["CLinux", "ChunkModel", "MeshKeys", "PeerExchange", "PeerProtocol", log],
            swiftSettings: settings),

        .executableTarget(name: "read-example", dependencies: ["ChunkmeshRead"], swiftSettings: besideNIO),

        .executableTarget(name: "mesh-simulation", dependencies: ["CLinux", "MeshSimulation", arguments], swiftSettings: settings),

        .executableTarget(
            name: "flist-bench", dependencies: ["BlockCodec", "BlockingThreads", "ChunkModel", "Flist", "ReadClient"],
            swiftSettings: settings),

        // Tests mirror the sources.
        .testTarget(name: "ChunkModelTests", dependencies: ["ChunkModel"], swiftSettings: settings),
        .testTarget(name: "MeshKeysTests", dependencies: ["ChunkModel", "MeshKeys"], swiftSettings: settings),
        .testTarget(name: "MinisignTests", dependencies: ["ChunkModel", "Minisign"], swiftSettings: settings),
        .testTarget(name: "SQLiteFileTests", dependencies: ["SQLiteFile"], swiftSettings: settings),
        .testTarget(name: "ArchivesTests", dependencies: ["Archives"], swiftSettings: settings),
        .testTarget(name: "BlockCodecTests", dependencies: ["BlockCodec", "ChunkModel"], swiftSettings: settings),
        .testTarget(name: "FlistTests", dependencies: ["BlockCodec", "ChunkModel", "Flist", "SQLiteFile"], swiftSettings: settings),
        .testTarget(
            name: "LegacyFlistTests",
            dependencies: ["BlockCodec", "ChunkModel", "Flist", "FlistTools", "LegacyFlist", "SQLiteFile"], swiftSettings: settings),
        .testTarget(
            name: "FlistToolsTests", dependencies: ["BlockCodec", "BlockingThreads", "ChunkModel", "Flist", "FlistTools", "SQLiteFile"],
            swiftSettings: settings),
        .testTarget(name: "GossipTests", dependencies: ["ChunkModel", "Gossip", "MeshKeys"], swiftSettings: settings),
        .testTarget(name: "PeerProtocolTests", dependencies: ["ChunkModel", "MeshKeys", "PeerProtocol"], swiftSettings: settings),
        .testTarget(name: "LineBudgetTests", dependencies: ["ChunkModel", "LineBudget", "MeshKeys"], swiftSettings: settings),
        .testTarget(name: "FetchPlannerTests", dependencies: ["ChunkModel", "FetchPlanner", "MeshKeys"], swiftSettings: settings),
        .testTarget(name: "CarryFileTests", dependencies: ["CarryFile", "ChunkModel"], swiftSettings: settings),
        .testTarget(
            name: "SimulationTests", dependencies: ["ChunkModel", "FetchPlanner", "Gossip", "MeshKeys", "MeshSimulation"],
            swiftSettings: settings),
        // Stores chunks until it is killed: what a SIGKILL leaves is looked at by ChunkStoreTests.
        .executableTarget(
            name: "chunkstore-crash", dependencies: ["ChunkModel", "ChunkStore", log], path: "Tests/Support/ChunkStoreCrash",
            swiftSettings: settings),
        .testTarget(
            name: "ChunkStoreTests", dependencies: ["ChunkModel", "ChunkStore", "SQLiteFile", "chunkstore-crash", log],
            swiftSettings: settings),
        .testTarget(
            name: "UpstreamStoresTests", dependencies: ["ChunkModel", "UpstreamStores"],
            swiftSettings: besideNIO),
        .testTarget(
            name: "GossipTransportTests", dependencies: ["ChunkModel", "Gossip", "GossipTransport", "MeshKeys", log],
            swiftSettings: settings),
        .testTarget(
            name: "PeerExchangeTests", dependencies: ["CLinux", "ChunkModel", "MeshKeys", "PeerExchange", "PeerProtocol", log],
            swiftSettings: settings),
        .testTarget(name: "ReadProtocolTests", dependencies: ["ChunkModel", "ReadProtocol"], swiftSettings: settings),
        .testTarget(
            name: "DecodedFilesTests", dependencies: ["BlockCodec", "BlockingThreads", "CLinux", "ChunkModel", "DecodedFiles", log],
            swiftSettings: settings),
        .testTarget(
            name: "ChunkmeshReadTests", dependencies: ["ChunkModel", "ChunkmeshRead", "Flist", "FlistTools"], swiftSettings: besideNIO),
        .testTarget(name: "HubServerTests", dependencies: ["HubServer", log], swiftSettings: settings),
        .testTarget(
            name: "MeshNodeTests",
            dependencies: [
                "CarryFile", "ChunkModel", "ChunkStore", "ChunkmeshRead", "ControlAPI", "ControlModel", "DecodedFiles", "FetchPlanner",
                "Flist",
                "FlistTools",
                "Gossip", "GossipTransport", "LineBudget", "MeshKeys", "MeshNode", "Minisign", "NodeConfiguration", "PeerExchange",
                "PeerProtocol", "ReadClient", "ReadProtocol", log,
            ], swiftSettings: besideNIO),
        .testTarget(
            name: "ReadAPITests", dependencies: ["BlockCodec", "BlockingThreads", "ChunkModel", "Flist", "FlistTools", "ReadAPI"],
            swiftSettings: settings),
        .testTarget(
            name: "ControlAPITests", dependencies: ["ChunkModel", "ControlAPI", "ControlClient", "ControlModel", hummingbird, log],
            swiftSettings: besideNIO),
        .testTarget(name: "BlockingThreadsTests", dependencies: ["BlockingThreads"], swiftSettings: settings),
        .testTarget(name: "FuseProtocolTests", dependencies: ["FuseProtocol"], swiftSettings: settings),
        .testTarget(
            name: "FlistMountTests",
            dependencies: ["BlockingThreads", "CLinux", "ChunkModel", "Flist", "FlistMount", "FlistTools", "FuseProtocol", "ReadAPI"],
            swiftSettings: settings),
        // The programs themselves, over real sockets.
        .testTarget(name: "EndToEndTests", dependencies: ["chunkmesh", "chunkmeshd", "mount-flist"], swiftSettings: settings),
        .testTarget(
            name: "NodeConfigurationTests", dependencies: ["LineBudget", "MeshKeys", "Minisign", "NodeConfiguration"],
            swiftSettings: settings),
    ]
)

// What the parsers of foreign bytes are fed with: in the ordinary build a test over corpora; with CHUNKMESH_FUZZ, which names libFuzzer's
// archive (scripts/fuzz sets it), a program of the same sources where libFuzzer chooses the inputs and all of our code is instrumented.
let fuzzed: [Target.Dependency] = [
    "Archives", "BlockCodec", "CarryFile", "ChunkModel", "ControlAPI", "ControlModel", "Flist", "FlistTools", "FuseProtocol",
    "Gossip", "GossipTransport",
    "HubServer",
    "LegacyFlist",
    "MeshKeys", "Minisign", "NodeConfiguration", "PeerProtocol", "ReadProtocol", "SQLiteFile", "UpstreamStores", hummingbird,
]
if let libFuzzer = Context.environment["CHUNKMESH_FUZZ"] {
    package.targets.removeAll { $0.isTest }
    package.targets.append(
        .executableTarget(
            name: "chunkmesh-fuzz", dependencies: fuzzed, path: "Tests/FuzzTests", exclude: ["Corpus", "CorpusTests.swift"],
            swiftSettings: besideNIO, linkerSettings: [.unsafeFlags(["-sanitize=address", "-Xlinker", libFuzzer, "-lstdc++"])]))
    for target in package.targets where target.type != .system {
        target.swiftSettings = (target.swiftSettings ?? []) + [.unsafeFlags(["-sanitize=fuzzer,address", "-enable-testing"])]
    }
} else {
    package.targets.append(
        .testTarget(name: "FuzzTests", dependencies: fuzzed, exclude: ["Corpus", "LibFuzzer"], swiftSettings: besideNIO))
}
