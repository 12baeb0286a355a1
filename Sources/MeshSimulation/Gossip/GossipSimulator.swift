internal import ChunkModel
internal import Gossip
internal import MeshKeys

/// Gossip machines on a network of virtual time: datagrams are lost, delayed, reordered and doubled as a seed decides; sides of a
/// partition don't hear each other; nodes crash and start again.
struct GossipSimulator {
    struct Network {
        /// Per mille of datagrams.
        var loss = 0
        var duplication = 0
        /// Nanoseconds from sending to arrival; a wide range reorders.
        var delay: ClosedRange<UInt64> = 200_000...2_000_000
        /// The stream for large state exchanges works.
        var hasStream = true
    }
    struct Node {
        var machine: GossipMachine
        var isRunning = true
        var side = 0
        var wakeAt: UInt64 = .max
        var boots: UInt64 = 0
        var bytesSent = 0
        var datagramsSent = 0
    }
    enum Event {
        case wake(Int)
        case datagram(to: Int, from: Int, [UInt8])
        case request(to: Int, from: Int, [UInt8])
        case reply(to: Int, from: Int, [UInt8])
        case streamFailed(at: Int, to: Int)
    }

    private(set) var now: UInt64 = 1_000_000_000
    var network: Network
    var nodes: [Node] = []
    /// Every event of every node, with its time.
    private(set) var events: [(time: UInt64, node: Int, event: GossipEvent)] = []
    private var queue = EventQueue<Event>()
    private var random: SplitMix64
    private let configuration: GossipConfiguration
    /// The site of each node.
    let site: @Sendable (Int) -> String
    /// Bytes that left a site, datagrams and streams.
    private(set) var bytesAcross: [String: Int] = [:]

    init(
        count: Int, seed: UInt64, network: Network = Network(), configuration: GossipConfiguration = GossipConfiguration(),
        site: @escaping @Sendable (Int) -> String = { _ in "lab" }
    ) {
        self.site = site
        self.network = network
        self.configuration = configuration
        random = SplitMix64(seed: seed)
        for i in 0..<count { nodes.append(Node(machine: machine(i, boot: 0))) }
        for i in 0..<count { schedule(i) }
    }

    static func address(_ i: Int) -> NodeAddress { NodeAddress(ip: [10, 0, UInt8(i >> 8), UInt8(i & 255)], port: 7946)! }
    static func id(_ i: Int) -> NodeID {
        var generator = SplitMix64(seed: UInt64(i) &+ 77)
        return NodeID((0..<32).map { _ in UInt8.random(in: 0...255, using: &generator) })!
    }
    static func index(of address: NodeAddress) -> Int { Int(address.ip[2]) << 8 | Int(address.ip[3]) }

    private mutating func machine(_ i: Int, boot: UInt64) -> GossipMachine {
        let me = Member(id: Self.id(i), name: "node\(i)", site: site(i), address: Self.address(i), incarnation: 1_700_000_000 + boot * 100)
        return GossipMachine(me: me, configuration: configuration, seed: random.next(), now: now)
    }

    // MARK: What tests do

    /// Runs an input of one machine and carries out what it asks for.
    mutating func with(_ i: Int, _ body: (inout GossipMachine, UInt64) -> [GossipDirective]) {
        perform(body(&nodes[i].machine, now), by: i)
        schedule(i)
    }
    mutating func edit(_ i: Int, _ body: (inout GossipMachine) -> Void) {
        body(&nodes[i].machine)
        schedule(i)
    }
    mutating func joinAll(by seed: Int = 0) {
        for i in nodes.indices where i != seed { with(i) { $0.join([Self.address(seed)], now: $1) } }
    }
    mutating func crash(_ i: Int) { nodes[i].isRunning = false }
    mutating func restart(_ i: Int, joining seed: Int) {
        nodes[i].boots += 1
        nodes[i].machine = machine(i, boot: nodes[i].boots)
        nodes[i].isRunning = true
        nodes[i].wakeAt = .max
        with(i) { $0.join([Self.address(seed)], now: $1) }
    }

    mutating func run(for time: UInt64) { run(until: now + time) { _ in false } }

