internal import ChunkModel
public import MeshKeys

/// Why two nodes did not come together.
public enum HandshakeError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No mesh key of ours opens it: a stranger, garbage, or a key ring that was not rotated here.
    case notOpened
    case version(theirs: UInt16)
    case weakKey
    case wrongIdentity(expected: NodeID, found: NodeID)
    case badSignature
    case outOfOrder

    public var description: String {
        switch self {
        case .notOpened: "no mesh key of this node opens it; check that both nodes have the same mesh.keyFile"
        case .version(let theirs):
            "it speaks version \(theirs) of the exchange protocol, this node speaks \(ProtocolLimits.version); bring both to one release"
        case .weakKey: "it offered a weak session key"
        case .wrongIdentity(let expected, let found): "node \(found) answered where node \(expected) was expected"
        case .badSignature: "it could not prove its identity"
        case .outOfOrder: "a handshake message came out of order"
        }
    }
}

/// What both ends of the handshake share.
///
/// ```
/// client → server   mesh-sealed { version u16, ephemeral X25519 key, NodeID, flags u8, padding }
/// server → client   mesh-sealed { version u16, ephemeral X25519 key, NodeID, flags u8, signature over transcript, padding }
/// client → server   proof frame under the session key { signature over transcript }
/// ```
/// Both sealed messages have the same fixed size and no length in front: to a stranger they are random bytes, and no answer is larger than
/// its question. The server answers with the mesh key that the client used. Session keys come from the two ephemeral keys and the
/// transcript, so a mesh key that leaks later opens no old session, and a recorded hello that is played again yields a session that its
/// player has no key for.
public enum Handshake {
    static let helloPlainBytes = 192
    static let replyPlainBytes = 192
    /// Bytes of the client's message on the wire.
    public static let helloBytes = helloPlainBytes + MeshKeyRing.overhead
    /// Bytes of the server's message on the wire.
    public static let replyBytes = replyPlainBytes + MeshKeyRing.overhead

    /// Bytes at the front of a hello that no two have in common: the seal's nonce.
    public static let nonceBytes = 24
    /// Flag of either side: bulk bytes shall travel sealed.
    static let sealsBulkFlag: UInt8 = 1

    static let helloContext = Array("chunkmesh exchange client hello".utf8)
    static let replyContext = Array("chunkmesh exchange server hello".utf8)

    /// Key ring of a node without a mesh key: loopback only, and anybody there may talk.
    public static let openRing = MeshKeyRing(keys: [[UInt8](repeating: 0, count: MeshKeyRing.keyBytes)])

    static func hash(_ label: String, _ parts: [[UInt8]]) -> Bytes32 {
        var input = Array("chunkmesh exchange 1 \(label)".utf8) + [0]
        for part in parts { input += part }
        return Blake2b.hash256(input)
    }

    static func opening(version: UInt16, key: [UInt8], id: NodeID, sealsBulk: Bool) -> [UInt8] {
        var out = WireWriter()
        out.put16(version)
        out.put(key)
        out.put(id.bytes)
        out.put8(sealsBulk ? sealsBulkFlag : 0)
        return out.bytes
    }

    static func keys(shared: [UInt8], transcript: Bytes32) -> (client: SessionCipher, server: SessionCipher) {
        (
            SessionCipher(key: hash("client to server", [shared, transcript.bytes])),
            SessionCipher(key: hash("server to client", [shared, transcript.bytes]))
        )
    }

    static func padded(_ bytes: [UInt8], to count: Int) -> [UInt8] {
        bytes + [UInt8](repeating: 0, count: max(0, count - bytes.count))
    }

    /// What stands at the front of an opened message.
    struct Opening {
        let key: [UInt8]
        let id: NodeID
        let sealsBulk: Bool
        let rest: [UInt8]
    }

