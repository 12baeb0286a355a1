public import ChunkModel
public import MeshKeys

/// Decides where each wanted chunk comes from: a peer that holds it, the owner that fetches it once for the site, or upstream.
///
/// A value without I/O or clock: events go in with the time (counted from any fixed moment), actions come out, and the shell
/// carries them out in order and reports how they ended. Single flight in the node follows from there being one `Want` for a
/// chunk; single flight at the site from all nodes asking the same owner.
///
/// The way of one want: a holder (the one that will probably answer first) → who claims to be fetching it → its owner by
/// rendezvous hashing, which may be this node, and who asks another site that has it before upstream → the next in the ranking when
/// an owner fails → after all have failed, again with growing pauses, and then the failure is reported.
public struct FetchPlanner: Sendable {
    /// Every bound of the planner.
    public struct Limits: Sendable {
        /// Wants of this node at one time; further ones are refused with `busy` by `want`.
        public var localWants = 8192
        /// Wants that exist for peers alone; a peer beyond that is told to come back.
        public var peerWants = 2048
        /// Chunks asked of one holder and not yet here: enough to keep a LAN busy, few enough to spread over all holders.
        public var transfersPerPeer = 4
        /// Chunks for which we wait at one owner.
        public var waitsPerPeer = 192
        /// Requests to upstream beyond `upstreamPlaces` for chunks that somebody waits for: those must not stand behind prefetches.
        public var foregroundUpstreams = 4
        /// Wants looked at in one pass for an idle source; the rest has its turn when something ends.
        public var wantsPerPass = 512
        /// A foreground read asks a second holder after this long at first, later after a multiple of what peers take.
        public var firstHedge: Duration = .milliseconds(50)
        /// At most this many wants are left when the tail of a prefetch is asked twice too.
        public var endgameWants = 3
        /// A source that failed for a chunk is left out for this long.
        public var passOver: Duration = .seconds(10)
        /// A node that does not take itself for the owner is asked again after this, each time after twice as long, so often:
        /// it has not yet noticed what we have, a dead owner mostly, and asking yet another node would fetch twice.
        public var notOwnerPause: Duration = .milliseconds(50)
        public var notOwnerRetries = 5
        /// A node that may not fetch for an flist is not asked again for it before this.
        public var declinedPause: Duration = .seconds(1)
        /// A peer that could not be reached rests this long times the failures in a row, at most five times.
        public var peerRest: Duration = .seconds(2)
        /// Wrong bytes from one peer until it is shunned, and for how long.
        public var offences = 3
        public var shun: Duration = .seconds(30)
        /// A peer that has been busy this long without sending anything counts as failed; a foreground read never waits for a
        /// busy owner.
        public var busyPatience: Duration = .seconds(10)
        /// How long an owner may say "pending" before the next one is asked: foreground; and everything else, counted from the
        /// last chunk that it sent, since on a slow line the queue at a healthy owner may be much longer than this.
        public var foregroundPatience: Duration = .seconds(20)
        public var patience: Duration = .seconds(180)
        /// Rounds through all sources before a foreground read fails, and before anything else does (some 30 s in all); the pause
        /// after the first, each further one twice as long.
        public var rounds = 3
        public var backgroundRounds = 6
        public var roundPause: Duration = .seconds(1)
        /// Ways to upstream that are tried in one round: when the hub is down, asking every node would not help.
        public var upstreamsPerRound = 3
        /// Answers "upstream does not have it" that are believed; then only our own upstream is still asked.
        public var missingAnswers = 2
        /// Holders compared for one chunk, and lines that one want stands in.
        public var holdersConsidered = 16
        public var linesPerWant = 4
        /// Nodes that one node hands a chunk on to, as long as few hold it.
        public var relayFanOut = 2
        /// With so many holders, and one for so many that are after a chunk, there are enough to go straight to one of them.
        public var plentyOfHolders = 16
        public var seekersPerHolder = 4
        /// Nodes that wait for one chunk to be handed on; a further one is told to look elsewhere.
        public var relayWaiters = 32
        /// Who would not hand a chunk on is left out for it for this long; who is not after the flist's chunks, for all of them.
        public var relayPassOver: Duration = .seconds(2)
        public var notSeekingPause: Duration = .milliseconds(300)
        /// With nothing arriving for this long, and for so many times what lies between two arrivals otherwise, chunks that were to be
        /// handed on are asked of whoever holds them.
        public var relayPatience: Duration = .milliseconds(300)
        public var relayIntervals = 8
        /// A want that stands in line is looked at again after this long: somebody else may hold the chunk meanwhile.
        public var lookAgain: Duration = .seconds(5)
        /// Failures of this site's owners with other sites in one round until a want goes upstream; what is known of other sites may be old.
        public var siteFailures = 2
        /// A gateway of another site that has not sent the chunk after this, nor any other, is left alone for `costMemory` where there is
        /// an upstream; sooner when a reader waits.
        public var sitePatience: Duration = .seconds(10)
        public var foregroundSitePatience: Duration = .seconds(5)
        /// Between two looks whether it is known by now what other sites hold.
        public var sitesPause: Duration = .milliseconds(50)
        /// What a chunk took from upstream or from another site is believed for this long, then it is tried anew.
        public var costMemory: Duration = .seconds(60)
        public init() {}
    }