    /// Runs until `condition` holds, looked at every `step`.
    /// - Returns: nanoseconds that it took, or `nil` if `limit` passed first.
    mutating func run(within limit: UInt64, step: UInt64 = 50_000_000, until condition: (GossipSimulator) -> Bool) -> UInt64? {
        let start = now
        while !condition(self) {
            if now >= start + limit { return nil }
            run(until: now + step) { _ in false }
        }
        return now - start
    }

    private mutating func run(until end: UInt64, _ stop: (GossipSimulator) -> Bool) {
        while let next = queue.nextTime, next <= end, let (time, event) = queue.take() {
            now = max(now, time)
            handle(event)
        }
        now = end
    }

    var running: [Int] { nodes.indices.filter { nodes[$0].isRunning } }

    /// All running nodes take exactly each other for alive.
    func agree(_ group: [Int]? = nil) -> Bool {
        let group = group ?? running
        let ids = Set(group.map { Self.id($0) })
        return group.allSatisfy { i in
            var others = ids
            others.remove(Self.id(i))
            return Set(nodes[i].machine.members.values.lazy.filter { $0.state == .alive }.map(\.id)) == others
                && nodes[i].machine.members.values.allSatisfy { $0.state != .suspect }
        }
    }

    func state(of i: Int, seenBy j: Int) -> MemberState? { nodes[j].machine.members[Self.id(i)]?.state }

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
                nodes[i].bytesSent += bytes.count + 28 + 40 + 17
                nodes[i].datagramsSent += 1
                let to = Self.index(of: address)
                noteAcross(from: i, to: to, bytes.count + 28 + 40 + 17)
                for _ in 0..<(chance(network.duplication) ? 2 : 1) where !chance(network.loss) {
                    queue.put(.datagram(to: to, from: i, bytes), at: now + delay())
                }
            case .exchangeState(_, let address, let bytes):
                let to = Self.index(of: address)
                if network.hasStream, reaches(i, to) {
                    noteAcross(from: i, to: to, bytes.count + Self.streamOverhead)
                    queue.put(.request(to: to, from: i, bytes), at: now + 3 * delay())
                } else {
                    queue.put(.streamFailed(at: i, to: to), at: now + 100_000_000)
                }
            case .event(let event): events.append((now, i, event))
            }
        }
    }

    private mutating func handle(_ event: Event) {
        switch event {
        case .wake(let i):
            guard nodes[i].isRunning, nodes[i].wakeAt <= now else { return }
            nodes[i].wakeAt = .max
            with(i) { $0.tick(now: $1) }
        case .datagram(let to, let from, let bytes):
            // What was sent before a crash still arrives.
            if nodes.indices.contains(to), nodes[to].isRunning, nodes[to].side == nodes[from].side {
                with(to) { $0.receive(bytes, from: Self.address(from), now: $1) }
            }
        case .request(let to, let from, let bytes):
            guard reaches(from, to) else { return }
            let (reply, directives) = nodes[to].machine.receiveStateRequest(bytes, from: Self.address(from), now: now)
            perform(directives, by: to)
            schedule(to)
            noteAcross(from: to, to: from, reply.count + Self.streamOverhead)
            queue.put(.reply(to: from, from: to, reply), at: now + delay())
        case .reply(let to, let from, let bytes):
            if reaches(from, to) { with(to) { $0.receiveStateReply(bytes, from: Self.address(from), now: $1) } }
        case .streamFailed(let i, let to):
            if nodes[i].isRunning { with(i) { $0.stateExchangeFailed(at: Self.address(to), now: $1) } }
        }
    }

    /// What a connection costs beside the message: handshake, heads of frames and packets, roughly.
    private static let streamOverhead = 400

    private mutating func noteAcross(from i: Int, to j: Int, _ bytes: Int) {
        if nodes.indices.contains(j), site(i) != site(j) { bytesAcross[site(i), default: 0] += bytes }
    }

    private func reaches(_ a: Int, _ b: Int) -> Bool {
        nodes.indices.contains(b) && nodes[a].isRunning && nodes[b].isRunning && nodes[a].side == nodes[b].side
    }
    private mutating func chance(_ perMille: Int) -> Bool { perMille > 0 && Int.random(in: 0..<1_000, using: &random) < perMille }
    private mutating func delay() -> UInt64 { UInt64.random(in: network.delay, using: &random) }
}
