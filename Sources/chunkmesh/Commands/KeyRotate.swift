import ArgumentParser
import ControlClient
import ControlModel
import MeshKeys
import NodeConfiguration

extension Key {
    struct ListKeys: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list", abstract: "Shows which node of the mesh has which mesh keys, by their fingerprints.",
            discussion: "The first key of a node seals what it sends; all of them open what it receives.")

        @OptionGroup var options: APIOptions

        func run() throws {
            let keys: MeshKeyList = try options.client().get("/v1/keys")
            if options.json { return try Terminal.json(keys) }
            Terminal.table(
                ["NAME", "KEYS", "ID"],
                keys.nodes.map { node in
                    [
                        Terminal.quoted(node.name),
                        node.error.map(Terminal.quoted) ?? node.keys.map(Terminal.quoted).joined(separator: ", "),
                        Terminal.quoted(node.id),
                    ]
                })
            for node in keys.away { Terminal.out("away: \(Terminal.quoted(node.name)), \(Terminal.quoted(node.id))") }
            if let rotating = keys.rotating {
                Terminal.out("a rotation to \(Terminal.quoted(rotating)) is unfinished; chunkmesh key rotate goes on with it")
            }
        }
    }

    struct Rotate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Changes the key of the running mesh: installs a new one on all live nodes, uses it, removes the old one.",
            discussion: """
                Each step is done when all live nodes have confirmed it, in memory and in their mesh.keyFile; the same command goes on after an \
                interruption. With --step one step is done alone: install, then use, then remove. The old key is not removed while known \
                members are away, since they could not come back by themselves: copy the key file to them, or use --force and copy it later.
                """)

        enum Step: String, ExpressibleByArgument, CaseIterable { case install, use, remove }

        @Option(help: ArgumentHelp("Only this step: install, use or remove.", valueName: "STEP")) var step: Step?
        @Option(help: ArgumentHelp("The key that the step is about, as chunkmesh key list shows it.", valueName: "FINGERPRINT"))
        var key: String?
        @Option(help: ArgumentHelp("Secret key of mesh.admin, where the nodes have one.", valueName: "SECRETKEY")) var sign: String?
        @Flag(help: "Remove the old key though known members are away.") var force = false
        @OptionGroup var options: APIOptions

        func run() throws {
            let client = try options.client()
            var request = KeyRotation(step: step.flatMap { KeyRotation.Step(rawValue: $0.rawValue) }, key: key, force: force)
            if let sign { try add(signaturesOf: AdminKey(file: sign), to: &request, client) }
            let report: KeyRotationReport = try client.post("/v1/keys/rotate", request)
            if options.json { try Terminal.json(report) } else { show(report) }
            if let problem = report.problem { throw ControlError.broken(problem) }
        }

        /// Every step that the mesh may need, for the key that is coming and those that may go.
        private func add(signaturesOf admin: AdminKey, to request: inout KeyRotation, _ client: ControlClient) throws {
            let known: MeshKeyList = try client.get("/v1/keys")
            let old = Set(known.nodes.flatMap(\.keys))
            var new = request.key ?? known.rotating
            if new == nil, request.step == nil || request.step == .install {
                let made = MeshKeyRing.randomKey()
                request.newKey = Base64.encode(made)
                new = MeshKeyRing(keys: [made]).map { "\($0.fingerprints[0])" }
            }
            var signatures: [String: String] = [:]
            func add(_ step: KeyRotation.Step, _ key: String) throws {
                signatures["\(step.rawValue) \(key)"] = try admin.sign(AdminText.step(step, key: key))
            }
            if let new {
                try add(.install, new)
                try add(.use, new)
                if request.step == .remove { try add(.remove, new) }
            }
            for key in old where key != new { try add(.remove, key) }
            request.signatures = signatures
        }

        private func show(_ report: KeyRotationReport) {
            for done in report.steps {
                let good = done.nodes.count { $0.error == nil }
                Terminal.out("\(done.step.rawValue) \(Terminal.quoted(done.key)): \(good) of \(done.nodes.count) nodes")
                for node in done.nodes {
                    if let error = node.error {
                        Terminal.out("  \(Terminal.quoted(node.name)), \(Terminal.quoted(node.id)): \(Terminal.quoted(error))")
                    }
                }
            }
            for node in report.away { Terminal.out("away: \(Terminal.quoted(node.name)), \(Terminal.quoted(node.id))") }
            if report.done { Terminal.out("done; the key is \(Terminal.quoted(report.key))") }
        }
    }
}