    /// How a want of a peer is answered at once.
    public enum PeerWantAnswer: Sendable, Equatable {
        /// It is told when the chunk arrives, or fails.
        case joined
        case busy
        /// We wait for it at another owner ourselves.
        case notOwner
        /// Nothing that this node may open leads to that chunk.
        case declined
    }

    struct Declined: Hashable, Sendable {
        let node: NodeID
        let flist: FlistDigest?
    }

    public let me: NodeID
    public let limits: Limits
    /// Requests to upstream at one time; the shell shares the site's limit out among the nodes that fetch.
    public private(set) var upstreamPlaces: Int
    public private(set) var lineGate = LineGate.open

    var wants: [ChunkID: Want] = [:]
    var loads: [NodeID: PeerLoad] = [:]
    var declined: [Declined: Duration] = [:]
    var tags: [RequestTag: ChunkID] = [:]
    /// Wants for which a source is to be looked for.
    var ready = Line()
    /// Wants in line for upstream.
    var upstreamLine = Line()
    var upstreamActive: Set<ChunkID> = []
    var costs = UpstreamCost()
    /// Peers at which a place has become free, whose lines are to be served.
    var freed: [NodeID] = []
    /// Who is after the chunks of an flist, as of the current pass.
    var passSeekers: [FlistDigest: Seekers] = [:]
    /// Nodes that turned out not to be after an flist's chunks, until when that is believed.
    var notSeeking: [Declined: Duration] = [:]
    /// When a peer last sent a chunk (or waits began to count), and the smoothed time between two of them.
    var lastArrival: Duration = .zero
    var arrivalInterval: Duration = .zero
    /// Requests to hand a chunk on that are under way.
    var relays = 0
    /// The earliest end of a rest or of a peer's "busy", since the last `tick`.
    var wakeAt: Duration?
    private(set) var counts: [Int] = [0, 0, 0]
    private var nextTag: UInt64 = 1
    private var nextTicket: UInt64 = 1
    private var nextAge: UInt64 = 1
    var peerOnlyWants = 0

    public init(me: NodeID, limits: Limits = Limits(), upstreamPlaces: Int = 4) {
        (self.me, self.limits) = (me, limits)
        self.upstreamPlaces = max(1, upstreamPlaces)
    }

    // MARK: Wanting

    /// Somebody in this node waits for `id`. Every call is matched by one `abandon`, unless the chunk arrives or fails first.
    ///
    /// - Returns: `nil` when this node already waits for `limits.localWants` chunks.
    public mutating func want(
        _ id: ChunkID, flist: FlistDigest?, priority: FetchPriority, now: Duration, view: some MeshView
    ) -> [FetchAction]? {
        guard wants[id] != nil || wants.count - peerOnlyWants < limits.localWants else { return nil }
        if let known = wants[id], known.localWaiters == 0 { peerOnlyWants -= 1 }
        enter(id, flist: flist, priority: priority) { $0.localWaiters += 1 }
        var actions = raise(id, to: priority, now: now)
        actions += pump(now: now, view: view)
        return actions
    }

    /// A peer asks this node, as the owner, for a chunk that is not in the store.
    public mutating func wantForPeer(
        _ id: ChunkID, flist: FlistDigest?, priority: FetchPriority, now: Duration, view: some MeshView
    ) -> (answer: PeerWantAnswer, actions: [FetchAction]) {
        let known = wants[id]
        if known?.isAtUpstream != true {
            // Who waits takes on no waiter. So along any chain of waiting nodes the times at which each was taken on grow, and a
            // chain cannot close to a circle, whatever each node believes about the mesh.
            if known?.waitsAtPeer == true { return (.notOwner, []) }
            // Nor does who cannot fetch it, also when it wants it itself: it would have to ask one that perhaps waits here.
            guard view.owners(for: flist).contains(me) || view.siteOwners(for: flist).contains(me) else { return (.declined, []) }
        }
        if known == nil {
            guard peerOnlyWants < limits.peerWants else { return (.busy, []) }
            peerOnlyWants += 1
        }
        enter(id, flist: flist, priority: priority) { $0.peerWaiters += 1 }
        var actions = raise(id, to: priority, now: now)
        actions += pump(now: now, view: view)
        return (.joined, actions)
    }

