internal import ChunkModel
public import MeshKeys

/// How sites of one mesh know each other.
///
/// A node's members are the nodes of its own site; of others it knows heads (`SiteHead`) only. Two nodes of a site, elected by
/// rendezvous hashing among its live nodes, are its gateways: they say hello to a gateway of each other site, rarely, and publish
/// what they learnt as facts of kind `siteFact` to their own site. So a node's state does not grow with the nodes of other sites,
/// and few nodes speak across the line between sites.
extension GossipMachine {
    /// Kind of the facts by which gateways hand on what they know of other sites.
    public static let siteFact: UInt8 = 5

    enum SiteMessage: UInt8 {
        /// Wants an answer with the same nonce.
        case hello = 0
        case answer = 1
        /// From a node of the own site that heard of the site first.
        case told = 2
    }

    /// Stands for the site's name in every datagram's head.
    static func siteTag(_ site: String) -> [UInt8] {
        let mixed = SplitMix64.mix(siteHash(site))
        return (0..<4).map { UInt8(truncatingIfNeeded: mixed >> ($0 * 8)) }
    }

    /// FNV-1a of the name.
    private static func siteHash(_ site: String) -> UInt64 {
        site.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    }

    // MARK: Gateways

    /// The nodes that speak for this site, the same for all who know the same live members.
    public var gateways: [SiteGateway] {
        var best: [(weight: UInt64, gateway: SiteGateway)] = []
        func consider(_ member: Member) {
            let weight = SplitMix64.mix(member.id.value.prefix64 ^ 0x7369_7465_6761_7465)
            guard best.count < GossipLimits.gateways || weight > best[best.count - 1].weight else { return }
            best.append((weight, SiteGateway(id: member.id, address: member.address)))
            best.sort { ($0.weight, $0.gateway.id) > ($1.weight, $1.gateway.id) }
            if best.count > GossipLimits.gateways { best.removeLast() }
        }
        if !isLeaving { consider(me) }
        for id in roster { if let member = members[id] { consider(member) } }
        return best.map(\.gateway)
    }

    /// This node speaks for its site at the moment.
    public var isGateway: Bool { gateways.contains { $0.id == me.id } }

    private func ownHead(_ gateways: [SiteGateway]) -> SiteHead {
        SiteHead(
            name: me.site, gateways: gateways, nodes: min(roster.count + 1, GossipLimits.members + 1),
            flists: min(contents.holders.count, GossipLimits.flistsAtSite))
    }

    // MARK: For the shell

    /// The other sites known here, by name.
    public var otherSites: [OtherSite] {
        book.sites.values.map { entry in
            OtherSite(
                name: entry.head.name, gateways: entry.head.gateways, nodes: entry.head.nodes, flists: entry.head.flists,
                roundTrip: entry.roundTrip ?? entry.toldRoundTrip, isReachable: isUsable(entry), known: entry.addresses.map(\.id))
        }.sorted { $0.name < $1.name }
    }

    /// The site that the node is a gateway of, and its address, while that site is known.
    public func otherGateway(_ node: NodeID) -> (site: String, address: NodeAddress)? {
        for entry in book.sites.values {
            if let gateway = entry.addresses.first(where: { $0.id == node }) { return (entry.head.name, gateway.address) }
        }
        return nil
    }

    func isUsable(_ entry: SiteBook.Entry) -> Bool {
        guard !entry.head.gateways.isEmpty else { return false }
        return entry.toldAt != nil || (entry.heardAt != nil && entry.failures < GossipLimits.helloPatience)
    }

    // MARK: What comes in

    /// A datagram of another site. Nothing of it is taken in but what it says of that site; who asks for this site's state is told
    /// whose it is.
    mutating func receiveForeign(_ reader: inout WireReader, _ sender: Sender, _ now: UInt64) throws {
        counters.foreignDatagrams += 1
        guard !isLeaving, let code = MessageCode(rawValue: try reader.byte()) else { return }
        switch code {
        case .site: try receiveSite(&reader, sender, isForeign: true, now)
        case .fragment: introduce(to: sender, now)
        // An announcement on a LAN that both sites share, say, which all nodes hear: the gateways answer.
        default: if isGateway { introduce(to: sender, now) }
        }
    }

