internal import ChunkModel
internal import MeshKeys

/// Seals datagrams with the mesh key and opens each one once.
///
/// Inside the seal stand a kind, the sender's session (8 random bytes, new at each start) and a counter. A receiver keeps for each
/// session the highest counter and a window of the 1,024 before it: what it saw, or what is older than the window, is dropped. Of a
/// session that it doesn't know it holds the datagrams back and sends a challenge (8 random bytes, good for 5 s); the sender's proof
/// repeats them under its session, and so shows that it lives now. Recordings of an earlier time can't answer, however the receiver's
/// memory was lost (restart, or eviction of an idle session). No clock is compared, so jumps of wall clocks don't matter.
/// A recorded datagram can reach, once, a node that it was not sent to; gossip means the same to everybody, and probes name their target.
struct DatagramSeal {
    static let context = Array("chunkmesh gossip 1".utf8)
    /// Kind, session and counter.
    static let headerBytes = 17
    /// Sessions remembered; the longest idle one gives way, and is challenged when it comes back.
    static let maxSessions = 4_096
    /// Sessions being challenged; datagrams of further ones are dropped until these are answered or lapse.
    static let maxChallenges = 256
    /// Datagrams held back for each of them; later ones are dropped.
    static let maxHeld = 8
    static let challengeTime: UInt64 = 5_000_000_000
    /// A challenge is repeated after this long, should it be lost.
    static let challengeRepeat: UInt64 = 300_000_000

    enum Kind: UInt8 {
        case data = 0
        case challenge = 1
        case proof = 2
    }
    enum Outcome: Equatable {
        /// Payloads to take in, in order: the one that came, or those that were held back and are now believed.
        case accept([[UInt8]])
        /// To be sent back.
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
    private struct Challenge {
        let nonce: [UInt8]
        let expiry: UInt64
        var sentAt: UInt64
        var held: [(counter: UInt64, payload: [UInt8])]
    }

    private let ring: MeshKeyRing
    private let session = UInt64(littleEndianBytes: Sodium.randomBytes(8))
    private var counter: UInt64 = 0
    private var sessions: [UInt64: Session] = [:]
    private var challenges: [UInt64: Challenge] = [:]

    init(ring: MeshKeyRing) { self.ring = ring }

    mutating func seal(_ payload: [UInt8], kind: Kind = .data) -> [UInt8] {
        counter += 1
        return ring.seal([kind.rawValue] + session.littleEndianBytes + counter.littleEndianBytes + payload, context: Self.context)
    }

    /// - Parameter now: nanoseconds of a clock that never goes back.
    mutating func open(_ sealed: [UInt8], now: UInt64) -> Outcome {
        guard let plain = ring.open(sealed, context: Self.context), plain.count >= Self.headerBytes, let kind = Kind(rawValue: plain[0])
        else { return .foreign }
        let theirs = UInt64(littleEndianBytes: plain[1..<9])
        let number = UInt64(littleEndianBytes: plain[9..<17])
        let payload = Array(plain[17...])
        if theirs == session { return .own }
        switch kind {
        case .challenge:
            return payload.count == 8 ? .answer(seal(payload, kind: .proof)) : .foreign
        case .proof:
            guard let challenge = challenges[theirs], challenge.nonce == payload, now < challenge.expiry else { return .replayed }
            challenges[theirs] = nil
            makeRoom()
            var new = Session(usedAt: now)
            let believed = challenge.held.filter { new.accept($0.counter) }.map(\.payload)
            sessions[theirs] = new
            return .accept(believed)
        case .data:
            if sessions[theirs] != nil {
                guard sessions[theirs]?.accept(number) == true else { return .replayed }
                sessions[theirs]?.usedAt = now
                return .accept([payload])
            }
            return challenge(theirs, number, payload, now)
        }
    }

    private mutating func challenge(_ theirs: UInt64, _ number: UInt64, _ payload: [UInt8], _ now: UInt64) -> Outcome {
        if var challenge = challenges[theirs], now < challenge.expiry {
            if challenge.held.count < Self.maxHeld { challenge.held.append((number, payload)) }
            let again = now >= challenge.sentAt &+ Self.challengeRepeat
            if again { challenge.sentAt = now }
            challenges[theirs] = challenge
            return again ? .answer(seal(challenge.nonce, kind: .challenge)) : .held
        }
        if challenges.count >= Self.maxChallenges {
            challenges = challenges.filter { now < $0.value.expiry }
            if challenges.count >= Self.maxChallenges { return .held }
        }
        let new = Challenge(nonce: Sodium.randomBytes(8), expiry: now &+ Self.challengeTime, sentAt: now, held: [(number, payload)])
        challenges[theirs] = new
        return .answer(seal(new.nonce, kind: .challenge))
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