    static func parse(_ plain: [UInt8]) throws(HandshakeError) -> Opening {
        var reader = WireReader(plain)
        do throws(ProtocolViolation) {
            let version = try reader.take16()
            guard version == ProtocolLimits.version else { throw ProtocolViolation("version") }
            let key = Array(try reader.take(SessionCrypto.keyBytes))
            guard let id = NodeID(try reader.take(32)) else { throw ProtocolViolation("id") }
            let flags = try reader.take8()
            return Opening(key: key, id: id, sealsBulk: flags & sealsBulkFlag != 0, rest: reader.takeRest())
        } catch {
            throw .version(theirs: plain.count < 2 ? 0 : UInt16(plain[0]) << 8 | UInt16(plain[1]))
        }
    }
}

/// The dialling end.
public struct ClientHandshake: Sendable {
    private enum State {
        /// Becomes `done` with the server's answer, whatever it holds.
        case waiting
        case done
    }

    private let identity: NodeIdentity
    private let ring: MeshKeyRing
    private let expected: NodeID?
    private let sealsBulk: Bool
    private let secret: [UInt8]
    private var state = State.waiting
    /// The bytes to send first.
    public let hello: [UInt8]

    /// - Parameters:
    ///   - expected: who shall answer; `nil` takes anybody who holds the mesh key.
    ///   - ephemeralSecret: 32 fresh random bytes, for this connection only.
    ///   - sealsBulk: whether bulk bytes shall travel sealed; they do when either side says so.
    ///   - key: of the ring, to greet with; by default the first one.
    ///   - version: another one only in tests.
    public init(
        identity: NodeIdentity, ring: MeshKeyRing, expected: NodeID?, ephemeralSecret: [UInt8], sealsBulk: Bool = false,
        key: MeshKeyFingerprint? = nil, version: UInt16 = ProtocolLimits.version
    ) {
        (self.identity, self.ring, self.expected, self.sealsBulk) = (identity, ring, expected, sealsBulk)
        secret = Handshake.padded(Array(ephemeralSecret.prefix(32)), to: 32)
        let opening = Handshake.opening(
            version: version, key: SessionCrypto.publicKey(of: secret), id: identity.id, sealsBulk: sealsBulk)
        hello = ring.seal(Handshake.padded(opening, to: Handshake.helloPlainBytes), context: Handshake.helloContext, with: key)
    }

    /// Takes the server's `Handshake.replyBytes`.
    ///
    /// - Returns: the session, and the proof that goes out as its first frame.
    public mutating func receive(_ reply: [UInt8]) throws(HandshakeError) -> (session: SessionKeys, proof: [UInt8]) {
        guard case .waiting = state else { throw .outOfOrder }
        state = .done
        guard reply.count == Handshake.replyBytes,
            let (plain, meshKey) = ring.openNamingKey(reply, context: Handshake.replyContext)
        else { throw .notOpened }
        let theirs = try Handshake.parse(plain)
        let (key, id) = (theirs.key, theirs.id)
        if let expected, expected != id { throw .wrongIdentity(expected: expected, found: id) }
        let opening = Handshake.opening(version: ProtocolLimits.version, key: key, id: id, sealsBulk: theirs.sealsBulk)
        let asked = Handshake.hash("server proof", [hello, opening])
        guard NodeIdentity.verify(Array(theirs.rest.prefix(PeerFrame.signatureBytes)), of: asked.bytes, by: id) else { throw .badSignature }
        guard let shared = SessionCrypto.agree(secret: secret, with: key) else { throw .weakKey }
        let transcript = Handshake.hash("transcript", [hello, opening, reply])
        var keys = Handshake.keys(shared: shared, transcript: transcript)
        let signature = identity.sign(Handshake.hash("client proof", [transcript.bytes]).bytes)
        let proof = keys.client.seal(.proof(signature))
        let session = SessionKeys(
            sending: keys.client, receiving: keys.server, peer: id, sealsBulk: sealsBulk || theirs.sealsBulk, meshKey: meshKey)
        return (session, proof)
    }
}

