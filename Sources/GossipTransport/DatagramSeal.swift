internal import ChunkModel
internal import MeshKeys

/// Seals datagrams with the mesh key and opens each one once.
///
/// Inside the seal stand a kind, the sender's session (8 random bytes, new at each start) and a counter. A receiver keeps for each
/// session the addresses that it proved to live at, the highest counter and a window of the 1,024 before it: what it saw, or what is
/// older than the window, is dropped. A datagram of a session that it doesn't know, or from another address, is held back, and a
/// challenge goes there (8 bytes that the receiver alone can make, good for 5 to 10 s); the sender's proof repeats them under its session,
/// and so shows that it lives now, and there. Recordings of an earlier time can't answer, however the receiver's memory was lost
/// (restart, or eviction of an idle session), nor can a recording that is sent from elsewhere, so no answer goes to who did not ask.
/// No clock is compared, so jumps of wall clocks don't matter.
/// A recorded datagram can reach, once, a node that it was not sent to, under the address that it was sent from; gossip means the same to
/// everybody, probes name their target, and answers go to the true sender.
struct DatagramSeal {
    static let context = Array("chunkmesh gossip 1".utf8)
    /// Kind, session and counter.
    static let headerBytes = 17
    /// Sessions remembered; the longest idle one gives way, and is challenged when it comes back.
    static let maxSessions = 4_096
    /// Addresses that one session has proved; the oldest gives way (a node has one for each family, or two).
    static let maxAddresses = 4
    /// Senders of which datagrams are held back. Further ones are challenged too, but have to send theirs again.
    static let maxWaiting = 256
    /// Datagrams held back for each of them; later ones are dropped.
    static let maxHeld = 8
    /// A challenge is good for one to two of these.
    static let challengeTime: UInt64 = 5_000_000_000
    /// A challenge is repeated after this long, should it be lost.
    static let challengeRepeat: UInt64 = 300_000_000
    static let cookieBytes = 8

    enum Kind: UInt8 {
        case data = 0
        case challenge = 1
        case proof = 2
    }
    enum Outcome: Equatable {
        /// Payloads to take in, in order: the one that came, or those that were held back and are now believed. The sender is where it
        /// says, and holds this key.
        case accept([[UInt8]], MeshKeyFingerprint)
        /// To be sent back; never longer than what came.
        case answer([UInt8])
        case held
        /// Did not open: a stranger, another key, or damage.
        case foreign
        case replayed
        /// This node's own, come back by multicast.
        case own
    }
    private struct Session {
        var highest: UInt64 = 0
        /// Bit i of word w stands for counter ≡ 64 w + i modulo 1,024.
        var seen = [UInt64](repeating: 0, count: 16)
        var usedAt: UInt64
        var addresses: [NodeAddress] = []

        mutating func prove(_ address: NodeAddress) {
            if addresses.contains(address) { return }
            addresses.append(address)
            if addresses.count > DatagramSeal.maxAddresses { addresses.removeFirst() }
        }

        /// False when the counter was there before, or is too old to tell.
        mutating func accept(_ counter: UInt64) -> Bool {
            if counter > highest {
                if counter - highest >= 1_024 {
                    seen = [UInt64](repeating: 0, count: 16)
                } else {
                    for passed in (highest + 1)...counter { seen[Int(passed >> 6 & 15)] &= ~(1 << (passed & 63)) }
                }
                highest = counter
            } else if highest - counter >= 1_024 || seen[Int(counter >> 6 & 15)] >> (counter & 63) & 1 == 1 {
                return false
            }
            seen[Int(counter >> 6 & 15)] |= 1 << (counter & 63)
            return true
        }
    }
    private struct Origin: Hashable {
        let session: UInt64
        let address: NodeAddress
    }
    private struct Waiting {
        let expiry: UInt64
        var sentAt: UInt64
        var held: [(counter: UInt64, payload: [UInt8])]
    }

    private(set) var ring: MeshKeyRing
    private let session = UInt64(littleEndianBytes: Sodium.randomBytes(8))
    /// What challenges are made with; nobody else knows it, and it ends with the process.
    private let secret = Sodium.randomBytes(32)
    private var counter: UInt64 = 0
    private var sessions: [UInt64: Session] = [:]
    private var waiting: [Origin: Waiting] = [:]

    init(ring: MeshKeyRing) { self.ring = ring }

    /// Other keys from now on. Sessions stay: what their senders proved does not depend on the key.
    mutating func setRing(_ ring: MeshKeyRing) { self.ring = ring }

