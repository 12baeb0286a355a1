internal import CLinux
internal import ChunkModel
internal import Glibc
internal import Logging
internal import MeshKeys
internal import PeerProtocol

/// The one connection that this node dialled to a peer.
final class ClientConnection: Connection {
    private enum Phase {
        /// Becomes `greeting` when the socket connects.
        case connecting
        /// Becomes `open` with the server's answer.
        case greeting(ClientHandshake)
        case open
    }

    private struct Receiving {
        let buffer: ChunkBuffer
        let length: Int
    }

    let peer: NodeID
    let address: NodeAddress
    private var phase = Phase.connecting
    private var phaseBegan: UInt64
    private var machine: ClientConnectionMachine
    private var callbacks: [UInt64: @Sendable (PeerResponse) -> Void] = [:]
    private var receiving: Receiving?
    /// Requests that somebody waits for.
    private var readers: Set<UInt64> = []

    init(fd: Int32, peer: NodeID, address: NodeAddress, thread: IOThread) {
        (self.peer, self.address) = (peer, address)
        phaseBegan = thread.now
        machine = ClientConnectionMachine(times: thread.shared.configuration.times, now: thread.now)
        super.init(fd: fd, thread: thread)
    }

    func submit(
        _ token: UInt64, _ request: PeerRequest, deadline: UInt64, onEvent: @escaping @Sendable (PeerResponse) -> Void
    ) {
        callbacks[token] = onEvent
        if request.priority == .foreground, !request.expectsMessage { readers.insert(token) }
        thread.owners[token] = self
        shared.traffic.count(peer) { $0.requestsSent += 1 }
        run(machine.submit(token: token, request, deadline: deadline, now: thread.now))
        wantsOutput = true
        // What can go out at once saves its request a round through the queue, and wakes the peer earlier.
        if case .open = phase { thread.enqueue(self) }
    }

    func cancel(_ token: UInt64) {
        run(machine.cancel(token: token))
        wantsOutput = true
        thread.enqueue(self)
    }

    override var isBusy: Bool { if case .open = phase { machine.isBusy } else { true } }

    override var provenPeer: NodeID? { peer }
    override var receivesSealed: Bool { receiving != nil && session?.sealsBulk == true }

    override var bulkTarget: UnsafeMutableRawBufferPointer? {
        if receivesSealed { return nil }
        return receiving.map { UnsafeMutableRawBufferPointer(start: $0.buffer.base + $0.buffer.count, count: $0.length - $0.buffer.count) }
    }

    /// The answers come in an order of the server's: all are as urgent as the most urgent one.
    override var receivePriority: FetchPriority { readers.isEmpty ? .prefetch : .foreground }

    /// The server is not to blame.
    override func receiveWasHeld() { machine.dataProgress(now: thread.now) }

    override func bulkArrived(_ count: Int) {
        guard let receiving else { return }
        receiving.buffer.count += count
        machine.dataProgress(now: thread.now)
        if receiving.buffer.count == receiving.length { finishData(receiving.buffer) }
    }

    private func finishData(_ buffer: ChunkBuffer) {
        receiving = nil
        shared.traffic.count(peer) { $0.bytesIn += UInt64(buffer.count) }
        for directive in machine.dataFinished(now: thread.now) {
            guard case .deliverData(let token) = directive else { continue }
            finish(token, .data(buffer))
        }
        wantsOutput = true
    }

    override func becameWritable() {
        guard case .connecting = phase else { return }
        let error = Socket.pendingError(fd)
        guard error == 0 else { return close(.connectFailed("\(address): \(Socket.text(error))")) }
        let handshake = ClientHandshake(
            identity: shared.identity, ring: shared.ring, expected: peer.isUnknown ? nil : peer, ephemeralSecret: Sodium.randomBytes(32),
            sealsBulk: shared.configuration.sealsBulk, key: shared.greeting(for: peer))
        (phase, phaseBegan) = (.greeting(handshake), thread.now)
        out += handshake.hello
        wantsOutput = true
    }

    override func process() {
        while !isClosed {
            switch phase {
            case .connecting: return
            case .greeting(var handshake):
                guard reader.buffered >= Handshake.replyBytes else { return }
                do throws(HandshakeError) {
                    let (session, proof) = try handshake.receive(Array(reader.take(upTo: Handshake.replyBytes)))
                    self.session = session
                    out += proof
                } catch {
                    shared.logger.warning(
                        "the handshake with a peer failed", metadata: ["address": "\(address)", "reason": "\(error)"])
                    return close(.handshakeFailed(error.description))
                }
                let roundTrip = thread.now - phaseBegan
                shared.traffic.count(peer) { $0.roundTrip = .nanoseconds(Int64(clamping: roundTrip)) }
                phase = .open
                machine.opened(now: thread.now)
                wantsOutput = true
            case .open: guard step() else { return }
            }
        }
    }

