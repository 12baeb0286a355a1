internal import ChunkModel
internal import MeshKeys

/// "This member is in this state", as one node says of another or of itself. Carries the whole record, so that who never heard
/// of a member learns of it from any claim.
struct MemberClaim: Sendable {
    /// `state` is the one claimed.
    var member: Member
    /// Who says so; each accuser shortens a suspicion once.
    let by: NodeID

    init(_ state: MemberState, _ member: Member, by: NodeID) {
        self.member = member
        self.member.state = state
        self.by = by
    }

    init(from reader: inout WireReader) throws {
        let hasAccuser = try reader.byte()
        member = try Member(from: &reader)
        by = hasAccuser == 1 ? try reader.node() : member.id
    }

    var message: [UInt8] {
        var writer = WireWriter()
        writer.byte(MessageCode.member.rawValue)
        encode(to: &writer)
        return writer.bytes
    }

    func encode(to writer: inout WireWriter) {
        writer.byte(by == member.id ? 0 : 1)
        member.encode(to: &writer)
        if by != member.id { writer.node(by) }
    }
}
