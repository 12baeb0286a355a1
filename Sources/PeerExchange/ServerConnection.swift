internal import CLinux
internal import ChunkModel
internal import Logging
internal import MeshKeys
internal import PeerProtocol

/// A connection that a peer dialled to this node.
final class ServerConnection: Connection {
    private enum Phase {
        /// Becomes `proving` with a good hello, `silent` with any other, `farewell` for another version.
        case greeting(ServerHandshake)
        /// Becomes `open` with a good proof.
        case proving(ServerHandshake)
        case open(NodeID)
        /// Reads and says nothing until the handshake's time is over, as if nothing had come.
        case silent
        /// Closes when its last words are written.
        case farewell
    }

    private let address: NodeAddress
    private let ticket: UInt64
    private var phase: Phase
    private let began: UInt64
    private var machine: ServerConnectionMachine
    /// Answers in bulk, until their turn.
    private var replies: [UInt32: Reply] = [:]
    private var bulkLength = 0
    /// Of the requests that are not answered, and of the one whose bytes go out.
    private var priorities: [UInt32: FetchPriority] = [:]
    private var bulkPriority = FetchPriority.foreground
    private var counted: NodeID?

    init(fd: Int32, address: NodeAddress, ticket: UInt64, thread: IOThread) {
        (self.address, self.ticket) = (address, ticket)
        began = thread.now
        let shared = thread.shared
        phase = .greeting(
            ServerHandshake(
                identity: shared.identity, ring: shared.ring, ephemeralSecret: Sodium.randomBytes(32),
                sealsBulk: shared.configuration.sealsBulk))
        machine = ServerConnectionMachine(times: shared.configuration.times, now: thread.now)
        super.init(fd: fd, thread: thread)
    }

    override var provenPeer: NodeID? { counted }
    override var wantsInput: Bool { machine.wantsInput }
    override var sendPriority: FetchPriority { bulkPriority }
    override var isBusy: Bool { if case .open = phase { machine.isBusy || hasUnsent } else { true } }

    override func process() {
        while !isClosed {
            switch phase {
            case .greeting(var handshake):
                guard reader.buffered >= Handshake.helloBytes else { return }
                greet(&handshake)
            case .proving(var handshake):
                do {
                    guard let frame = try session?.receiving.open(&reader) else { return }
                    let peer = try handshake.receive(first: frame)
                    counted = peer
                    guard shared.gate.authenticate(ticket, address, as: peer) else {
                        return refuse("the peer has too many connections", peer)
                    }
                    if let refusal = shared.refusal(of: peer) { return keepOut(peer, refusal) }
                    phase = .open(peer)
                } catch {
                    // Nothing, not even the time of the end, tells a player of recordings that its hello was a good one.
                    shared.count { $0.unproven += 1 }
                    logStranger("a connection whose hello opened did not prove who it is", "\(error)")
                    phase = .silent
                }
            case .open(let peer):
                do throws(ProtocolViolation) {
                    guard let frame = try session?.receiving.open(&reader) else { return }
                    run(machine.receive(frame, now: thread.now), peer)
                } catch {
                    return refuse(error.description, peer)
                }
            case .silent, .farewell:
                _ = reader.take(upTo: reader.buffered)
                return
            }
        }
    }

    private func greet(_ handshake: inout ServerHandshake) {
        let hello = Array(reader.take(upTo: Handshake.helloBytes))
        let nonce = Array(hello.prefix(Handshake.nonceBytes))
        let step = shared.hellos.contains(nonce) ? nil : handshake.receive(hello)
        switch step {
        case .reply, .otherVersion:
            guard shared.hellos.insert(nonce) else { return replayed() }
        case .silence: break
        case nil: return replayed()
        }
        switch step {
        case .reply(let reply, let session):
            self.session = session
            out += reply
            wantsOutput = true
            phase = .proving(handshake)
        case .silence, nil:
            shared.count { $0.notOpened += 1 }
            logStranger("a connection was not opened by any mesh key; check mesh.keyFile of both nodes", nil)
            phase = .silent
        case .otherVersion(let reply, let theirs):
            shared.logger.error(
                "a peer speaks another version of the exchange protocol",
                metadata: ["address": "\(address)", "reason": "\(HandshakeError.version(theirs: theirs))"])
            out += reply
            wantsOutput = true
            phase = .farewell
        }
    }

    private func replayed() {
        shared.count { $0.replayed += 1 }
        logStranger("a connection began with a hello that was used before: somebody plays a recording", nil)
        phase = .silent
    }

    private func logStranger(_ line: Logger.Message, _ reason: String?) {
        guard let times = shared.strangerLog.due(now: thread.now) else { return }
        var metadata: Logger.Metadata = ["address": "\(address)", "strangers since the last line": "\(times)"]
        if let reason { metadata["reason"] = "\(reason)" }
        shared.logger.warning(line, metadata: metadata)
    }

