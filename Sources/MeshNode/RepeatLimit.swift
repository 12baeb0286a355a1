public import Logging
internal import Synchronization

/// A log in which what repeats is counted instead of written: so many lines of one message, then one in a while that says how many were
/// left out. Messages are told apart by their text and level; what differs between their lines stands in the metadata.
public struct RepeatLimit: LogHandler {
    /// Lines of one message that may come at once.
    static let burst = 20
    /// Afterwards one line of it in this time.
    static let pause: Duration = .seconds(30)
    /// Messages told apart; further ones share one count.
    static let maxMessages = 512

    private static let total = Atomic<UInt64>(0)
    /// Lines left out by this process.
    static var leftOut: UInt64 { total.load(ordering: .relaxed) }

    /// The lines of one message, as a bucket that holds `burst` and gains one in each `pause`. A value without a clock.
    struct Bucket: Sendable {
        private var left = burst
        private var filledAt: Duration
        private var leftOut: UInt64 = 0

        init(now: Duration) { filledAt = now }

        /// - Returns: how many lines were left out before this one, which is to be written; `nil` when it is left out too.
        mutating func take(now: Duration) -> UInt64? {
            while left < RepeatLimit.burst, now - filledAt >= pause {
                left += 1
                filledAt += pause
            }
            if left == RepeatLimit.burst { filledAt = now }
            guard left > 0 else {
                leftOut += 1
                return nil
            }
            left -= 1
            defer { leftOut = 0 }
            return leftOut
        }
    }

    /// What all loggers of a process share.
    public final class Book: Sendable {
        private let clock = NodeClock()
        private let buckets = Mutex<[String: Bucket]>([:])
        public init() {}

        fileprivate func take(_ message: String) -> UInt64? {
            let now = clock.now
            return buckets.withLock { buckets in
                let key = buckets[message] != nil || buckets.count < RepeatLimit.maxMessages ? message : ""
                return buckets[key, default: Bucket(now: now)].take(now: now)
            }
        }
    }

    private var handler: any LogHandler
    private let book: Book

    /// - Parameter handler: writes what is left.
    public init(_ handler: any LogHandler, _ book: Book) { (self.handler, self.book) = (handler, book) }

    public var metadata: Logger.Metadata {
        get { handler.metadata }
        set { handler.metadata = newValue }
    }
    public var metadataProvider: Logger.MetadataProvider? {
        get { handler.metadataProvider }
        set { handler.metadataProvider = newValue }
    }
    public var logLevel: Logger.Level {
        get { handler.logLevel }
        set { handler.logLevel = newValue }
    }
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { handler[metadataKey: key] }
        set { handler[metadataKey: key] = newValue }
    }

    public func log(event: LogEvent) {
        // Who asks for these wants all of them.
        guard event.level > .debug else { return handler.log(event: event) }
        guard let leftOut = book.take("\(event.level) \(event.message)") else {
            Self.total.add(1, ordering: .relaxed)
            return
        }
        guard leftOut > 0 else { return handler.log(event: event) }
        var event = event
        event.metadata = (event.metadata ?? [:]).merging(["leftOut": "\(leftOut)"]) { $1 }
        handler.log(event: event)
    }
}
