internal import ChunkModel
internal import ReadProtocol

/// What a connection knows and waits for.
extension ReadLink {
    enum Request: Sendable {
        case open(flist: UInt64, name: String)
        case read(flist: UInt64, ino: Int64, offset: UInt64, length: UInt32, FetchPriority)
        case whole(flist: UInt64, ino: Int64, fill: Bool)
        case prefetch(flist: UInt64)

        var flist: UInt64 {
            switch self {
            case .open(let flist, _), .read(let flist, _, _, _, _), .whole(let flist, _, _), .prefetch(let flist): flist
            }
        }
        var ino: Int64? {
            switch self {
            case .read(_, let ino, _, _, _), .whole(_, let ino, _): ino
            case .open, .prefetch: nil
            }
        }
    }

    struct Opened: Sendable {
        let digest: FlistDigest
        let isLegacy: Bool
        let path: String
        let tables: String
        /// The receiver closes it.
        let descriptor: Int32
    }

    enum Reply: Sendable {
        case opened(Opened)
        case ready(RemoteContent, Range<UInt64>, isWhole: Bool)
        case inline(Int)
        case partial(ready: UInt64, size: UInt64)
        case done
    }

    /// Where inline bytes go. Valid until the request is completed, which happens on the link's thread only.
    struct Target: @unchecked Sendable { let bytes: UnsafeMutableRawBufferPointer }

    typealias Completion = @Sendable (Result<Reply, ReadClientError>) -> Void

    struct Pending {
        let request: Request
        let target: Target?
        let deadline: UInt64
        let began: UInt64
        var isSent = false
        var notBefore: UInt64 = 0
        var pause = ReadLink.firstRetry
        var lost = 0
        /// The daemon knows no flist of that digest any more: it is asked by the name again.
        var usesName = false
        /// The last thing that the daemon said against it.
        var trouble: ReadClientError?
        let complete: Completion
    }

    struct Flist {
        let name: String
        var digest: FlistDigest?
        /// Its number at this connection.
        var handle: UInt32?
        var isOpening = false
        var users = 1
    }

    struct Key: Hashable { let flist: UInt64, ino: Int64 }
    struct Known {
        let content: RemoteContent
        var ranges = KnownRanges()
        var isWhole = false
        var used: UInt64
    }

    struct Weak { weak var content: RemoteContent? }

    struct State {
        var fd: Int32 = -1
        var isUp = false
        var epoch: UInt64 = 0
        var nextID: UInt32 = 1
        var nextFlist: UInt64 = 1
        var pending: [UInt32: Pending] = [:]
        /// Ids of requests that are not sent, in order.
        var waiting: [UInt32] = []
        var underWay = 0
        var cancelled: [UInt32] = []
        var flists: [UInt64: Flist] = [:]
        var contents: [UInt64: Weak] = [:]
        var known: [Key: Known] = [:]
        var clock: UInt64 = 0
        /// Bytes that the socket did not take yet.
        var out: [UInt8] = []
        var wakeAt: UInt64 = 0
        var isClosed = false
        var attempts = 0
        var connectAt: UInt64 = 0
        var connectedAt: UInt64 = 0
        var lastError = "not asked yet"
        var impatientUntil: UInt64 = 0
    }

    struct Release { let number: UInt64, epoch: UInt64 }
}
