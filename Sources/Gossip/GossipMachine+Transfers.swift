internal import ChunkModel
internal import MeshKeys

/// A state message that was sent in fragments, kept for a while for those that get lost.
struct OutgoingTransfer: Sendable {
    let to: NodeAddress
    let bytes: [UInt8]
    let expiry: UInt64
}

struct TransferKey: Hashable, Comparable, Sendable {
    let sender: NodeID
    let number: UInt64

    static func < (a: TransferKey, b: TransferKey) -> Bool { (a.sender, a.number) < (b.sender, b.number) }
}

/// A state message of which fragments arrived.
struct IncomingTransfer: Sendable {
    /// Empty once the message is complete: then the entry only keeps late copies from starting it again.
    var fragments: [[UInt8]?]
    var missing: Int
    let from: NodeAddress
    /// When missing fragments are asked for.
    var wantAt: UInt64
    var expiry: UInt64
}

extension GossipLimits {
    static let fragmentBytes = 1_150
    static let fragments = 57
    /// The largest state message that datagrams carry.
    static let fragmentedBytes = fragmentBytes * fragments
    static let fragmentRetry: UInt64 = 150 * .millisecond
}

extension GossipMachine {
    /// A message too large for fragments is dropped: who needs it asks by stream.
    mutating func sendFragments(of bytes: [UInt8], to address: NodeAddress, _ now: UInt64) {
        let count = max(1, (bytes.count + GossipLimits.fragmentBytes - 1) / GossipLimits.fragmentBytes)
        guard count <= GossipLimits.fragments else {
            counters.transfersAbandoned += 1
            return
        }
        let number = random.next()
        if count > 1 {
            outgoing = outgoing.filter { now < $0.value.expiry }
            if outgoing.count >= GossipLimits.transfers,
                let oldest = outgoing.min(by: { ($0.value.expiry, $0.key) < ($1.value.expiry, $1.key) })?.key
            {
                outgoing[oldest] = nil
                counters.transfersAbandoned += 1
            }
            outgoing[number] = OutgoingTransfer(to: address, bytes: bytes, expiry: now &+ GossipLimits.transferTime)
        }
        for index in 0..<count { sendFragment(index, of: count, number, bytes, to: address) }
    }

    private mutating func sendFragment(_ index: Int, of count: Int, _ number: UInt64, _ bytes: [UInt8], to address: NodeAddress) {
        let start = index * GossipLimits.fragmentBytes
        var writer = WireWriter()
        writer.byte(MessageCode.fragment.rawValue)
        writer.fixed64(number)
        writer.number(index)
        writer.number(count)
        writer.string(Array(bytes[start..<min(start + GossipLimits.fragmentBytes, bytes.count)]))
        send([writer.bytes], to: address, about: nil, gossip: false)
    }

    mutating func receiveFragment(_ reader: inout WireReader, _ sender: Sender, _ now: UInt64) throws {
        let number = try reader.fixed64()
        let index = try reader.number(upTo: GossipLimits.fragments - 1)
        let count = try reader.number(upTo: GossipLimits.fragments)
        let bytes = try reader.string(upTo: GossipLimits.fragmentBytes)
        guard index < count else { throw WireError() }
        if count == 1 { return receiveState(bytes, sender, now) }
        let key = TransferKey(sender: sender.id, number: number)
        if incoming[key] == nil {
            if incoming.count >= GossipLimits.transfers,
                let oldest = incoming.min(by: { ($0.value.expiry, $0.key) < ($1.value.expiry, $1.key) })?.key
            {
                incoming[oldest] = nil
                counters.transfersAbandoned += 1
            }
            incoming[key] = IncomingTransfer(
                fragments: Array(repeating: nil, count: count), missing: count, from: sender.address,
                wantAt: now &+ GossipLimits.fragmentRetry,
                expiry: now &+ GossipLimits.transferTime)
        }
        guard let transfer = incoming[key], transfer.fragments.count == count, transfer.fragments[index] == nil else { return }
        incoming[key]?.fragments[index] = bytes
        incoming[key]?.missing -= 1
        incoming[key]?.wantAt = now &+ GossipLimits.fragmentRetry
        guard transfer.missing == 1, let fragments = incoming[key]?.fragments else { return }
        incoming[key]?.fragments = []
        incoming[key]?.missing = 0
        incoming[key]?.wantAt = transfer.expiry
        receiveState(fragments.flatMap { $0 ?? [] }, sender, now)
    }

    mutating func receiveFragmentWanted(_ reader: inout WireReader, _ sender: Sender) throws {
        let number = try reader.fixed64()
        var indices: Set<Int> = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.fragments)) {
            indices.insert(try reader.number(upTo: GossipLimits.fragments - 1))
        }
        guard let transfer = outgoing[number], transfer.to == sender.address else { return }
        let count = (transfer.bytes.count + GossipLimits.fragmentBytes - 1) / GossipLimits.fragmentBytes
        for index in indices.sorted() where index < count { sendFragment(index, of: count, number, transfer.bytes, to: transfer.to) }
    }

    /// Asks for what is missing, and gives up what took too long.
    mutating func tickTransfers(_ now: UInt64) {
        for key in Self.due(incoming, now, \.wantAt) {
            guard let transfer = incoming[key] else { continue }
            if now >= transfer.expiry {
                incoming[key] = nil
                if transfer.missing > 0 { counters.transfersAbandoned += 1 }
                continue
            }
            incoming[key]?.wantAt = min(now &+ GossipLimits.fragmentRetry, transfer.expiry)
            let missing = transfer.fragments.indices.filter { transfer.fragments[$0] == nil }
            var writer = WireWriter()
            writer.byte(MessageCode.fragmentWanted.rawValue)
            writer.fixed64(key.number)
            writer.number(missing.count)
            for index in missing { writer.number(index) }
            send([writer.bytes], to: transfer.from, about: nil, gossip: false)
        }
    }
}