    /// One waiter gave up; not to be called for those that `fail` or `failPeers` has ended. When it was the last, requests to peers are cancelled; a transfer from upstream that has begun goes on,
    /// since its bytes are paid for.
    ///
    /// - Parameter relayed: the peer had asked by `relay`.
    public mutating func abandon(
        _ id: ChunkID, forPeer: Bool, relayed: Bool = false, now: Duration, view: some MeshView
    ) -> [FetchAction] {
        guard var want = wants[id] else { return [] }
        if forPeer {
            want.peerWaiters = max(0, want.peerWaiters - 1)
            want.relayWaiters = min(max(0, want.relayWaiters - (relayed ? 1 : 0)), want.peerWaiters)
        } else if want.localWaiters > 0 {
            want.localWaiters -= 1
            if want.localWaiters == 0 { peerOnlyWants += 1 }
        }
        wants[id] = want
        guard !want.isWaitedFor, !upstreamActive.contains(id) else { return [] }
        return forget(id) + pump(now: now, view: view)
    }

    /// The chunk is in the store, or in hand, from wherever.
    public mutating func arrived(_ id: ChunkID, now: Duration, view: some MeshView) -> [FetchAction] {
        guard wants[id] != nil else { return [] }
        if upstreamActive.contains(id) { costs.end(id, arrived: true, active: upstreamActive.count, now: now) }
        return forget(id) + pump(now: now, view: view)
    }

    /// Sets the share of the site's upstream requests that this node may use.
    public mutating func setUpstreamPlaces(_ places: Int, now: Duration, view: some MeshView) -> [FetchAction] {
        upstreamPlaces = max(1, places)
        return pump(now: now, view: view)
    }

    /// What the line is open for from now on.
    public mutating func setLineGate(_ gate: LineGate, now: Duration, view: some MeshView) -> [FetchAction] {
        lineGate = gate
        if case .closed = gate {
            let readers = wants.filter { $0.value.priority == .foreground && $0.value.isAtUpstream }.sorted { $0.value.age < $1.value.age }
            for (id, _) in readers { leaveUpstreamLine(id) }
        }
        return pump(now: now, view: view)
    }

    /// Looks for another source, or finds that there is none.
    private mutating func leaveUpstreamLine(_ id: ChunkID) {
        wants[id]?.attempts.removeAll { if case .upstreamQueue = $0 { true } else { false } }
        makeReady(id)
    }

    /// Whether a want of this priority may go to upstream now.
    func mayBeginUpstream(_ priority: FetchPriority) -> Bool {
        switch lineGate {
        case .closed: false
        case .readsOnly where priority < .foreground: false
        case .readsOnly, .open: upstreamActive.count < upstreamPlaces + (priority == .foreground ? limits.foregroundUpstreams : 0)
        }
    }

    /// Chunks that anybody waits for.
    public var wantCount: Int { wants.count }
    /// Chunks being fetched from upstream at this moment.
    public var upstreamCount: Int { upstreamActive.count }

    /// Whether the node is shunned for wrong bytes at `now`.
    public func isShunned(_ node: NodeID, now: Duration) -> Bool { loads[node].map { now < $0.shunnedUntil } ?? false }

    var foregroundWants: Int { counts[Int(FetchPriority.foreground.rawValue)] }

    // MARK: Inside

    mutating func enter(_ id: ChunkID, flist: FlistDigest?, priority: FetchPriority, _ change: (inout Want) -> Void) {
        if var want = wants[id] {
            want.flist = want.flist ?? flist
            change(&want)
            wants[id] = want
            return
        }
        var want = Want(flist: flist, age: nextAge, priority: priority)
        nextAge += 1
        change(&want)
        wants[id] = want
        counts[Int(priority.rawValue)] += 1
        makeReady(id)
    }

