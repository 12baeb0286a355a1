internal import CLinux
public import FuseProtocol
internal import Glibc
internal import Synchronization

/// What of a mount's state a new helper needs that serves the connection of one that was killed.
public struct HeldState: Sendable, Equatable {
    public var negotiation: FuseNegotiation
    /// `major:minor` of the mount, and of the overlay over it.
    public var device: String?
    public var overlay: String?
    /// What tells the flist from others.
    public var identity: String

    public init(negotiation: FuseNegotiation, device: String?, overlay: String?, identity: String) {
        (self.negotiation, self.device, self.overlay, self.identity) = (negotiation, device, overlay, identity)
    }
}

/// A connection to the kernel that outlives the helper which serves it, and a file in memory that says what was agreed on it and how files
/// are open. The holder has both descriptors; each helper inherits them.
///
/// The file: a line of text in the first 512 bytes, then records of 16 bytes in this machine's order, one for each open inode: inode number
/// (8), backing id or -1 (4), opens (4); 0 opens is a free record.
public final class HeldConnection: Sendable {
    private static let headBytes = 512
    private static let recordBytes = 16
    private static let word = "flist1"

    private let device: Int32
    private let state: Int32
    /// Records in use, by inode; those below `end` that are in no use.
    private let records = Mutex((places: [UInt64: Int](), free: [Int](), end: 0))

    private init(device: Int32, state: Int32) { (self.device, self.state) = (device, state) }

    /// A new one, not mounted yet. Its descriptors stay open as long as the process runs.
    public static func open() throws(MountError) -> HeldConnection {
        let device = try FuseDevice.openDescriptor()
        let state = chunkmesh_memory_file("flist-mount")
        guard state >= 0 else { throw MountError(.system, "no memory file: \(String(cString: strerror(errno)))") }
        return HeldConnection(device: device, state: state)
    }

    /// - Parameter words: the numbers of the inherited descriptors, of the connection and of its state: `4,5`.
    init(words: some StringProtocol) throws(MountError) {
        let numbers = words.split(separator: ",").compactMap { Int32($0) }
        guard numbers.count == 2, numbers.allSatisfy({ fcntl($0, F_SETFD, FD_CLOEXEC) == 0 }) else {
            throw MountError(.usage, "--held is for the holder of a mount")
        }
        (device, state) = (numbers[0], numbers[1])
    }

    /// To be passed on: of the connection, and of its state.
    public var descriptors: (device: Int32, state: Int32) { (device, state) }

    /// Another descriptor of the connection.
    public func descriptor() throws(MountError) -> Int32 {
        let copy = fcntl(device, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0 else { throw MountError(.system, "no descriptor is left: \(String(cString: strerror(errno)))") }
        return copy
    }

    // MARK: State

    /// Written once, when the mount works.
    public func establish(_ held: HeldState) {
        let fields = [
            Self.word, "\(held.negotiation.minor)", "\(held.negotiation.flags.rawValue)", held.device ?? "-", held.overlay ?? "-",
            held.identity,
        ]
        let line = Array((fields.joined(separator: " ") + "\n").utf8.prefix(Self.headBytes))
        _ = line.withUnsafeBytes { pwrite(state, $0.baseAddress, $0.count, 0) }
    }

    /// `nil` before the mount works.
    public var established: HeldState? {
        var head = [UInt8](repeating: 0, count: Self.headBytes)
        guard pread(state, &head, head.count, 0) > 0 else { return nil }
        let fields = String(decoding: head.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self).split(separator: " ").map(String.init)
        guard fields.count == 6, fields[0] == Self.word, let minor = UInt32(fields[1]), let flags = UInt64(fields[2]) else { return nil }
        func known(_ text: String) -> String? { text == "-" ? nil : text }
        return HeldState(
            negotiation: FuseNegotiation(agreed: FuseInitFlags(rawValue: flags), minor: minor), device: known(fields[3]),
            overlay: known(fields[4]), identity: fields[5])
    }

    /// - Parameter open: how `node` is open now; `nil`: not.
    func note(_ node: UInt64, _ open: OpenState?) {
        records.withLock { records in
            let known = records.places[node]
            guard known != nil || open != nil else { return }
            let place = known ?? records.free.popLast() ?? records.end
            if place == records.end { records.end += 1 }
            if open == nil {
                records.places[node] = nil
                records.free.append(place)
            } else {
                records.places[node] = place
            }
            var record = (node, open?.backing ?? -1, UInt32(clamping: open?.count ?? 0))
            _ = pwrite(state, &record, Self.recordBytes, off_t(Self.headBytes + place * Self.recordBytes))
        }
    }

    /// What the process before had open.
    func opens() -> [UInt64: OpenState] {
        records.withLock { records in
            records = ([:], [], 0)
            var found: [UInt64: OpenState] = [:]
            var record: (UInt64, Int32, UInt32) = (0, 0, 0)
            while pread(state, &record, Self.recordBytes, off_t(Self.headBytes + records.end * Self.recordBytes)) == Self.recordBytes {
                if record.2 > 0 {
                    found[record.0] = OpenState(backing: record.1 < 0 ? nil : record.1, count: Int(record.2))
                    records.places[record.0] = records.end
                } else {
                    records.free.append(records.end)
                }
                records.end += 1
            }
            return found
        }
    }
}

extension HeldConnection: Equatable {
    public static func == (one: HeldConnection, other: HeldConnection) -> Bool { one === other }
}
