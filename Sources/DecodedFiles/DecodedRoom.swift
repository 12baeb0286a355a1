internal import Glibc
internal import Synchronization

/// The room that decoded files take and may take.
final class DecodedRoom: Sendable {
    /// After the disk was found full, blocks are not written for so long, in nanoseconds.
    static let fullPause: UInt64 = 5_000_000_000

    private struct State {
        var bytes: Int64 = 0
        var maxBytes: Int64
        var floor: @Sendable (Int64) -> Int64
        var fullUntil: UInt64 = 0
    }
    private let state: Mutex<State>
    private let directory: Int32

    enum Grant { case granted, tooMuch(Int64), full }

    /// - Parameters:
    ///   - directory: a descriptor, which the owner keeps open.
    ///   - floor: free bytes that are left to others, by the size of the partition.
    init(directory: Int32, maxBytes: Int64, floor: @escaping @Sendable (Int64) -> Int64) {
        self.directory = directory
        state = Mutex(State(maxBytes: maxBytes, floor: floor))
    }

    var bytes: Int64 { state.withLock { $0.bytes } }
    var maxBytes: Int64 { state.withLock { $0.maxBytes } }

    func set(maxBytes: Int64, floor: @escaping @Sendable (Int64) -> Int64) {
        state.withLock { ($0.maxBytes, $0.floor) = (maxBytes, floor) }
    }

    func add(_ bytes: Int64) { state.withLock { $0.bytes += bytes } }

    /// Takes room for as many bytes, or says how many must go first.
    func reserve(_ bytes: Int64) -> Grant {
        let (size, free) = space()
        let now = Self.now()
        return state.withLock { state in
            guard now >= state.fullUntil else { return .full }
            let over = max(state.bytes + bytes - state.maxBytes, state.floor(size) + bytes - free)
            guard over <= 0 else { return .tooMuch(over) }
            state.bytes += bytes
            return .granted
        }
    }

    /// - Returns: whether that is news.
    func noteFull() -> Bool {
        let now = Self.now()
        return state.withLock { state in
            defer { state.fullUntil = now + Self.fullPause }
            return state.fullUntil == 0
        }
    }

    /// A write went well after the disk was full.
    ///
    /// - Returns: whether that is news.
    func noteWritten() -> Bool {
        state.withLock { state in
            guard state.fullUntil != 0, Self.now() >= state.fullUntil else { return false }
            state.fullUntil = 0
            return true
        }
    }

    /// Size of the partition and what is free of it for this process.
    private func space() -> (size: Int64, free: Int64) {
        var status = statvfs()
        guard fstatvfs(directory, &status) == 0 else { return (0, .max / 2) }
        let unit = Int64(clamping: status.f_frsize)
        func bytes(_ blocks: some BinaryInteger) -> Int64 {
            let (bytes, overflow) = Int64(clamping: blocks).multipliedReportingOverflow(by: unit)
            return overflow ? .max / 2 : min(bytes, .max / 2)
        }
        return (bytes(status.f_blocks), bytes(status.f_bavail))
    }

    static func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
    }
}
