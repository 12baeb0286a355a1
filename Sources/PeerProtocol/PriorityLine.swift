internal import ChunkModel

/// A queue in which a higher priority goes first, and equals in their order. What was removed elsewhere is skipped by the taker.
struct PriorityLine {
    private struct Lane {
        var items: [UInt64] = []
        var head = 0
    }
    private var lanes = [Lane](repeating: Lane(), count: FetchPriority.allCases.count)

    var count: Int { lanes.reduce(0) { $0 + $1.items.count - $1.head } }

    mutating func push(_ item: UInt64, _ priority: FetchPriority) { lanes[Int(priority.rawValue)].items.append(item) }

    mutating func pop() -> UInt64? {
        for i in lanes.indices.reversed() where lanes[i].head < lanes[i].items.count {
            defer {
                lanes[i].head += 1
                if lanes[i].head == lanes[i].items.count {
                    lanes[i].items.removeAll(keepingCapacity: true)
                    lanes[i].head = 0
                } else if lanes[i].head > 1024 {
                    lanes[i].items.removeFirst(lanes[i].head)
                    lanes[i].head = 0
                }
            }
            return lanes[i].items[lanes[i].head]
        }
        return nil
    }

    /// Drops everything that `keep` does not want, so that a line of abandoned items does not grow.
    mutating func compact(_ keep: (UInt64) -> Bool) {
        for i in lanes.indices {
            lanes[i].items = lanes[i].items[lanes[i].head...].filter(keep)
            lanes[i].head = 0
        }
    }
}

/// A message that comes in over several frames.
struct MessageAssembly {
    let id: UInt32
    let total: Int
    var bytes: [UInt8]

    init(id: UInt32, total: UInt32, first: [UInt8]) throws(ProtocolViolation) {
        (self.id, self.total, bytes) = (id, Int(total), first)
        guard !first.isEmpty || total == 0 else { throw ProtocolViolation("a message begins with no bytes") }
    }

    var isWhole: Bool { bytes.count == total }

    mutating func append(_ part: [UInt8]) throws(ProtocolViolation) {
        guard !part.isEmpty, part.count <= total - bytes.count else {
            throw ProtocolViolation("a message does not have the length announced")
        }
        bytes += part
    }

    /// The frames that carry `bytes`, the first one built by `head`.
    static func frames(id: UInt32, _ bytes: [UInt8], head: (UInt32, [UInt8]) -> PeerFrame) -> [PeerFrame] {
        let step = ProtocolLimits.messagePieceBytes
        var out = [head(UInt32(clamping: bytes.count), Array(bytes.prefix(step)))]
        var at = step
        while at < bytes.count {
            out.append(.part(id: id, Array(bytes[at..<min(at + step, bytes.count)])))
            at += step
        }
        return out
    }
}
