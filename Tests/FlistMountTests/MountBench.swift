import CLinux
import ChunkModel
import Flist
import FlistTools
import Foundation
import Glibc
import Testing

@testable import FlistMount

/// An flist of a few files, mounted from this process in a mount namespace of one thread: what the thread leaves goes with it.
struct MountBench: Sendable {
    /// Whether this machine lets the test mount at all.
    static let isPossible = geteuid() == 0 && access("/dev/fuse", R_OK | W_OK) == 0
    static let reason: Comment = "needs root and /dev/fuse"

    let directory: String
    let content: FolderContent
    let session: MountSession
    let tree: FlistTree

    func path(_ name: String) -> String { "\(directory)/mnt/\(name)" }
    func original(_ name: String) -> [UInt8] { [UInt8](FileManager.default.contents(atPath: "\(directory)/tree/\(name)") ?? Data()) }
    func ino(_ name: String) throws -> Int64 { try tree.flist.resolve(Array("/\(name)".utf8)).ino }

    /// Mounts, runs `body` on a thread that sees the mount, and unmounts.
    static func with(
        _ files: [String: Int], timeout: Duration = .seconds(20), passthrough: Bool = true,
        _ body: @escaping @Sendable (MountBench) throws -> Void
    ) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            Thread.detachNewThread {
                continuation.resume(with: Result { try inNamespace(files, timeout, passthrough, body) })
            }
        }
    }

    private static func inNamespace(
        _ files: [String: Int], _ timeout: Duration, _ passthrough: Bool, _ body: (MountBench) throws -> Void
    ) throws {
        // CLONE_NEWNS; then nothing that is mounted here is seen elsewhere (MS_REC, MS_PRIVATE).
        try #require(unshare(0x20000) == 0)
        try #require(mount("none", "/", nil, 0x4000 | 0x40000, nil) == 0)
        let directory = "/tmp/cm-mount-\(UInt32.random(in: 0 ... .max))"
        defer { try? FileManager.default.removeItem(atPath: directory) }
        for name in ["tree", "mnt"] {
            try FileManager.default.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        var state: UInt64 = 88_172_645_463_325_252
        for (name, bytes) in files {
            let content = (0..<bytes).map { _ -> UInt8 in
                state = state &* 6_364_136_223_846_793_005 &+ 1
                return UInt8(truncatingIfNeeded: state >> 56)
            }
            try Data(content).write(to: URL(fileURLWithPath: "\(directory)/tree/\(name)"))
        }
        _ = try FlistPacker.pack(
            PackOptions(
                directory: directory + "/tree", output: directory + "/made.fl",
                stores: [PackStore(url: "dir://" + directory, sink: DirStore(path: directory))]))
        let flist = try FlistFile(path: directory + "/made.fl")
        let paths = try files.keys.map { (try flist.resolve(Array("/\($0)".utf8)).ino, "\(directory)/tree/\($0)") }
        let content = FolderContent(paths: Dictionary(uniqueKeysWithValues: paths))
        let tree = FlistTree(flist: flist)
        let descriptor = try MountPoint.mount(source: "made.fl", at: directory + "/mnt", MountOptions())
        defer { _ = try? MountPoint.unmount(directory + "/mnt", patience: .zero) }
        let session = MountSession(
            descriptor: descriptor, tree: tree, content: content, timeout: timeout, passthrough: passthrough, log: { _ in })
        try session.handshake()
        try session.start()
        try body(MountBench(directory: directory, content: content, session: session, tree: tree))
    }

    /// The whole file by read(2).
    func read(_ name: String) throws -> [UInt8] {
        let descriptor = open(path(name), O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        defer { close(descriptor) }
        return try Self.read(descriptor)
    }

    static func read(_ descriptor: Int32) throws -> [UInt8] {
        var out: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = Glibc.read(descriptor, &piece, piece.count)
            guard count >= 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
            if count == 0 { return out }
            out += piece.prefix(count)
        }
    }

    /// Polls until `condition` holds.
    func eventually(_ what: String, _ place: SourceLocation = #_sourceLocation, _ condition: () -> Bool) throws {
        let end = ContinuousClock.now + .seconds(20)
        while !condition() {
            try #require(ContinuousClock.now < end, "not in time: \(what)", sourceLocation: place)
            usleep(5_000)
        }
    }
}