    private mutating func introduce(to sender: Sender, _ now: UInt64) {
        guard mayContact(sender.id, now) else { return }
        send([siteMessage(.hello, nonce: random.next(), without: nil)], to: sender.address, about: nil, gossip: false)
    }

    mutating func receiveSite(_ reader: inout WireReader, _ sender: Sender, isForeign: Bool, _ now: UInt64) throws {
        guard let kind = SiteMessage(rawValue: try reader.byte()) else { throw WireError() }
        let nonce = try reader.fixed64()
        let head = try SiteHead(from: &reader)
        var others: [SiteHead] = []
        for _ in 0..<(try reader.number(upTo: GossipLimits.headsTold)) { others.append(try SiteHead(from: &reader)) }
        guard isForeign != (kind == .told), head.name != me.site, !isLeaving else { return }
        switch kind {
        case .told: noteHearsay(head, now)
        case .hello, .answer:
            let heard = head.completed(by: sender.id, at: sender.address)
            noteHeard(heard, answer: kind == .answer ? nonce : nil, now)
            if joinAddresses.contains(sender.address), book.foreignSeeds.count < GossipLimits.joinAddresses {
                book.foreignSeeds[sender.address] = head.name
            }
            for other in others where other.name != me.site { noteHearsay(other, now) }
            if kind == .hello {
                send([siteMessage(.answer, nonce: nonce, without: head.name)], to: sender.address, about: nil, gossip: false)
            }
        }
    }

    /// One of the site's nodes spoke to this node.
    private mutating func noteHeard(_ head: SiteHead, answer nonce: UInt64?, _ now: UInt64) {
        guard !head.gateways.isEmpty, enter(head, isHearsay: false, now) else { return }
        guard var entry = book.sites[head.name] else { return }
        let isNew = entry.heardAt == nil
        if let nonce, let pending = entry.pending, pending.nonce == nonce {
            let sample = now &- pending.sentAt
            entry.roundTrip = entry.roundTrip.map { $0 - $0 / 8 + sample / 8 } ?? sample
            entry.pending = nil
            if !entry.hasNews {
                entry.nextHello = now &+ GossipLimits.helloInterval &+ random.next(upperBound: GossipLimits.helloInterval / 4)
            }
        }
        entry.head = head
        entry.remember(head.gateways)
        (entry.heardAt, entry.newsAt, entry.failures, entry.isConfirmed, entry.tryFirst) = (now, now, 0, true, [])
        book.sites[head.name] = entry
        let gateways = gateways
        if gateways.contains(where: { $0.id == me.id }) {
            publish(entry)
            if isNew {
                book.sites[head.name]?.nextHello = min(entry.nextHello, now &+ GossipLimits.helloPause / 10)
                // The others hear of it by the next hello.
                for name in book.sites.keys where name != head.name { book.sites[name]?.hurry(now) }
            }
        } else {
            relay(head, to: gateways, unlessAsHeard: true, now)
        }
        book.due = min(book.due, now &+ 100 * .millisecond)
    }

    /// Tells this site's gateways, when none of them publishes the site.
    ///
    /// - Parameter unlessAsHeard: it was heard just now: also when they publish it otherwise.
    private mutating func relay(_ head: SiteHead, to gateways: [SiteGateway], unlessAsHeard: Bool, _ now: UInt64) {
        let known = gateways.contains { gateway in
            let said = contents.nodes[gateway.id]?.facts[Self.siteFactKey(head.name)].flatMap(SiteReport.init(fact:))?.head.gateways
            return unlessAsHeard ? said == head.gateways : said != nil
        }
        if known { return }
        book.due = min(book.due, now &+ GossipLimits.siteRelay)
        if let last = book.relayedAt[head.name], now < last &+ GossipLimits.siteRelay { return }
        if book.relayedAt.count >= GossipLimits.sites { book.relayedAt = [:] }
        book.relayedAt[head.name] = now
        var writer = WireWriter()
        writer.byte(MessageCode.site.rawValue)
        writer.byte(SiteMessage.told.rawValue)
        writer.fixed64(0)
        head.encode(to: &writer)
        writer.number(0)
        for gateway in gateways { send([writer.bytes], to: gateway.address, about: nil, gossip: false) }
    }

