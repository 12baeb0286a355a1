import ArgumentParser
import ControlClient
import ControlModel
import Glibc
import MeshKeys

extension Key {
    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Shuts a node out by its identity; without NODEID, shows who is shut out.",
            discussion: """
                The node is refused from now on, in gossip and in the exchange, over restarts too. It holds on the daemon that is asked, and \
                with --sign, the secret key of mesh.admin, in the whole mesh. Whoever took the node also has the mesh key: \
                rotate it afterwards (chunkmesh key rotate), which leaves the node behind.
                """)

        @Argument(help: ArgumentHelp("The node's id, 64 hex digits, as chunkmesh peers shows it.", valueName: "NODEID")) var node: String?
        @Option(help: ArgumentHelp("Secret key of mesh.admin: revokes in the whole mesh.", valueName: "SECRETKEY")) var sign: String?
        @Flag(help: "Take back what was revoked on this daemon.") var undo = false
        @OptionGroup var options: APIOptions

        func validate() throws {
            if let node, NodeID(hex: node) == nil { throw ValidationError("a node id has 64 hex digits, as chunkmesh peers shows it") }
            if node == nil, undo || sign != nil { throw ValidationError("--undo and --sign need a NODEID") }
            if undo, sign != nil { throw ValidationError("--undo takes back what holds on one daemon; what mesh.admin signed stays") }
        }

        func run() throws {
            let client = try options.client()
            let answer: NodeRevocations
            if let node = node?.lowercased() {
                if undo {
                    answer = try client.delete("/v1/keys/revoked/\(node)")
                } else {
                    let issued = UInt64(max(0, time(nil)))
                    let proof = try sign.map { try AdminKey(file: $0).sign(AdminText.revocation(of: node, issued: issued)) }
                    answer = try client.post("/v1/keys/revoke", NodeRevocation(node: node, issued: issued, signature: proof))
                }
            } else {
                answer = try client.get("/v1/keys/revoked")
            }
            if options.json { return try Terminal.json(answer) }
            if answer.revoked.isEmpty { return Terminal.out("no node is revoked") }
            Terminal.table(
                ["ID", "WHERE"], answer.revoked.map { [Terminal.quoted($0.node), $0.signature == nil ? "on this daemon" : "in the mesh"] })
            if node != nil, !undo { Terminal.error("it still has the mesh key: chunkmesh key rotate leaves it behind") }
        }
    }
}
