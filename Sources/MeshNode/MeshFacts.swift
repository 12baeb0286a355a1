internal import ChunkModel
internal import Gossip

/// The facts that nodes tell each other beside chunks: small records, read with suspicion.
enum MeshFacts {
    static let profile: UInt8 = 1
    static let flist: UInt8 = 2
    static let job: UInt8 = 3
    /// Other sites; gossip's own.
    static let site: UInt8 = GossipMachine.siteFact
    static let revocations: UInt8 = 6
    static let goal: UInt8 = 7
    /// Its node is after the chunks of an flist, all of them or many. No value.
    static let seeking: UInt8 = 8

    static let profileKey = FactKey(kind: profile)!
    static let revocationsKey = FactKey(kind: revocations)!
    static func flistKey(_ digest: FlistDigest) -> FactKey { FactKey(kind: flist, id: digest.value.bytes)! }
    static func jobKey(_ digest: FlistDigest) -> FactKey { FactKey(kind: job, id: digest.value.bytes)! }

    static func seekingKey(_ digest: FlistDigest) -> FactKey { FactKey(kind: seeking, id: digest.value.bytes)! }
    static func goalKey(_ digest: FlistDigest) -> FactKey { FactKey(kind: goal, id: digest.value.bytes)! }

    static func digest(of key: FactKey) -> FlistDigest? { Bytes32(key.id).map { FlistDigest($0) } }
}

/// What a node says of itself.
struct NodeProfile: Equatable, Sendable {
    /// It may be asked to fetch from upstream.
    var reachesUpstream: Bool
    /// Stored bytes of chunks that it pulled from upstream since it started.
    var upstreamBytes: UInt64
    /// It takes no part in what others want (`lan.mode` other than `both`).
    var keepsApart: Bool

    /// It may ask other sites for chunks.
    var asksSites: Bool

    var encoded: [UInt8] { [(reachesUpstream ? 1 : 0) | (asksSites ? 2 : 0) | (keepsApart ? 4 : 0)] + upstreamBytes.bytes }

    init(reachesUpstream: Bool, upstreamBytes: UInt64, asksSites: Bool = false, keepsApart: Bool = false) {
        (self.reachesUpstream, self.upstreamBytes) = (reachesUpstream, upstreamBytes)
        (self.asksSites, self.keepsApart) = (asksSites, keepsApart)
    }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 9 else { return nil }
        self.init(
            reachesUpstream: bytes[0] & 1 == 1, upstreamBytes: UInt64(bytes: bytes[1..<9]), asksSites: bytes[0] & 2 == 2,
            keepsApart: bytes[0] & 4 == 4)
    }
}

/// An flist that a node knows and can send.
struct FlistFact: Equatable, Sendable {
    /// It may fetch the flist's chunks from upstream.
    var fetches: Bool
    var fileBytes: UInt64
    var chunkCount: UInt32
    var name: String
    /// It has a signature of it to pass on.
    var isSigned: Bool

    init(fetches: Bool, fileBytes: UInt64, chunkCount: UInt32, name: String, isSigned: Bool = false) {
        (self.fetches, self.fileBytes, self.chunkCount, self.name) = (fetches, fileBytes, chunkCount, name)
        self.isSigned = isSigned
    }

    var encoded: [UInt8] { [(fetches ? 1 : 0) | (isSigned ? 2 : 0)] + fileBytes.bytes + chunkCount.bytes + Array(name.utf8) }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 13 else { return nil }
        self.init(
            fetches: bytes[0] & 1 == 1, fileBytes: UInt64(bytes: bytes[1..<9]), chunkCount: UInt32(bytes: bytes[9..<13]),
            name: FlistRecord.clean(String(decoding: bytes[13...], as: UTF8.self)), isSigned: bytes[0] & 2 == 2)
    }
}

/// A prefetch that other nodes take part in.
struct JobFact: Equatable, Sendable {
    enum Scope: UInt8, Sendable { case site = 1, all = 2 }
    var scope: Scope
    var copies: UInt8
    var pin: Bool
    /// Its node tells which chunks come first (`MessageKind.profile`).
    var hasProfile: Bool

    init(scope: Scope, copies: UInt8, pin: Bool, hasProfile: Bool = false) {
        (self.scope, self.copies, self.pin, self.hasProfile) = (scope, copies, pin, hasProfile)
    }

    var encoded: [UInt8] { [scope.rawValue, copies, (pin ? 1 : 0) | (hasProfile ? 2 : 0)] }

    init?(_ bytes: [UInt8]) {
        guard bytes.count >= 3, let scope = Scope(rawValue: bytes[0]), bytes[1] > 0 else { return nil }
        self.init(scope: scope, copies: bytes[1], pin: bytes[2] & 1 == 1, hasProfile: bytes[2] & 2 == 2)
    }
}

extension FixedWidthInteger {
    /// Big-endian.
    var bytes: [UInt8] { (0..<Self.bitWidth / 8).reversed().map { UInt8(truncatingIfNeeded: self >> ($0 * 8)) } }

    /// Big-endian, from as many bytes as the type has.
    init(bytes: ArraySlice<UInt8>) { self = bytes.reduce(0) { $0 << 8 | Self(truncatingIfNeeded: $1) } }
}