    /// Somebody says that there is such a site: a reason to ask it, and no more.
    private mutating func noteHearsay(_ head: SiteHead, _ now: UInt64) {
        let gateways = head.gateways.filter { !$0.address.isUnspecified && $0.address.port != 0 && $0.id != me.id }
        guard !gateways.isEmpty else { return }
        if let known = book.sites[head.name] {
            // One that answers speaks for itself.
            if known.heardAt != nil, known.failures == 0 { return noteOtherWord(gateways, of: head.name, now) }
            book.sites[head.name]?.remember(gateways)
            // New addresses are a new chance.
            if !gateways.allSatisfy({ known.addresses.contains($0) }) {
                book.sites[head.name]?.hurry(now)
            }
        } else if enter(SiteHead(name: head.name, gateways: gateways, nodes: head.nodes, flists: head.flists), isHearsay: true, now) {
            book.sites[head.name]?.remember(gateways)
        }
        book.due = min(book.due, now &+ 100 * .millisecond)
    }

    /// Somebody of this site names gateways that this node does not know: the site is asked soon, first by way of those.
    private mutating func noteOtherWord(_ gateways: [SiteGateway], of name: String, _ now: UInt64) {
        guard var entry = book.sites[name], !gateways.allSatisfy({ entry.head.gateways.contains($0) }) else { return }
        // Not taken for true before one of them has said so: else two gateways could keep telling each other what is long over.
        entry.tryFirst = gateways
        entry.hurry(now)
        book.sites[name] = entry
        book.due = min(book.due, entry.nextHello)
    }

    /// - Returns: whether the site has a place in the book.
    private mutating func enter(_ head: SiteHead, isHearsay: Bool, _ now: UInt64) -> Bool {
        if book.sites[head.name] != nil { return true }
        if !isHearsay, book.sites.count >= GossipLimits.sites,
            let least = book.sites.values.filter({ !$0.isConfirmed }).min(by: { $0.newsAt < $1.newsAt })
        {
            book.sites[least.head.name] = nil
        }
        let hearsay = book.sites.values.count { !$0.isConfirmed }
        guard book.sites.count < GossipLimits.sites, !isHearsay || hearsay < GossipLimits.hearsaySites else {
            counters.sitesRefused += 1
            return false
        }
        book.sites[head.name] = SiteBook.Entry(head: head, newsAt: now, nextHello: now)
        return true
    }

    // MARK: What gateways tell their site

    static func siteFactKey(_ site: String) -> FactKey {
        let hash = siteHash(site)
        return FactKey(kind: siteFact, id: (0..<8).map { UInt8(truncatingIfNeeded: hash >> ($0 * 8)) })!
    }

    private mutating func publish(_ entry: SiteBook.Entry) {
        let key = Self.siteFactKey(entry.head.name)
        guard entry.heardAt != nil, entry.failures < GossipLimits.helloPatience else { return removeFact(key) }
        setFact(key, SiteReport(head: entry.head, roundTrip: entry.roundTrip).fact)
    }

    /// The node's facts have changed. Only elected gateways are heard; one whose election is not known here yet, a little later.
    mutating func noteSiteFacts(of node: NodeID, _ now: UInt64) {
        guard contents.nodes[node]?.facts.keys.contains(where: { $0.kind == Self.siteFact }) == true else { return }
        if gateways.contains(where: { $0.id == node }) { absorbSiteFacts(of: node, isNews: true, now) }
        book.due = min(book.due, now &+ GossipLimits.helloPause)
    }