/// The accepting end.
public struct ServerHandshake: Sendable {
    private enum State {
        /// Becomes `waitingForProof` with a good hello, else `failed`.
        case waitingForHello
        /// Becomes `done` or `failed` with the client's first frame.
        case waitingForProof(transcript: Bytes32, client: NodeID)
        case done
        case failed
    }

    /// What to do about a hello.
    public enum Step: Sendable {
        /// Send `reply`, then expect the proof as the first frame.
        case reply([UInt8], SessionKeys)
        /// Say nothing, close when the handshake's time is over: a stranger shall not learn that something listens here.
        case silence
        /// A member of the mesh with another release: send `reply`, so that its log can say so too, and close.
        case otherVersion(reply: [UInt8], theirs: UInt16)
    }

    private let identity: NodeIdentity
    private let ring: MeshKeyRing
    private let sealsBulk: Bool
    private let secret: [UInt8]
    private var state = State.waitingForHello

    /// - Parameters:
    ///   - ephemeralSecret: 32 fresh random bytes, for this connection only.
    ///   - sealsBulk: whether bulk bytes shall travel sealed; they do when either side says so.
    public init(identity: NodeIdentity, ring: MeshKeyRing, ephemeralSecret: [UInt8], sealsBulk: Bool = false) {
        (self.identity, self.ring, self.sealsBulk) = (identity, ring, sealsBulk)
        secret = Handshake.padded(Array(ephemeralSecret.prefix(32)), to: 32)
    }

    /// Takes the client's `Handshake.helloBytes`.
    public mutating func receive(_ hello: [UInt8]) -> Step {
        guard case .waitingForHello = state else { return .silence }
        state = .failed
        guard hello.count == Handshake.helloBytes,
            let (plain, meshKey) = ring.openNamingKey(hello, context: Handshake.helloContext)
        else { return .silence }
        let theirs: Handshake.Opening
        do throws(HandshakeError) {
            theirs = try Handshake.parse(plain)
        } catch {
            guard case .version(let theirs) = error else { return .silence }
            let opening = Handshake.opening(
                version: ProtocolLimits.version, key: [UInt8](repeating: 0, count: SessionCrypto.keyBytes), id: identity.id,
                sealsBulk: sealsBulk)
            let reply = ring.seal(
                Handshake.padded(opening, to: Handshake.replyPlainBytes), context: Handshake.replyContext, with: meshKey)
            return .otherVersion(reply: reply, theirs: theirs)
        }
        guard let shared = SessionCrypto.agree(secret: secret, with: theirs.key) else { return .silence }
        let opening = Handshake.opening(
            version: ProtocolLimits.version, key: SessionCrypto.publicKey(of: secret), id: identity.id, sealsBulk: sealsBulk)
        let signature = identity.sign(Handshake.hash("server proof", [hello, opening]).bytes)
        let reply = ring.seal(
            Handshake.padded(opening + signature, to: Handshake.replyPlainBytes), context: Handshake.replyContext, with: meshKey)
        let transcript = Handshake.hash("transcript", [hello, opening, reply])
        let keys = Handshake.keys(shared: shared, transcript: transcript)
        state = .waitingForProof(transcript: transcript, client: theirs.id)
        let session = SessionKeys(
            sending: keys.server, receiving: keys.client, peer: theirs.id, sealsBulk: sealsBulk || theirs.sealsBulk, meshKey: meshKey)
        return .reply(reply, session)
    }

    /// Takes the client's first frame.
    ///
    /// - Returns: who the client is.
    public mutating func receive(first frame: PeerFrame) throws(HandshakeError) -> NodeID {
        guard case .waitingForProof(let transcript, let client) = state, case .proof(let signature) = frame else {
            state = .failed
            throw .outOfOrder
        }
        let signed = Handshake.hash("client proof", [transcript.bytes])
        guard NodeIdentity.verify(signature, of: signed.bytes, by: client) else {
            state = .failed
            throw .badSignature
        }
        state = .done
        return client
    }
}
