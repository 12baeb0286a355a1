internal import ChunkModel
internal import FetchPlanner
internal import Gossip
internal import GossipTransport
internal import MeshKeys

/// The questions that the node asks of gossip, in one place.
extension GossipTransport {
    /// Looks at the machine under its lock; short.
    func read<R: Sendable>(_ body: (GossipMachine, _ now: UInt64) -> R) -> R { withMachine { body($0, $1) } }

    /// Changes what this node publishes.
    func change(_ body: (inout GossipMachine, _ now: UInt64) -> Void) { withMachine { body(&$0, $1) } }

    /// The live nodes of the site but this one.
    var siteMembers: [Member] { read { machine, _ in machine.liveOthers } }

    /// Live nodes of the site, this one included.
    var liveCount: Int { read { machine, _ in machine.liveOthers.count + 1 } }

    func member(_ node: NodeID) -> Member? { read { machine, _ in machine.members[node] } }

    /// Where the node is to be asked: one of this site, or a gateway of another.
    func address(_ node: NodeID) -> NodeAddress? {
        read { machine, _ in machine.members[node]?.address ?? machine.otherGateway(node)?.address }
    }

    /// Live members of the site that say they know the flist.
    func nodes(knowing flist: FlistDigest) -> [(member: Member, fact: FlistFact)] {
        read { machine, _ in
            machine.nodes(withFact: MeshFacts.flistKey(flist)).compactMap { node, value in
                guard node != machine.me.id, let member = machine.members[node], member.state.isLive, let fact = FlistFact(value) else {
                    return nil
                }
                return (member, fact)
            }
        }
    }
}

extension GossipMachine {
    /// The live nodes of the site but this one: no other node is a member.
    var liveOthers: [Member] { members.values.filter(\.state.isLive) }

    /// What the node says of itself; `nil` before it has said anything that makes sense.
    func profile(of node: NodeID) -> NodeProfile? { facts(of: node)[MeshFacts.profileKey].flatMap(NodeProfile.init) }
}
