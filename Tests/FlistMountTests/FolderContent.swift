import BlockingThreads
import Flist
import Glibc
import Synchronization

@testable import FlistMount

/// Content of an flist from the folder that it was packed of; some of it may be held back.
final class FolderContent: MountContent {
    private struct State {
        var isHeld: Set<Int64> = []
        var waiters: [CheckedContinuation<Void, Never>] = []
        var isWhole = false
        var missing = 0
    }
    private let paths: [Int64: String]
    private let state = Mutex(State())

    init(paths: [Int64: String]) { self.paths = paths }

    let hasWholeFiles = true

    /// Reads of this file wait.
    func hold(_ ino: Int64) { state.withLock { _ = $0.isHeld.insert(ino) } }
    func release() {
        let waiters = state.withLock { state in
            state.isHeld = []
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume() }
    }
    /// Files are decoded wholly from now on.
    func complete() { state.withLock { $0.isWhole = true } }
    /// Answers are this many bytes too short.
    func cut(_ bytes: Int) { state.withLock { $0.missing = bytes } }

    func ready(_ ino: Int64, offset: UInt64, length: Int) -> ContentPiece? { nil }

    func read(_ ino: Int64, offset: UInt64, length: Int) async throws -> ContentPiece {
        while state.withLock({ $0.isHeld.contains(ino) }) {
            await withCheckedContinuation { continuation in
                let waits = state.withLock { state in
                    if state.isHeld.contains(ino) { state.waiters.append(continuation) }
                    return state.isHeld.contains(ino)
                }
                if !waits { continuation.resume() }
            }
        }
        return .file(try file(ino), offset: offset, length: length - state.withLock { $0.missing })
    }

    func wholeFile(_ ino: Int64) async -> (any DecodedContent)? { state.withLock { $0.isWhole } ? try? file(ino) : nil }
    func prefetch() async throws {}

    private func file(_ ino: Int64) throws -> SharedDescriptor {
        let descriptor = open(paths[ino] ?? "", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw MountError(.failed, "no file \(ino)") }
        return SharedDescriptor(owning: descriptor)
    }
}
