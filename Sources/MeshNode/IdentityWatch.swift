internal import Logging

/// Tells people that another machine uses this node's identity, as one does that was cloned together with its cache directory.
struct IdentityWatch {
    /// Conflicts since the last line in the log that are no leftover of this node's own earlier run.
    static let limit: UInt64 = 3
    /// Looks between two lines in the log: five minutes.
    static let quietLooks = 150

    private var told: UInt64 = 0
    private var quiet = 0

    mutating func look(_ conflicts: UInt64, _ logger: Logger) {
        quiet = max(0, quiet - 1)
        guard conflicts >= told &+ Self.limit, quiet == 0 else { return }
        (told, quiet) = (conflicts, Self.quietLooks)
        logger.error(
            "another machine uses this node's identity: remove node.key from the cache directory of the copy and start it again",
            metadata: ["conflicts": "\(conflicts)"])
    }
}
