internal import Glibc
public import Logging
internal import Synchronization

/// Passes lines on to another handler, but no storms of them (`LogLimit`): lines of one level and message, whatever their metadata, are one kind.
public struct LimitedLogHandler: LogHandler {
    private final class Shared: Sendable {
        let limit = Mutex(LogLimit())
    }

    private var handler: any LogHandler
    private let shared: Shared

    public init(_ handler: any LogHandler) { (self.handler, shared) = (handler, Shared()) }

    public var logLevel: Logger.Level {
        get { handler.logLevel }
        set { handler.logLevel = newValue }
    }
    public var metadata: Logger.Metadata {
        get { handler.metadata }
        set { handler.metadata = newValue }
    }
    public var metadataProvider: Logger.MetadataProvider? {
        get { handler.metadataProvider }
        set { handler.metadataProvider = newValue }
    }
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { handler[metadataKey: key] }
        set { handler[metadataKey: key] = newValue }
    }

    public func log(event: LogEvent) {
        // Who asks for every detail gets it.
        guard event.level >= .info else { return handler.log(event: event) }
        let kind = "\(event.level): \(event.message)"
        let (leftOut, ended) = shared.limit.withLock { limit in
            let now = NodeClock.nanoseconds()
            let seconds = Double(now) / 1e9
            return (limit.admit(kind, now: seconds), limit.ended(now: seconds))
        }
        for (kind, count) in ended {
            var summary = event
            summary.message = "\(count) more lines like this were left out: \(kind)"
            summary.metadata = nil
            handler.log(event: summary)
        }
        guard let leftOut else { return }
        guard leftOut > 0 else { return handler.log(event: event) }
        var counted = event
        counted.metadata = (event.metadata ?? [:]).merging(["left out": "\(leftOut)"]) { $1 }
        handler.log(event: counted)
    }
}
