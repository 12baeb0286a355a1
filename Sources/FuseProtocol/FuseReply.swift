/// An answer to the kernel, made in one buffer: the header, then the body. File content is not copied in here: it is sent behind.
public struct FuseReply: Sendable {
    /// Bytes of the header.
    public static let headerBytes = 16
    /// How long the kernel may keep what cannot change: a year, in seconds.
    public static let forever: UInt64 = 31_536_000

    /// The answer as it is written to the device, once `finish` was called.
    public private(set) var bytes: [UInt8]

    /// - Parameter room: bytes of body that are expected.
    public init(room: Int = 256) {
        bytes = []
        bytes.reserveCapacity(Self.headerBytes + max(0, min(room, 1 << 20)))
        bytes.append(contentsOf: repeatElement(0, count: Self.headerBytes))
    }

    /// Bytes of body so far.
    public var count: Int { bytes.count - Self.headerBytes }

    /// Makes the buffer one for a new answer.
    public mutating func reset() { bytes.removeSubrange(Self.headerBytes...) }

    /// Fills in the header.
    ///
    /// - Parameters:
    ///   - error: errno's positive number; the body must be empty then.
    ///   - following: bytes that the caller sends behind the buffer in the same write.
    public mutating func finish(unique: UInt64, error: Int32 = 0, following: Int = 0) {
        let code = UInt32(bitPattern: 0 &- error)
        put(UInt32(clamping: bytes.count + following), at: 0)
        put(code, at: 4)
        put(UInt32(truncatingIfNeeded: unique), at: 8)
        put(UInt32(truncatingIfNeeded: unique >> 32), at: 12)
    }

    /// No answer, but a message of this end's own (FUSE_NOTIFY_RESEND): the kernel shall send once more what was read and not answered.
    public static var resend: FuseReply {
        var notice = FuseReply(room: 0)
        notice.put(UInt32(headerBytes), at: 0)
        notice.put(7, at: 4)
        return notice
    }

    private mutating func put(_ value: UInt32, at offset: Int) {
        unsafe bytes.withUnsafeMutableBytes { unsafe $0.storeBytes(of: value, toByteOffset: offset, as: UInt32.self) }
    }

    mutating func append(_ value: some FixedWidthInteger) {
        unsafe Swift.withUnsafeBytes(of: value) { unsafe bytes.append(contentsOf: $0) }
    }

    mutating func append(_ more: [UInt8]) { bytes.append(contentsOf: more) }

    mutating func pad(_ count: Int) { bytes.append(contentsOf: repeatElement(0, count: count)) }

    // MARK: Bodies

    /// LOOKUP: an entry, or that there is none, for good.
    public mutating func entry(_ attributes: FuseAttributes?) {
        append(attributes?.ino ?? 0)
        append(UInt64(0))  // generation
        append(Self.forever)
        append(attributes == nil ? UInt64(0) : Self.forever)
        append(UInt64(0))  // nanoseconds of both
        if let attributes { attributes.encode(into: &self) } else { pad(FuseAttributes.bytes) }
    }

    static let entryBytes = 40 + FuseAttributes.bytes

    /// GETATTR.
    public mutating func attributes(_ attributes: FuseAttributes) {
        append(Self.forever)
        append(UInt64(0))
        attributes.encode(into: &self)
    }

    /// How a file or directory was opened.
    public enum Opened: Sendable, Equatable {
        /// What the kernel has cached of it stays.
        case cached
        case directory
        /// The kernel reads the file behind `backing` itself. Pages that it had cached are not kept beside.
        case passthrough(backing: Int32)
    }

    /// OPEN and OPENDIR.
    public mutating func opened(handle: UInt64, _ opened: Opened) {
        append(handle)
        switch opened {
        case .cached:
            append(UInt32(1 << 1 | 1 << 5))  // FOPEN_KEEP_CACHE, FOPEN_NOFLUSH
            append(Int32(0))
        case .directory:
            append(UInt32(1 << 1 | 1 << 3))  // FOPEN_KEEP_CACHE, FOPEN_CACHE_DIR
            append(Int32(0))
        case .passthrough(let backing):
            append(UInt32(1 << 7 | 1 << 5))  // FOPEN_PASSTHROUGH, FOPEN_NOFLUSH
            append(backing)
        }
    }

    /// STATFS: nothing is free.
    public mutating func statistics(_ statistics: FuseStatistics) {
        let block = UInt64(FuseStatistics.blockBytes)
        append(statistics.bytes / block &+ (statistics.bytes % block == 0 ? 0 : 1))
        append(UInt64(0))
        append(UInt64(0))
        append(statistics.inodes)
        append(UInt64(0))
        append(FuseStatistics.blockBytes)
        append(FuseStatistics.maxName)
        append(FuseStatistics.blockBytes)
        pad(28)
    }

    /// READLINK, and small content.
    public mutating func content(_ more: [UInt8]) { append(more) }
}