    /// - Parameter key: the one that the receiver is known to have; by default the one that seals.
    mutating func seal(_ payload: [UInt8], kind: Kind = .data, with key: MeshKeyFingerprint? = nil) -> [UInt8] {
        counter += 1
        return ring.seal(
            [kind.rawValue] + session.littleEndianBytes + counter.littleEndianBytes + payload, context: Self.context, with: key)
    }

    /// - Parameters:
    ///   - only: the one key to try.
    ///   - now: nanoseconds of a clock that never goes back.
    mutating func open(_ sealed: [UInt8], from: NodeAddress, only: MeshKeyFingerprint? = nil, now: UInt64) -> Outcome {
        guard let (plain, key) = ring.openNamingKey(sealed, context: Self.context, only: only), plain.count >= Self.headerBytes,
            let kind = Kind(rawValue: plain[0])
        else { return .foreign }
        let theirs = UInt64(littleEndianBytes: plain[1..<9])
        let number = UInt64(littleEndianBytes: plain[9..<17])
        let payload = Array(plain[17...])
        if theirs == session { return .own }
        switch kind {
        case .challenge: return payload.count == Self.cookieBytes ? .answer(seal(payload, kind: .proof, with: key)) : .foreign
        case .proof: return prove(Origin(session: theirs, address: from), number, payload, key, now)
        case .data:
            guard sessions[theirs]?.addresses.contains(from) == true else {
                return challenge(Origin(session: theirs, address: from), number, payload, key, now)
            }
            guard sessions[theirs]?.accept(number) == true else { return .replayed }
            sessions[theirs]?.usedAt = now
            return .accept([payload], key)
        }
    }

    /// What only this process can tell of an origin and a time.
    private func cookie(_ origin: Origin, _ slot: UInt64) -> [UInt8] {
        let text = secret + origin.session.littleEndianBytes + slot.littleEndianBytes + Array("\(origin.address)".utf8)
        return Array(Blake2b.hash256(text).bytes.prefix(Self.cookieBytes))
    }

    private mutating func prove(
        _ origin: Origin, _ number: UInt64, _ cookie: [UInt8], _ key: MeshKeyFingerprint, _ now: UInt64
    ) -> Outcome {
        let slot = now / Self.challengeTime
        guard cookie == self.cookie(origin, slot) || cookie == self.cookie(origin, slot &- 1) else { return .replayed }
        if sessions[origin.session] == nil {
            makeRoom()
            sessions[origin.session] = Session(usedAt: now)
        }
        guard sessions[origin.session]?.accept(number) == true else { return .replayed }
        sessions[origin.session]?.usedAt = now
        sessions[origin.session]?.prove(origin.address)
        let held = waiting.removeValue(forKey: origin)?.held ?? []
        return .accept(held.filter { sessions[origin.session]?.accept($0.counter) == true }.map(\.payload), key)
    }

    private mutating func challenge(
        _ origin: Origin, _ number: UInt64, _ payload: [UInt8], _ key: MeshKeyFingerprint, _ now: UInt64
    ) -> Outcome {
        if var known = waiting[origin], now < known.expiry {
            if known.held.count < Self.maxHeld { known.held.append((number, payload)) }
            let again = now >= known.sentAt &+ Self.challengeRepeat
            if again { known.sentAt = now }
            waiting[origin] = known
            guard again else { return .held }
        } else {
            if waiting.count >= Self.maxWaiting { waiting = waiting.filter { now < $0.value.expiry } }
            if waiting.count < Self.maxWaiting {
                waiting[origin] = Waiting(expiry: now &+ Self.challengeTime, sentAt: now, held: [(number, payload)])
            }
        }
        // A challenge would be longer than what came: nothing of ours is so short.
        guard payload.count >= Self.cookieBytes else { return .held }
        return .answer(seal(cookie(origin, now / Self.challengeTime), kind: .challenge, with: key))
    }

    private mutating func makeRoom() {
        guard sessions.count >= Self.maxSessions, let idle = sessions.min(by: { $0.value.usedAt < $1.value.usedAt })?.key else { return }
        sessions[idle] = nil
    }
}

extension UInt64 {
    init(littleEndianBytes bytes: some Sequence<UInt8>) {
        self = 0
        for (i, byte) in bytes.prefix(8).enumerated() { self |= UInt64(byte) << UInt64(8 * i) }
    }
    var littleEndianBytes: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: self >> UInt64(8 * $0)) } }
}
