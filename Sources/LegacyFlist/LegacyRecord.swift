internal import ChunkModel

/// The key of a directory: BLAKE2b-128 of its path, held in place since millions of them are remembered.
struct DirectoryKey: Hashable, Sendable {
    private let high: UInt64
    private let low: UInt64

    /// `nil` unless these are 32 hex digits.
    init?(text: [UInt8]) {
        guard text.count == 32, let bytes = Hex.decode(String(decoding: text, as: UTF8.self)) else { return nil }
        self.init(bytes: bytes)
    }

    private init(bytes: [UInt8]) {
        high = bytes[..<8].reduce(0) { $0 << 8 | UInt64($1) }
        low = bytes[8..<16].reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The empty path's.
    static let root = DirectoryKey(bytes: ChunkID(ofStored: UnsafeRawBufferPointer(start: nil, count: 0), length: .legacy).bytes)

    /// What stands in the table.
    var text: [UInt8] {
        let bytes = [high, low].flatMap { word in stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: word >> UInt64($0)) }
        }
        return Array(Hex.encode(bytes).utf8)
    }
}

/// Owner and access rights as several entries share them (FORMATS.md §2.3).
struct LegacyACI: Hashable, Sendable {
    /// The mode's lower twelve bits.
    var permissions: UInt16
    /// `nil` where the record has no number.
    var uid: UInt32?
    var gid: UInt32?
    /// Names, or ids as (signed) decimal numbers.
    var userName: [UInt8]
    var groupName: [UInt8]

    init(_ bytes: [UInt8]) throws(CapnpError) {
        var message = try CapnpMessage(bytes)
        let root = try message.root()
        permissions = message.integer(UInt16.self, of: root, at: 0) & 0o7777
        // The default is -1, and what is stored is the value XOR the default.
        uid = try Self.number(~message.integer(Int64.self, of: root, at: 8), "uid")
        gid = try Self.number(~message.integer(Int64.self, of: root, at: 16), "gid")
        userName = try message.text(of: root, pointer: 0)
        groupName = try message.text(of: root, pointer: 1)
    }

    private static func number(_ value: Int64, _ what: String) throws(CapnpError) -> UInt32? {
        if value == -1 { return nil }
        guard let number = UInt32(exactly: value) else { throw CapnpError("\(what) \(value) is out of range") }
        return number
    }
}

/// A directory's record: what it says of itself, and where its entries stand (FORMATS.md §2.3).
struct LegacyDirectory: Sendable {
    let aclKey: [UInt8]
    let mtime: UInt32
    let ctime: UInt32
    let entries: CapnpStructList
    private(set) var message: CapnpMessage

    init(_ bytes: [UInt8]) throws(CapnpError) {
        var message = try CapnpMessage(bytes)
        let root = try message.root()
        mtime = message.integer(of: root, at: 8)
        ctime = message.integer(of: root, at: 12)
        aclKey = try message.text(of: root, pointer: 4)
        entries = try message.structures(of: root, pointer: 2)
        self.message = message
    }

    /// The entry at a place of `entries`. An error that does not end the message concerns this entry only; `name` may be known all
    /// the same.
    mutating func entry(_ index: Int, name: inout [UInt8]) throws(CapnpError) -> LegacyEntry {
        let place = entries[index]
        name = []
        name = try message.text(of: place, pointer: 0)
        return try LegacyEntry(place, name: name, &message)
    }

    /// The ids and keys of a file's blocks, in order.
    mutating func block(_ blocks: CapnpStructList, _ index: Int) throws(CapnpError) -> (id: [UInt8], key: [UInt8]) {
        let place = blocks[index]
        return (try message.data(of: place, pointer: 0), try message.data(of: place, pointer: 1))
    }
}

/// An entry of a directory as its record has it.
struct LegacyEntry: Sendable {
    enum Kind: Sendable {
        /// The key of its own record, as text.
        case directory(key: [UInt8])
        /// `blockSize` in units of 4 KiB.
        case file(blockSize: UInt16, blocks: CapnpStructList)
        case symlink(target: [UInt8])
        case special(type: UInt16, data: [UInt8])
    }

    let name: [UInt8]
    let kind: Kind
    let size: UInt64
    let mtime: UInt32
    let ctime: UInt32
    let aclKey: [UInt8]

    init(_ place: CapnpStruct, name: [UInt8], _ message: inout CapnpMessage) throws(CapnpError) {
        self.name = name
        size = message.integer(of: place, at: 0)
        mtime = message.integer(of: place, at: 12)
        ctime = message.integer(of: place, at: 16)
        aclKey = try message.text(of: place, pointer: 2)
        let attributes = try message.structure(of: place, pointer: 1)
        let which = message.integer(UInt16.self, of: place, at: 8)
        switch which {
        case 0: kind = .directory(key: try attributes.map { a throws(CapnpError) in try message.text(of: a, pointer: 0) } ?? [])
        case 1:
            guard let attributes else {
                kind = .file(blockSize: 0, blocks: .empty)
                break
            }
            kind = .file(
                blockSize: message.integer(of: attributes, at: 0), blocks: try message.structures(of: attributes, pointer: 0))
        case 2: kind = .symlink(target: try attributes.map { a throws(CapnpError) in try message.text(of: a, pointer: 0) } ?? [])
        case 3:
            guard let attributes else { throw CapnpError("special file without attributes") }
            kind = .special(type: message.integer(of: attributes, at: 0), data: try message.data(of: attributes, pointer: 0))
        default: throw CapnpError("unknown kind of entry (\(which))")
        }
    }
}