    /// Takes in what the node, a gateway, publishes of other sites.
    private mutating func absorbSiteFacts(of node: NodeID, isNews: Bool, _ now: UInt64) {
        guard let facts = contents.nodes[node]?.facts, members[node]?.state.isLive == true else { return }
        for (key, value) in facts where key.kind == Self.siteFact {
            guard let report = SiteReport(fact: value), report.head.name != me.site, Self.siteFactKey(report.head.name) == key,
                enter(report.head, isHearsay: false, now), var entry = book.sites[report.head.name]
            else { continue }
            // A gateway believes its own ears, an ordinary node its gateways.
            let isSettled = !book.told.isEmpty && entry.heardAt != nil && entry.failures == 0
            if isSettled {
                if isNews { noteOtherWord(report.head.gateways, of: report.head.name, now) }
                entry = book.sites[report.head.name] ?? entry
            } else {
                // Both gateways of this site may name others of theirs: each is good for trying.
                let current = entry.toldAt.map { now &- $0 < GossipLimits.helloPause } == true ? entry.head.gateways : []
                let fresh = report.head.gateways + current.filter { old in !report.head.gateways.contains { $0.id == old.id } }
                entry.head = SiteHead(
                    name: report.head.name, gateways: fresh, nodes: report.head.nodes, flists: report.head.flists)
            }
            entry.remember(report.head.gateways)
            (entry.toldAt, entry.newsAt, entry.isConfirmed) = (now, now, true)
            entry.toldRoundTrip = report.roundTrip
            book.sites[report.head.name] = entry
        }
    }

    // MARK: Time

    /// The live members have changed: the gateways may be others now.
    mutating func noteElection(_ now: UInt64) {
        if !book.sites.isEmpty { book.due = min(book.due, now &+ GossipLimits.electionPause) }
    }

    mutating func tickSites(_ now: UInt64) {
        guard now >= book.due, !isLeaving else { return }
        book.due = .max
        let gateways = gateways
        let isGateway = gateways.contains { $0.id == me.id }
        forgetSites(gateways, isGateway: isGateway, now)
        if isGateway {
            let changed = gateways != book.told
            book.told = gateways
            for name in book.sites.keys.sorted() { tickHello(name, gatewaysChanged: changed, now) }
        } else {
            book.told = []
            // Gateways that were elected only now have not heard what this one has.
            for entry in book.sites.values.sorted(by: { $0.head.name < $1.head.name }) where entry.heardAt != nil {
                relay(entry.head, to: gateways, unlessAsHeard: false, now)
            }
            for key in (contents.nodes[me.id]?.facts ?? [:]).keys where key.kind == Self.siteFact { removeFact(key) }
        }
        tickHoldings(gateways, isGateway: isGateway, now)
        if !book.sites.isEmpty { book.due = min(book.due, now &+ GossipLimits.helloInterval) }
    }

    private mutating func tickHello(_ name: String, gatewaysChanged: Bool, _ now: UInt64) {
        guard var entry = book.sites[name] else { return }
        if gatewaysChanged { entry.hurry(now) }
        if now >= entry.nextHello {
            if entry.pending != nil { entry.failures += 1 }
            let nonce = random.next()
            // Those of today first, then any that it ever had.
            let today = entry.tryFirst + entry.head.gateways.filter { gateway in !entry.tryFirst.contains { $0.id == gateway.id } }
            let ids = Set(today.map(\.id))
            let known = today + entry.addresses.filter { !ids.contains($0.id) }
            let first =
                entry.failures == 0 && entry.tryFirst.isEmpty
                ? Int(truncatingIfNeeded: random.next(upperBound: UInt64(max(entry.head.gateways.count, 1)))) : 0
            if !known.isEmpty {
                let target = known[(first + entry.failures) % known.count]
                send([siteMessage(.hello, nonce: nonce, without: name)], to: target.address, about: nil, gossip: false)
            }
            entry.pending = (nonce, now)
            (entry.lastHello, entry.hasNews) = (now, false)
            let pause = GossipLimits.helloPause << UInt64(min(entry.failures, 4))
            entry.nextHello = now &+ min(pause, GossipLimits.helloInterval) &+ random.next(upperBound: GossipLimits.helloPause / 4)
            if entry.failures == GossipLimits.helloPatience { publish(entry) }
        }
        book.sites[name] = entry
        if entry.heardAt != nil { publish(entry) }
        book.due = min(book.due, entry.nextHello)
    }