    private func keepOut(_ peer: NodeID, _ refusal: MemberGate.Refusal) {
        shared.count { $0.notAdmitted += 1 }
        if shared.keptOutLog.due(now: thread.now) != nil {
            shared.logger.warning(
                "a node that holds the mesh key is not let in",
                metadata: ["node": "\(peer.hex)", "address": "\(address)", "reason": "\(refusal)"])
        }
        close(.closed)
    }

    /// Whether the peer may ask so often; otherwise the answer is "busy".
    private func admits(_ id: UInt32, _ request: PeerRequest, of peer: NodeID) -> Bool {
        var isMessage = false
        if case .message = request.kind { isMessage = true }
        switch shared.rates.take(peer, isMessage: isMessage, shared.configuration, now: thread.now) {
        case .admitted: return true
        case .limitedAndDueInLog:
            shared.logger.warning(
                "a peer asks too often; its requests are put off", metadata: ["peer": "\(peer)", "address": "\(address)"])
        case .limited: break
        }
        shared.traffic.count(peer) { $0.limited += 1 }
        _ = machine.answer(
            id: id, .busy(retryAfterMilliseconds: ExchangeConfiguration.limitedRetryMilliseconds), now: thread.now)
        return false
    }

    private func run(_ directives: [ServerConnectionMachine.Directive], _ peer: NodeID) {
        for directive in directives {
            switch directive {
            case .handle(let id, let request):
                guard admits(id, request, of: peer) else { continue }
                priorities[id] = request.priority
                let responder = PeerResponder(id: PeerResponder.ID(connection: key, request: id), remote: address, thread: thread)
                shared.handler.handle(request, from: peer, responder: responder)
            case .cancelled(let id):
                priorities[id] = nil
                replies.removeValue(forKey: id)?.dispose()
                shared.handler.cancelled(PeerResponder.ID(connection: key, request: id))
            case .drop(let violation): refuse(violation.description, peer)
            case .closeIdle: close(.closed)
            }
        }
        // "Busy" may stand there to be written.
        wantsOutput = true
    }

    private func refuse(_ reason: String, _ peer: NodeID?) {
        shared.logger.warning(
            "a peer's connection is dropped",
            metadata: ["address": "\(address)", "peer": "\(peer.map(\.description) ?? "unknown")", "reason": "\(reason)"])
        close(.closed)
    }

    func answer(_ id: UInt32, _ reply: Reply) {
        let taken = machine.answer(id: id, reply.answer, now: thread.now)
        if taken, case .open(let peer) = phase { shared.traffic.count(peer) { $0.requestsServed += 1 } }
        if taken, case .data = reply.answer {
            replies[id] = reply
        } else {
            priorities[id] = nil
            reply.dispose()
        }
        wantsOutput = true
        thread.enqueue(self)
    }

    override func refill() -> Bool {
        if case .farewell = phase { close(.closed) }
        guard case .open(let peer) = phase else { return false }
        var found = false
        while bulkSend == nil, out.count < ExchangeConfiguration.writeBatchBytes, let output = machine.nextOutput(now: thread.now) {
            found = true
            switch output {
            case .frames(let frames): seal(frames)
            case .data(let frame, let id):
                seal([frame])
                bulkPriority = priorities.removeValue(forKey: id) ?? .foreground
                switch replies.removeValue(forKey: id) {
                case let empty? where empty.answer == .data(length: 0): empty.dispose()
                case .file(let descriptor, let offset, let length):
                    bulkSend = .file(descriptor: descriptor, offset: Int(offset), left: length)
                    bulkLength = length
                case .buffer(let buffer):
                    bulkSend = .buffer(buffer, offset: 0)
                    bulkLength = buffer.count
                case .message, .missing, .busy, .refused, nil: refuse("an answer got lost", peer)
                }
            }
        }
        if found { touchSent() }
        return found
    }

    override func bulkSent() {
        if case .open(let peer) = phase { shared.traffic.count(peer) { $0.bytesOut += UInt64(bulkLength) } }
    }

    override func tick() {
        switch phase {
        case .open(let peer):
            checkSendStall()
            guard !isClosed else { return }
            if retire(isBusy: machine.isBusy) { return }
            run(machine.tick(now: thread.now), peer)
        case .greeting, .proving, .silent, .farewell:
            if shared.gate.isEvicted(ticket) {
                shared.count { $0.crowded += 1 }
                return close(.closed)
            }
            if thread.now - began >= shared.configuration.handshakeTimeout { close(.closed) }
        }
    }

    override func ended(_ error: PeerError) {
        shared.gate.leave(ticket, address, peer: counted)
        for directive in machine.close() {
            if case .cancelled(let id) = directive { shared.handler.cancelled(PeerResponder.ID(connection: key, request: id)) }
        }
        for reply in replies.values { reply.dispose() }
        replies = [:]
    }
}
