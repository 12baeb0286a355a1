internal import Synchronization

/// What reached a session since it began.
public struct MountCounts: Sendable, Equatable, CustomStringConvertible {
    public var lookups = 0
    public var attributes = 0
    public var listings = 0
    public var opens = 0
    /// Opens that the kernel was given the whole file for.
    public var passthroughOpens = 0
    /// READ requests, and the bytes that they were answered with.
    public var reads = 0
    public var readBytes = 0
    public var failedReads = 0
    public var others = 0

    public init() {}

    public var description: String {
        "\(lookups) look-ups, \(attributes) attributes, \(listings) listings, \(opens) opens (\(passthroughOpens) passed through), "
            + "\(reads) reads of \(readBytes) bytes (\(failedReads) failed), \(others) others"
    }
}