    /// Moves a want that has become more urgent to the lines of its new priority, and tells an owner that fetches it for us.
    private mutating func raise(_ id: ChunkID, to priority: FetchPriority, now: Duration) -> [FetchAction] {
        guard let want = wants[id], priority > want.priority else { return [] }
        counts[Int(want.priority.rawValue)] -= 1
        counts[Int(priority.rawValue)] += 1
        wants[id]?.priority = priority
        if want.isIdle { makeReady(id) }
        var actions: [FetchAction] = []
        for attempt in want.attempts {
            switch attempt {
            case .upstreamQueue:
                if case .closed = lineGate, priority == .foreground {
                    leaveUpstreamLine(id)
                } else {
                    upstreamLine.append(id, ticket: takeTicket(id), priority: priority)
                }
            case .peer(let node, .fetch, let tag, _):
                // In this order the owner never sees itself without a waiter, and drops nothing.
                actions += ask(node, id, mode: .fetch, now: now)
                actions += drop(tag, of: id, cancel: true)
            case .peer(_, .relay, let tag, _):
                // Who waits for it now goes straight to a holder.
                actions += drop(tag, of: id, cancel: true)
                makeReady(id)
            case .upstream: actions.append(.hastenUpstream(id))
            case .peer: break
            }
        }
        return actions
    }

    /// Removes the want and everything under way for it.
    mutating func forget(_ id: ChunkID) -> [FetchAction] {
        guard let want = wants[id] else { return [] }
        var actions: [FetchAction] = []
        for attempt in want.attempts {
            switch attempt {
            case .peer(_, _, let tag, _): actions += drop(tag, of: id, cancel: true)
            case .upstream:
                upstreamActive.remove(id)
                costs.end(id, arrived: false, active: 1, now: .zero)
                actions.append(.cancelUpstream(id))
            case .upstreamQueue: break
            }
        }
        for tag in want.verifying.keys { tags[tag] = nil }
        if want.localWaiters == 0 { peerOnlyWants -= 1 }
        counts[Int(want.priority.rawValue)] -= 1
        wants[id] = nil
        return actions
    }

    /// Ends the attempt `tag` and frees the peer's place.
    mutating func drop(_ tag: RequestTag, of id: ChunkID, cancel: Bool) -> [FetchAction] {
        tags[tag] = nil
        guard var want = wants[id] else { return [] }
        want.attempts.removeAll { attempt in
            guard case .peer(let node, let mode, tag, _) = attempt else { return false }
            switch mode {
            case .ifHeld, .site: loads[node, default: PeerLoad()].transfers -= 1
            case .fetch: loads[node, default: PeerLoad()].waits -= 1
            case .relay:
                loads[node, default: PeerLoad()].waits -= 1
                relays -= 1
            }
            if freed.last != node { freed.append(node) }
            return true
        }
        wants[id] = want
        return cancel ? [.cancel(tag)] : []
    }

    mutating func ask(_ node: NodeID, _ id: ChunkID, mode: AskMode, now: Duration) -> [FetchAction] {
        guard var want = wants[id] else { return [] }
        let tag = RequestTag(value: nextTag)
        nextTag += 1
        tags[tag] = id
        switch mode {
        case .ifHeld, .site: loads[node, default: PeerLoad()].transfers += 1
        case .fetch: loads[node, default: PeerLoad()].waits += 1
        case .relay:
            loads[node, default: PeerLoad()].waits += 1
            if relays == 0 { lastArrival = max(lastArrival, now) }
            relays += 1
        }
        want.attempts.append(.peer(node, mode: mode, tag: tag, since: now))
        (want.standing, want.ticket) = (.busy, 0)
        wants[id] = want
        return [.ask(node, id, flist: want.flist, mode: mode, priority: want.priority, tag: tag)]
    }

    /// Lets the next pass look for a source. Does nothing for a want that has one.
    mutating func makeReady(_ id: ChunkID) {
        guard let want = wants[id], want.isIdle else { return }
        wants[id]?.standing = .ready
        ready.append(id, ticket: takeTicket(id), priority: want.priority)
    }

    /// Lets the want rest until `time`.
    mutating func rest(_ id: ChunkID, until time: Duration) {
        guard wants[id]?.isIdle == true else { return }
        wants[id]?.standing = .resting(until: time)
        wants[id]?.ticket = 0
        wakeAt = min(wakeAt ?? time, time)
    }

    /// A new ticket for the want: all its older entries in lines become invalid.
    mutating func takeTicket(_ id: ChunkID) -> UInt64 {
        defer { nextTicket += 1 }
        wants[id]?.ticket = nextTicket
        return nextTicket
    }

    func isValid(_ entry: Line.Entry) -> Bool { wants[entry.id]?.ticket == entry.ticket }
}
