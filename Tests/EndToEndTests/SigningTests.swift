import Foundation
import Testing

enum DebianMinisign { static let path = "/usr/bin/minisign" }

/// Flists signed by one program and checked by the other: ours, and Debian's minisign (scripts/test installs it).
@Suite(.serialized, .enabled(if: FileManager.default.isExecutableFile(atPath: DebianMinisign.path), "Debian's minisign is not installed"))
struct SigningTests {
    /// One line on stderr, status 1.
    private func refused(_ outcome: Outcome, _ words: String..., at place: SourceLocation = #_sourceLocation) {
        #expect(outcome.status == 1 && outcome.errorLines.count == 1, "\(outcome.status): \(outcome.errors)", sourceLocation: place)
        for word in words { #expect(outcome.errors.contains(word), "\(outcome.errors) lacks \(word)", sourceLocation: place) }
    }

    @Test func eitherProgramChecksWhatTheOtherSigned() async throws {
        try await withBench { bench in
            let (flist, _) = try await bench.pack(files: 1, bytes: 1000, route: "dir:///nowhere")
            let key = bench.sub("image.key")
            // With a password: its check takes the seconds that minisign's does.
            let environment = ["CHUNKMESH_SIGNING_PASSWORD": "open sesame"]
            let made = await (try bench.start("chunkmesh", ["key", "generate", "--signing", key], environment: environment)).outcome()
            #expect(made.status == 0 && made.lines.count == 1 && made.text.hasPrefix("RW"), "\(made.errors)")
            var status = stat()
            #expect(stat(key, &status) == 0 && status.st_mode & 0o777 == 0o600)
            refused(try await bench.run("chunkmesh", ["key", "generate", "--signing", key]), key, "--force")

            // The password on stdin now.
            let sign = "echo 'open sesame' | \"$0\" flist sign \"$1\" -s \"$2\" -t 'version 7' -c 'by hand'"
            let signed = try await bench.run("/bin/sh", ["-c", sign, Program.folder + "/chunkmesh", flist, key])
            #expect(signed.status == 0 && signed.text == "", "\(signed.errors)")
            let theirs = try await bench.run(DebianMinisign.path, ["-V", "-H", "-p", key + ".pub", "-m", flist])
            #expect(theirs.status == 0 && theirs.text.contains("Trusted comment: version 7"), "\(theirs.text) \(theirs.errors)")

            // Minisign's own keys and signatures, of both kinds.
            let other = bench.sub("other.key")
            #expect(try await bench.run(DebianMinisign.path, ["-G", "-W", "-s", other, "-p", bench.sub("other.pub")]).status == 0)
            for kind in [[], ["-l"]] {
                let made = try await bench.run(DebianMinisign.path, ["-S", "-s", other, "-m", flist, "-x", bench.sub("x.minisig")] + kind)
                #expect(made.status == 0, "\(made.errors)")
                let checked = try await bench.alone(
                    "flist", "verify", flist, "--key", bench.sub("other.pub"), "--signature", bench.sub("x.minisig"), "--signature-only")
                #expect(checked.status == 0 && checked.text.contains("signed with the key "), "\(checked.errors)")
            }
            let mine = bench.sub("mine.minisig")
            #expect(try await bench.plainly(["flist", "sign", flist, "-s", other, "-o", mine]).status == 0)
            #expect(try await bench.run(DebianMinisign.path, ["-V", "-p", bench.sub("other.pub"), "-x", mine, "-m", flist]).status == 0)

            let inspected = try await bench.plainly(["flist", "inspect", flist, "--json"])
            #expect(try inspected.json().bool("signature.trusted") == false && inspected.json().int("files") == 1)
            let verify = ["flist", "verify", flist, "--signature-only", "--json", "--key"]
            let right = try await bench.plainly(verify + [made.lines[0], "--key", bench.sub("other.pub")])
            #expect(right.status == 0)
            #expect(try right.json().text("signature.comment") == "version 7" && right.json().bool("signature.trusted") == true)
            refused(try await bench.plainly(verify + [bench.sub("other.pub")]), flist, "none of those given with --key")
            refused(try await bench.plainly(verify + ["RWnonsense"]), "--key takes a public key of minisign")
            try Data([UInt8](Data(contentsOf: URL(fileURLWithPath: flist))) + [0]).write(to: URL(fileURLWithPath: flist))
            refused(try await bench.plainly(verify + [made.lines[0]]), flist, "the signature is wrong")
            try FileManager.default.removeItem(atPath: flist + ".minisig")
            refused(try await bench.plainly(verify + [made.lines[0]]), flist, "no signature is beside it")
            for usage in [["flist", "verify", flist, "--signature-only"], ["key", "generate", "--force"], ["flist", "sign", flist]] {
                #expect(try await bench.plainly(usage).status == 2)
            }
        }
    }

    @Test func nodesRefuseWhatNobodyTrustedSigned() async throws {
        try await withBench { bench in
            let port = Ports.free()
            let (signed, tree) = try await bench.pack("signed", files: 3, bytes: 100_000, route: "http://127.0.0.1:\(port)")
            let (plain, _) = try await bench.pack("plain", files: 1, bytes: 1000, route: "http://127.0.0.1:\(port)")
            let (key, pub) = (bench.sub("k"), bench.sub("k.pub"))
            #expect(try await bench.run(DebianMinisign.path, ["-G", "-W", "-s", key, "-p", pub]).status == 0)
            #expect(try await bench.run(DebianMinisign.path, ["-S", "-s", key, "-m", signed, "-t", "release \"one\""]).status == 0)
            try await bench.hub(port: port)
            let mesh = try await bench.key()
            // The key itself on one node, its file on the other, and one that knows no key.
            let text = try String(contentsOfFile: pub, encoding: .utf8).split(separator: "\n")[1]
            let first = try await bench.daemon("n1", key: mesh, settings: ["trust.keys": "[\"\(text)\"]", "trust.requireSigned": "true"])
            let second = try await bench.daemon(
                "n2", key: mesh, seeds: [first], settings: ["trust.keys": pub, "trust.requireSigned": "true"])
            let third = try await bench.daemon("n3", key: mesh, seeds: [first])
            let nodes = [first, second, third]
            try await eventually("the nodes know each other") {
                for node in nodes where try await node.json("peers").list("peers").count < 2 { return false }
                return true
            }
            let url = "http://127.0.0.1:\(port)"
            refused(try await first.chunkmesh("prefetch", url + "/plain.fl"), "plain.fl is not signed; trust.requireSigned refuses it")
            #expect(try await third.json("prefetch", plain, "--scope", "node").text("state") == "done")
            refused(try await second.chunkmesh("prefetch", "plain.fl"), "plain.fl: no peer has a signature of it")

            #expect(try await first.json("prefetch", url + "/signed.fl", "--scope", "all").text("state") == "done")
            for node in [first, second] {
                let status = try await node.json("status", "signed.fl")
                #expect(status.bool("flists[0].node.complete") == true && status.int("flists[0].site.missing") == 0)
                #expect(status.bool("flists[0].signature.trusted") == true)
                #expect(status.text("flists[0].signature.comment") == "\"release \\\"one\\\"\"")
                #expect(try await node.chunkmesh("status").text.contains("signed with the key"))
            }
            // It came to the one who knows no key too, and is the same file.
            let passed = try await third.get("/v1/flists/signed.fl/signature")
            #expect(passed.bytes == [UInt8](try Data(contentsOf: URL(fileURLWithPath: signed + ".minisig"))))
            #expect(try await third.json("status", "signed.fl").bool("flists[0].signature.trusted") == false)
            #expect(try await third.get("/v1/flists/plain.fl/signature").text.contains("not signed"))
            #expect(try await second.chunkmesh("flist", "inspect", "signed.fl").text.contains("release \\\"one\\\""))
            let out = bench.sub("out")
            #expect(try await second.chunkmesh("flist", "unpack", "signed.fl", out).status == 0)
            try await bench.expectSame(tree, out)
            let verified = try await second.json("flist", "verify", "signed.fl", "--key", pub, "--on", "node")
            #expect(verified.int("good") == 3 && verified.bool("signature.trusted") == true)

            // Another key from now on: what the old one signed goes.
            let lines = try String(contentsOfFile: second.configuration, encoding: .utf8)
            #expect(try await bench.run(DebianMinisign.path, ["-G", "-f", "-W", "-s", key, "-p", bench.sub("new.pub")]).status == 0)
            try lines.replacingOccurrences(of: pub, with: bench.sub("new.pub")).write(
                toFile: second.configuration, atomically: true, encoding: .utf8)
            second.program.signal(SIGHUP)
            try await eventually("the flist is refused") { try await second.json("status").list("flists").isEmpty }
            #expect(second.log.contains("flist is refused now"))
            // Nonsense is not applied.
            try "garbage".write(toFile: bench.sub("new.pub"), atomically: true, encoding: .utf8)
            second.program.signal(SIGHUP)
            try await eventually("the reload fails") { second.log.contains("configuration not applied") }
        }
    }
}

extension Bench {
    fileprivate func plainly(_ arguments: [String]) async throws -> Outcome { try await run("chunkmesh", arguments) }
}
