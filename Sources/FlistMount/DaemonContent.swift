internal import Flist
public import ReadClient
internal import Synchronization

extension RemoteContent: DecodedContent {}

/// Content that the daemon of this machine gets and decodes: it says what is ready, and passes descriptors of it.
public final class DaemonContent: MountContent {
    /// How long an open waits for word of the whole file: less than anybody notices. It is a cached one then.
    static let wholeTime: Duration = .milliseconds(250)
    /// For so long no open asks again after the daemon was silent.
    static let silence: Duration = .seconds(2)

    private let flist: RemoteFlist
    private let silentUntil = Mutex<ContinuousClock.Instant?>(nil)

    public init(_ flist: RemoteFlist) { self.flist = flist }

    public var hasWholeFiles: Bool { true }

    public func ready(_ ino: Int64, offset: UInt64, length: Int) -> ContentPiece? {
        flist.known(ino, offset: offset, length: length).map { .file($0, offset: offset, length: length) }
    }

    public func read(_ ino: Int64, offset: UInt64, length: Int) async throws -> ContentPiece {
        // Pages of it are taken only when the daemon sends the bytes themselves.
        let room = Room(UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, length), alignment: 16))
        defer { room.bytes.deallocate() }
        let request = Mutex<UInt32?>(nil)
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Result<RemoteFlist.Place, ReadClientError>, Never>) in
                let target = UnsafeMutableRawBufferPointer(rebasing: room.bytes[..<length])
                let sent = flist.locate(ino, offset: offset, length: length, target: target) { continuation.resume(returning: $0) }
                request.withLock { $0 = sent }
                if Task.isCancelled { flist.cancel(sent) }
            }
        } onCancel: {
            if let sent = request.withLock({ $0 }) { flist.cancel(sent) }
        }
        switch try result.get() {
        case .ready(let content, let range):
            let (end, overflow) = offset.addingReportingOverflow(UInt64(length))
            guard !overflow, range.lowerBound <= offset, range.upperBound >= end else {
                throw ReadClientError(.broken, "the daemon said another range to be ready than was asked for")
            }
            return .file(content, offset: offset, length: length)
        case .inline(let count):
            return .bytes(Array(room.bytes[..<min(count, length)]))
        }
    }

    private struct Room: @unchecked Sendable {
        let bytes: UnsafeMutableRawBufferPointer
        init(_ bytes: UnsafeMutableRawBufferPointer) { self.bytes = bytes }
    }

    /// What is missing of it is not fetched: who opens a large file may want little of it.
    public func wholeFile(_ ino: Int64) async -> (any DecodedContent)? {
        guard silentUntil.withLock({ $0.map { $0 <= .now } ?? true }) else { return nil }
        let asking = Task { [flist] in try await flist.whole(ino) }
        let timer = Task { [self] in
            try await Task.sleep(for: Self.wholeTime)
            silentUntil.withLock { $0 = .now + Self.silence }
            asking.cancel()
        }
        defer { timer.cancel() }
        return try? await asking.value
    }

    public func prefetch() async throws { try await flist.prefetch() }
}
