internal import ChunkModel
package import Gossip
package import MeshKeys

/// Gossip machines on a network of virtual time: datagrams are lost, delayed, reordered and doubled as a seed decides; sides of a
/// partition don't hear each other, deaf nodes miss some others; nodes crash and start again. The same seed gives the same history,
/// in every process.
package struct GossipSimulator {
    /// A way between two nodes.
    package struct Link: Sendable {
        /// Per mille of datagrams.
        package var loss = 0
        package var duplication = 0
        /// Nanoseconds from sending to arrival; a wide range reorders.
        package var delay: ClosedRange<UInt64> = 200_000...2_000_000

        package init(loss: Int = 0, duplication: Int = 0, delay: ClosedRange<UInt64> = 200_000...2_000_000) {
            (self.loss, self.duplication, self.delay) = (loss, duplication, delay)
        }
    }
    package struct Network: Sendable {
        /// Inside a site.
        package var lan: Link
        /// Between sites.
        package var wan = Link(delay: 10_000_000...15_000_000)
        /// Bytes a second that each node's port carries, each way for itself; `nil`: as many as there are.
        package var portBytesPerSecond: UInt64?
        /// The stream for large state exchanges works.
        package var hasStream: Bool
        /// Per mille of datagrams inside a site.
        package var loss: Int {
            get { lan.loss }
            set { lan.loss = newValue }
        }

        package init(
            loss: Int = 0, duplication: Int = 0, delay: ClosedRange<UInt64> = 200_000...2_000_000, hasStream: Bool = true,
            portBytesPerSecond: UInt64? = nil
        ) {
            lan = Link(loss: loss, duplication: duplication, delay: delay)
            self.hasStream = hasStream
            self.portBytesPerSecond = portBytesPerSecond
        }
    }
    package struct Node {
        package var machine: GossipMachine
        package var isRunning = true
        /// Nodes of different sides don't reach each other.
        package var side = 0
        /// Nodes whose datagrams and connections do not arrive here, though this one's arrive there.
        package var deafTo: Set<Int> = []
        package var address: NodeAddress
        var wakeAt: UInt64 = .max
        var boots: UInt64 = 0
        var sendsUntil: UInt64 = 0
        var receivesUntil: UInt64 = 0
        /// With the transport's seal and the headers of UDP and IP.
        package var bytesSent = 0
        package var datagramsSent = 0
        package var bytesReceived = 0
        /// Of state exchanges by stream, with what TCP adds.
        package var streamBytesSent = 0
        package var streams = 0
    }
    enum Event {
        case wake(Int)
        case datagram(to: Int, from: Int, [UInt8])
        case request(to: Int, from: Int, [UInt8])
        case reply(to: Int, from: Int, [UInt8])
        case streamFailed(at: Int, to: NodeAddress)
    }

    package private(set) var now: UInt64 = 1_000_000_000
    package var network: Network
    package var nodes: [Node] = []
    /// Events of all nodes with their time, those that `keeps` chooses.
    package private(set) var events: [(time: UInt64, node: Int, event: GossipEvent)] = []
    package var keeps: (GossipEvent) -> Bool = { _ in true }
    /// Datagrams and wake-ups so far.
    package private(set) var steps = 0
    private var queue = EventQueue<Event>()
    private var random: SplitMix64
    private let configuration: GossipConfiguration
    private var indexOf: [NodeAddress: Int] = [:]
    /// The site of each node.
    package let site: @Sendable (Int) -> String
    /// Bytes that left a site, datagrams and streams.
    package private(set) var bytesAcross: [String: Int] = [:]

    package init(
        count: Int, seed: UInt64, network: Network = Network(), configuration: GossipConfiguration = GossipConfiguration(),
        site: @escaping @Sendable (Int) -> String = { _ in "lab" }
    ) {
        self.site = site
        self.network = network
        self.configuration = configuration
        random = SplitMix64(seed: seed)
        for i in 0..<count {
            nodes.append(Node(machine: machine(i, boot: 0, at: Self.address(i)), address: Self.address(i)))
            indexOf[Self.address(i)] = i
        }
        for i in 0..<count { schedule(i) }
    }

    package static func address(_ i: Int) -> NodeAddress {
        // Four bytes are an address.
        NodeAddress(ip: [10, UInt8(i >> 16 & 255), UInt8(i >> 8 & 255), UInt8(i & 255)], port: 7946)!
    }
    package static func id(_ i: Int) -> NodeID {
        var generator = SplitMix64(seed: UInt64(i) &+ 77)
        // 32 bytes are an id.
        return NodeID((0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })!
    }

    private mutating func machine(
        _ i: Int, boot: UInt64, at address: NodeAddress, name: String? = nil, clockJump: Int64 = 0
    ) -> GossipMachine {
        let me = Member(
            id: Self.id(i), name: name ?? "node\(i)", site: site(i), address: address,
            incarnation: UInt64(max(1_700_000_000 + Int64(boot) * 100 + clockJump, 0)))
        return GossipMachine(me: me, configuration: configuration, seed: random.next(), now: now)
    }

    // MARK: What scenarios do

    /// Runs an input of one machine and carries out what it asks for.
    package mutating func with(_ i: Int, _ body: (inout GossipMachine, UInt64) -> [GossipDirective]) {
        perform(body(&nodes[i].machine, now), by: i)
        schedule(i)
    }
    package mutating func edit(_ i: Int, _ body: (inout GossipMachine) -> Void) {
        body(&nodes[i].machine)
        schedule(i)
    }
    package mutating func joinAll(by seed: Int = 0) {
        for i in nodes.indices where i != seed { with(i) { $0.join([Self.address(seed)], now: $1) } }
    }
    package mutating func crash(_ i: Int) { nodes[i].isRunning = false }

    /// Starts the node anew, as after a crash.
    /// - Parameters:
    ///   - seed: the node that it asks for the mesh; `nil`: nobody.
    ///   - clockJump: seconds by which its wall clock, which the incarnation is taken from, was moved meanwhile.
    ///   - address: where it listens from now on; `nil`: where it did.
    package mutating func restart(_ i: Int, joining seed: Int?, clockJump: Int64 = 0, at address: NodeAddress? = nil, name: String? = nil) {
        if let address {
            indexOf[nodes[i].address] = nil
            indexOf[address] = i
            nodes[i].address = address
        }
        nodes[i].boots += 1
        nodes[i].machine = machine(i, boot: nodes[i].boots, at: nodes[i].address, name: name, clockJump: clockJump)
        nodes[i].isRunning = true
        nodes[i].wakeAt = .max
        with(i) { machine, now in seed.map { machine.join([Self.address($0)], now: now) } ?? [] }
    }

    /// Another machine that has the identity of node `i`, as a cloned disk makes it.
    /// - Returns: its index.
    package mutating func clone(_ i: Int, joining seed: Int) -> Int {
        let clone = nodes.count
        let address = Self.address(clone)
        nodes.append(Node(machine: machine(i, boot: nodes[i].boots + 1, at: address, name: "clone of node\(i)"), address: address))
        indexOf[address] = clone
        with(clone) { $0.join([Self.address(seed)], now: $1) }
        return clone
    }

    package mutating func run(for time: UInt64) { run(until: now + time) }

    /// Runs until `condition` holds, looked at every `step`.
    /// - Returns: nanoseconds that it took, or `nil` if `limit` passed first.
    package mutating func run(within limit: UInt64, step: UInt64 = 50_000_000, until condition: (GossipSimulator) -> Bool) -> UInt64? {
        let start = now
        while !condition(self) {
            if now >= start + limit { return nil }
            run(until: now + step)
        }
        return now - start
    }

    package mutating func run(until end: UInt64) {
        while let next = queue.nextTime, next <= end, let (time, event) = queue.take() {
            now = max(now, time)
            steps += 1
            handle(event)
        }
        now = max(now, end)
    }

    package mutating func forgetEvents() { events = [] }

    package var running: [Int] { nodes.indices.filter { nodes[$0].isRunning } }

    /// All running nodes take exactly each other for alive.
    package func agree(_ group: [Int]? = nil) -> Bool {
        let group = group ?? running
        let ids = Set(group.map { Self.id($0) })
        return group.allSatisfy { i in
            let machine = nodes[i].machine
            return machine.liveCount == ids.count - 1
                && machine.members.values.allSatisfy { $0.state != .suspect && ($0.state == .alive) == ids.contains($0.id) }
        }
    }

    package func state(of i: Int, seenBy j: Int) -> MemberState? { nodes[j].machine.members[Self.id(i)]?.state }

    // MARK: The network

    private mutating func schedule(_ i: Int) {
        let at = max(nodes[i].machine.nextDeadline, now)
        guard nodes[i].isRunning, at < nodes[i].wakeAt else { return }
        nodes[i].wakeAt = at
        queue.put(.wake(i), at: at)
    }

    private mutating func perform(_ directives: [GossipDirective], by i: Int) {
        for directive in directives {
            switch directive {
            case .send(let address, let bytes):
                precondition(bytes.count <= GossipLimits.datagramBytes)
                let size = bytes.count + GossipOverhead.datagram
                nodes[i].bytesSent += size
                nodes[i].datagramsSent += 1
                guard let to = indexOf[address] else { continue }
                noteAcross(from: i, to: to, size)
                let link = link(i, to)
                for _ in 0..<(chance(link.duplication) ? 2 : 1) where !chance(link.loss) {
                    if let at = arrival(of: size, from: i, to: to, link) { queue.put(.datagram(to: to, from: i, bytes), at: at) }
                }
            case .exchangeState(_, let address, let bytes):
                nodes[i].streams += 1
                if network.hasStream, let to = indexOf[address], reaches(i, to), reaches(to, i) {
                    let trips = GossipOverhead.streamTrips(bytes.count + GossipOverhead.streamOpening) - 1
                    carry(bytes, from: i, to: to, trips: trips, opening: GossipOverhead.streamOpening) { .request(to: to, from: i, $0) }
                } else {
                    queue.put(.streamFailed(at: i, to: address), at: now + 100_000_000)
                }
            case .event(let event): if keeps(event) { events.append((now, i, event)) }
            }
        }
    }

    private mutating func carry(_ bytes: [UInt8], from i: Int, to: Int, trips: Int, opening: Int, _ event: ([UInt8]) -> Event) {
        let link = link(i, to)
        let size = GossipOverhead.stream(bytes.count + opening)
        nodes[i].streamBytesSent += size
        noteAcross(from: i, to: to, size)
        let handshake = UInt64(2 * max(trips, 0)) * delay(link)
        guard let at = arrival(of: size, from: i, to: to, link, afterwards: handshake, isStream: true) else { return }
        queue.put(event(bytes), at: at)
    }

    /// When `size` bytes are there, through the sender's port and the receiver's; `nil` when a port's buffer is full.
    private mutating func arrival(
        of size: Int, from i: Int, to: Int, _ link: Link, afterwards: UInt64 = 0, isStream: Bool = false
    ) -> UInt64? {
        let delay = delay(link)
        guard let rate = network.portBytesPerSecond else { return now + afterwards + delay }
        let time = UInt64(size) * 1_000_000_000 / max(rate, 1)
        let sent = max(nodes[i].sendsUntil, now + afterwards) + time
        let there = max(nodes[to].receivesUntil + time, sent + delay)
        if !isStream, max(nodes[i].sendsUntil, now) - now > GossipOverhead.portBuffer || there - sent - delay > GossipOverhead.portBuffer {
            return nil
        }
        nodes[i].sendsUntil = sent
        nodes[to].receivesUntil = there
        return there
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .wake(let i):
            guard nodes[i].isRunning, nodes[i].wakeAt <= now else { return }
            nodes[i].wakeAt = .max
            with(i) { $0.tick(now: $1) }
        case .datagram(let to, let from, let bytes):
            // What was sent before a crash still arrives.
            guard nodes[to].isRunning, hears(to, from) else { return }
            nodes[to].bytesReceived += bytes.count + GossipOverhead.datagram
            let address = nodes[from].address
            with(to) { $0.receive(bytes, from: address, now: $1) }
        case .request(let to, let from, let bytes):
            guard reaches(from, to), reaches(to, from) else { return }
            let (reply, directives) = nodes[to].machine.receiveStateRequest(bytes, from: nodes[from].address, now: now)
            perform(directives, by: to)
            schedule(to)
            carry(reply, from: to, to: from, trips: GossipOverhead.streamTrips(reply.count) - 1, opening: 0) {
                .reply(to: from, from: to, $0)
            }
        case .reply(let to, let from, let bytes):
            let address = nodes[from].address
            if reaches(from, to) { with(to) { $0.receiveStateReply(bytes, from: address, now: $1) } }
        case .streamFailed(let i, let address):
            if nodes[i].isRunning { with(i) { $0.stateExchangeFailed(at: address, now: $1) } }
        }
    }

    private mutating func noteAcross(from i: Int, to j: Int, _ bytes: Int) {
        if site(i) != site(j) { bytesAcross[site(i), default: 0] += bytes }
    }

    private func link(_ a: Int, _ b: Int) -> Link { site(a) == site(b) ? network.lan : network.wan }
    private func hears(_ a: Int, _ b: Int) -> Bool { nodes[a].side == nodes[b].side && !nodes[a].deafTo.contains(b) }
    private func reaches(_ a: Int, _ b: Int) -> Bool { nodes[a].isRunning && nodes[b].isRunning && hears(b, a) }
    private mutating func chance(_ perMille: Int) -> Bool { perMille > 0 && Int.random(in: 0..<1_000, using: &random) < perMille }
    private mutating func delay(_ link: Link) -> UInt64 { UInt64.random(in: link.delay, using: &random) }
}
