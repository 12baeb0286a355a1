/// What of an archive is read at most; more is `ArchiveError.Code.overLimit`, and nothing is returned from beyond.
public struct ArchiveLimits: Sendable {
    /// Bytes of the archive without its compression, headers and padding included: what ends a bomb.
    public var unpackedBytes: Int64
    /// Members, those that the caller passes over included.
    public var members: Int
    /// Bytes of a member's path, and of a link's target.
    public var pathBytes: Int

    public init(unpackedBytes: Int64, members: Int, pathBytes: Int = 4095) {
        (self.unpackedBytes, self.members, self.pathBytes) = (unpackedBytes, members, pathBytes)
    }
}

/// How an archive is compressed.
public enum ArchiveCompression: Hashable, Sendable, CaseIterable {
    case none
    case gzip
    case zstd

    /// Judged by the first bytes (4 are enough); anything unknown is `none`, and no tar either then.
    public init(head: some Collection<UInt8>) {
        let head = Array(head.prefix(4))
        if head.starts(with: [0x1f, 0x8b]) {
            self = .gzip
        } else if head == [0x28, 0xb5, 0x2f, 0xfd] {
            self = .zstd
        } else {
            self = .none
        }
    }
}
