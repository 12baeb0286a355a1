/// What kernel and server can do, negotiated in INIT; bits 32 to 63 travel in a word of their own since 7.36.
public struct FuseInitFlags: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// READs of one file come in parallel.
    public static let asyncRead = FuseInitFlags(rawValue: 1 << 0)
    /// `.` and `..` can be looked up: NFS may export the mount.
    public static let exportSupport = FuseInitFlags(rawValue: 1 << 4)
    public static let readdirplus = FuseInitFlags(rawValue: 1 << 13)
    /// The kernel asks for attributes with names only where they are likely to be wanted.
    public static let readdirplusAuto = FuseInitFlags(rawValue: 1 << 14)
    public static let asyncDirectIO = FuseInitFlags(rawValue: 1 << 15)
    /// ENOSYS to OPEN: no OPEN and RELEASE any more, pages are kept.
    public static let noOpenSupport = FuseInitFlags(rawValue: 1 << 17)
    /// Look-ups and listings of one directory come in parallel.
    public static let parallelDirectoryOperations = FuseInitFlags(rawValue: 1 << 18)
    /// `maxPages` of the answer counts.
    public static let maxPages = FuseInitFlags(rawValue: 1 << 22)
    public static let cacheSymlinks = FuseInitFlags(rawValue: 1 << 23)
    /// ENOSYS to OPENDIR: no OPENDIR and RELEASEDIR any more, listings are kept.
    public static let noOpendirSupport = FuseInitFlags(rawValue: 1 << 24)
    /// Bits 32 to 63 are there.
    public static let extended = FuseInitFlags(rawValue: 1 << 30)
    /// Files may be handed to the kernel (7.40).
    public static let passthrough = FuseInitFlags(rawValue: 1 << 37)

    /// What was read and not answered can be asked for again, by another reader of the connection (7.40, Linux 6.9).
    public static let resend = FuseInitFlags(rawValue: 1 << 39)

    var lowWord: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    var highWord: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// The kernel's INIT.
public struct FuseInitRequest: Sendable, Equatable {
    public let major: UInt32
    public let minor: UInt32
    /// Bytes.
    public let maxReadAhead: UInt32
    public let flags: FuseInitFlags

    public init(major: UInt32, minor: UInt32, maxReadAhead: UInt32, flags: FuseInitFlags) {
        (self.major, self.minor, self.maxReadAhead, self.flags) = (major, minor, maxReadAhead, flags)
    }
}

/// What came of INIT.
public struct FuseNegotiation: Sendable, Equatable {
    public enum Outcome: Sendable, Equatable {
        /// Requests follow.
        case agreed
        /// The kernel speaks a newer major version, and asks again in ours.
        case again
        /// The kernel is older than 7.12 (Linux 2.6.31): its structures are others.
        case tooOld
    }

    /// The newest minor version whose structures are known here.
    public static let ourMinor: UInt32 = 41
    /// The oldest: LOOKUP, GETATTR and INIT have had their lengths since 7.9, batches of FORGET came with 7.16, READDIRPLUS with 7.21.
    public static let oldestMinor: UInt32 = 12
    /// Pages of one READ: 1 MiB. Kernels before 4.20 send 128 KiB.
    public static let maxPages: UInt16 = 256
    /// READs that the kernel's read-ahead keeps under way; the askers' own come besides.
    static let maxBackground: UInt16 = 64
    /// From here on the kernel takes the device for busy, and reads ahead less.
    static let congestionThreshold: UInt16 = 48
    /// Nothing is written: the least that the kernel accepts.
    static let maxWrite: UInt32 = 4096

    public let outcome: Outcome
    /// Both ends have it.
    public let flags: FuseInitFlags
    public let minor: UInt32
    /// Files can be handed to the kernel: it also takes the privilege to do so.
    public var hasPassthrough: Bool { flags.contains(.passthrough) }

    /// - Parameter wanted: what this end can do.
    public init(_ request: FuseInitRequest, wanted: FuseInitFlags) {
        minor = min(request.minor, Self.ourMinor)
        if request.major > 7 {
            (outcome, flags) = (.again, [])
        } else if request.major < 7 || request.minor < Self.oldestMinor {
            (outcome, flags) = (.tooOld, [])
        } else {
            outcome = .agreed
            let common = wanted.union(.extended).intersection(request.flags)
            // A kernel that cannot tell of the upper half does not know it.
            flags = common.contains(.extended) ? common : FuseInitFlags(rawValue: common.rawValue & 0xffff_ffff)
        }
    }

    /// What was agreed on earlier, by another process that served the same connection.
    public init(agreed flags: FuseInitFlags, minor: UInt32) { (outcome, self.flags, self.minor) = (.agreed, flags, minor) }

    /// The answer's body.
    public func encode(maxReadAhead: UInt32, into reply: inout FuseReply) {
        reply.append(UInt32(7))
        reply.append(Self.ourMinor)
        // Up to 7.22 the answer ends after max_write.
        guard outcome != .again else { return reply.pad(16) }
        reply.append(maxReadAhead)
        reply.append(flags.lowWord)
        reply.append(Self.maxBackground)
        reply.append(Self.congestionThreshold)
        reply.append(Self.maxWrite)
        guard minor >= 23 else { return }
        reply.append(UInt32(1))  // time_gran: nanoseconds.
        reply.append(Self.maxPages)
        reply.append(UInt16(0))  // map_alignment
        reply.append(flags.highWord)
        reply.append(UInt32(hasPassthrough ? 1 : 0))  // max_stack_depth: files on plain file systems only.
        reply.pad(24)  // request_timeout, unused
    }
}