    /// Takes one frame or what stands of bulk bytes; `false` when more must come in first.
    private func step() -> Bool {
        if let receiving, receivesSealed { return stepSealed(receiving) }
        if let receiving {
            let bytes = reader.take(upTo: receiving.length - receiving.buffer.count)
            guard !bytes.isEmpty else { return false }
            shared.receiveLimit.charge(bytes.count)
            bytes.withUnsafeBytes {
                (receiving.buffer.base + receiving.buffer.count).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
            }
            bulkArrived(bytes.count)
            return true
        }
        do throws(ProtocolViolation) {
            guard let frame = try session?.receiving.open(&reader) else { return false }
            run(machine.receive(frame, now: thread.now))
        } catch {
            drop(.protocolViolation(error.description))
        }
        return true
    }

    /// Opens one piece of sealed bulk bytes straight into its place.
    private func stepSealed(_ receiving: Receiving) -> Bool {
        let room = UnsafeMutableRawBufferPointer(
            start: receiving.buffer.base + receiving.buffer.count, count: receiving.length - receiving.buffer.count)
        do throws(ProtocolViolation) {
            guard let count = try session?.receiving.openBulk(&reader, into: room) else { return false }
            bulkArrived(count)
        } catch {
            drop(.protocolViolation(error.description))
        }
        return true
    }

    override func refill() -> Bool {
        guard case .open = phase else { return false }
        var found = false
        while out.count < ExchangeConfiguration.writeBatchBytes, let frames = machine.nextFrames(now: thread.now) {
            seal(frames)
            found = true
        }
        return found
    }

    override func tick() {
        switch phase {
        case .connecting:
            if thread.now - phaseBegan >= shared.configuration.connectTimeout {
                return close(.connectFailed("\(address): no answer in time"))
            }
        case .greeting:
            if thread.now - phaseBegan >= shared.configuration.handshakeTimeout {
                return close(.handshakeFailed("\(address) did not answer it; check that both nodes have the same mesh.keyFile"))
            }
        case .open:
            checkSendStall()
            if !isClosed, retire(isBusy: machine.isBusy) { return }
        }
        guard !isClosed else { return }
        run(machine.tick(now: thread.now))
        wantsOutput = true
    }

    private func run(_ directives: [ClientConnectionMachine.Directive]) {
        for directive in directives {
            switch directive {
            case .pending(let token): callbacks[token]?(.pending)
            case .finish(let token, let outcome): finish(token, response(outcome))
            case .beginData(let length):
                receiving = Receiving(buffer: shared.pool.take(capacity: length), length: length)
                if length == 0, let buffer = receiving?.buffer { finishData(buffer) }
            case .deliverData(let token): finish(token, .failed(.closed))
            case .drop(let error): drop(error)
            }
        }
    }

    private func response(_ outcome: ClientConnectionMachine.Outcome) -> PeerResponse {
        switch outcome {
        case .missing: return .missing
        case .busy(let milliseconds): return .busy(retryAfter: .milliseconds(Int64(milliseconds)))
        case .refused(let reason): return .refused(reason)
        case .message(let bytes):
            shared.traffic.count(peer) { $0.bytesIn += UInt64(bytes.count) }
            return .message(bytes)
        case .failed(let error): return .failed(error)
        }
    }

    private func finish(_ token: UInt64, _ response: PeerResponse) {
        thread.owners[token] = nil
        readers.remove(token)
        guard let callback = callbacks.removeValue(forKey: token) else { return }
        // Nobody may live where a node only looks for others.
        if case .failed(let error) = response, !peer.isUnknown {
            shared.traffic.count(peer) { traffic in
                switch error {
                case .timedOut, .stalled: traffic.timeouts += 1
                case .cancelled: break
                default: traffic.failures += 1
                }
            }
        }
        callback(response)
    }

    private func drop(_ error: PeerError) {
        if error != .closed {
            shared.logger.warning(
                "the connection to a peer is dropped", metadata: ["peer": "\(peer)", "address": "\(address)", "reason": "\(error)"])
        }
        close(error)
    }

    override func ended(_ error: PeerError) {
        receiving = nil
        if case .greeting = phase { shared.noteUnanswered(peer) }
        run(machine.close(error))
    }
}