    private mutating func forgetSites(_ gateways: [SiteGateway], isGateway: Bool, _ now: UInt64) {
        for gateway in gateways where gateway.id != me.id { absorbSiteFacts(of: gateway.id, isNews: false, now) }
        for (name, entry) in book.sites {
            // What no gateway publishes any more is not to be used, but remembered: this node may become a gateway.
            let isTold = gateways.contains { gateway in
                gateway.id != me.id && contents.nodes[gateway.id]?.facts[Self.siteFactKey(name)] != nil
            }
            if !isTold {
                book.sites[name]?.toldAt = nil
                book.sites[name]?.toldRoundTrip = nil
            }
            if !isGateway, let heardAt = entry.heardAt, now &- heardAt > 2 &* GossipLimits.helloInterval { book.sites[name]?.heardAt = nil }
            let memory = entry.isConfirmed ? GossipLimits.siteMemory : GossipLimits.hearsayMemory
            if now &- entry.newsAt > memory, !isTold {
                book.sites[name] = nil
                if isGateway { removeFact(Self.siteFactKey(name)) }
            }
        }
        book.foreignSeeds = book.foreignSeeds.filter { book.sites[$0.value] != nil }
        book.relayedAt = book.relayedAt.filter { now < $0.value &+ GossipLimits.siteRelay }
    }

    /// - Parameter site: the receiver's, which need not be told of itself.
    private mutating func siteMessage(_ kind: SiteMessage, nonce: UInt64, without site: String?) -> [UInt8] {
        var writer = WireWriter()
        writer.byte(MessageCode.site.rawValue)
        writer.byte(kind.rawValue)
        writer.fixed64(nonce)
        ownHead(gateways).encode(to: &writer)
        let others = book.sites.values.filter { $0.head.name != site && isUsable($0) }.map(\.head).sorted { $0.name < $1.name }
        let chosen = picks(GossipLimits.headsTold, from: others)
        writer.number(chosen.count)
        for head in chosen { head.encode(to: &writer) }
        return writer.bytes
    }

    /// A join address that is worth knocking at although nobody here has it: not one of a site that is known.
    func isKnownForeign(_ address: NodeAddress) -> Bool {
        book.foreignSeeds[address].flatMap { book.sites[$0] }.map(isUsable) ?? false
    }
}

/// What a gateway tells its own site of another.
struct SiteReport: Sendable {
    let head: SiteHead
    /// Nanoseconds.
    let roundTrip: UInt64?

    init(head: SiteHead, roundTrip: UInt64?) { (self.head, self.roundTrip) = (head, roundTrip) }

    /// In microseconds with three significant bits, so that not every measurement is news for the whole site.
    var fact: [UInt8] {
        var writer = WireWriter()
        head.encode(to: &writer)
        var time = roundTrip.map { max($0 / 1_000, 1) } ?? 0
        let shift = UInt64(max(0, 61 - time.leadingZeroBitCount))
        time = (time >> shift) << shift
        writer.number(time)
        return writer.bytes
    }

    init?(fact: [UInt8]) {
        var reader = WireReader(fact)
        guard let head = try? SiteHead(from: &reader), let time = try? reader.number(), time < 1 << 40 else { return nil }
        self.head = head
        roundTrip = time == 0 ? nil : time * 1_000
    }
}
