import Foundation
import Minisign
import Testing

/// Both ways with Debian's minisign, which scripts/test installs.
@Suite(.serialized, .enabled(if: DebianMinisign.isThere, "Debian's minisign is not installed")) struct CompatibilityTests {
    @Test(arguments: [0, 1, 3000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001]) func whatMinisignSignsVerifiesHere(size: Int) throws {
        let folder = try Folder()
        let (key, pub) = (folder.sub("k"), folder.sub("k.pub"))
        #expect(try DebianMinisign.run("-G", "-W", "-s", key, "-p", pub).status == 0)
        let file = try folder.write("f", noise(size))
        let publicKey = try MinisignFile.publicKey(pub)
        for (options, algorithm) in [([], MinisignSignature.Algorithm.prehashed), (["-l"], .legacy)] {
            let process = ["-S", "-s", key, "-m", file, "-t", "made for a test"] + options
            #expect(try run(process).status == 0)
            let signature = try #require(try MinisignFile.signature(file + MinisignFile.suffix))
            #expect(signature.algorithm == algorithm && signature.keyID == publicKey.id)
            #expect(signature.trustedComment == Array("made for a test".utf8))
            try MinisignFile.verify(file, signature, by: publicKey)
            var changed = try folder.bytes("f")
            if changed.isEmpty { changed = [0] } else { changed[changed.count / 2] ^= 1 }
            #expect(try !verifies(changed, signature, publicKey))
            try FileManager.default.removeItem(atPath: file + MinisignFile.suffix)
        }
    }

    @Test func whatIsSignedHereVerifiesWithMinisign() throws {
        let folder = try Folder()
        let key = MinisignSecretKey.generate()
        let pub = try folder.write("k.pub", Array(key.publicKey.fileText.utf8))
        for size in [0, 1, 100_000] {
            let file = try folder.write("f\(size)", noise(size))
            let signature = try sign(key, file, untrusted: "from here", trusted: "timestamp:1\tfile:f ü")
            try folder.write("f\(size).minisig", signature.fileBytes)
            let byFile = try run(["-V", "-p", pub, "-m", file])
            #expect(byFile.status == 0 && byFile.text.contains("timestamp:1\tfile:f ü"), "\(byFile)")
            #expect(try run(["-V", "-H", "-P", "\(key.publicKey)", "-m", file]).status == 0)
            try folder.write("f\(size)", noise(size + 1, seed: 2))
            #expect(try run(["-V", "-p", pub, "-m", file]).status == 1)
        }
    }

    /// Key derivation takes a second or two and a gigabyte, as minisign has it.
    @Test func keysWithPasswordsGoBothWays() throws {
        let folder = try Folder()
        let (key, pub) = (folder.sub("k"), folder.sub("k.pub"))
        #expect(try DebianMinisign.run("-G", "-s", key, "-p", pub, input: "secret words\nsecret words\n").status == 0)
        let file = try MinisignFile.secretKey(key)
        #expect(file.isEncrypted)
        let unlocked = try file.unlock(password: Array("secret words".utf8))
        #expect(try MinisignFile.publicKey(pub) == unlocked.publicKey)
        // And one of ours, with little work, so that minisign is quick too.
        let own = MinisignSecretKey.generate()
        let text = try MinisignSecretKeyFile.text(of: own, password: Array("p w".utf8), work: .least)
        try folder.write("own", Array(text.utf8))
        let again = try MinisignFile.secretKey(folder.sub("own"))
        #expect(throws: MinisignError(.password, "wrong password")) { try again.unlock(password: Array("p w ".utf8)) }
        let signed = try folder.write("f", noise(5000))
        #expect(try DebianMinisign.run("-S", "-s", folder.sub("own"), "-m", signed, input: "p w\n").status == 0)
        let signature = try #require(try MinisignFile.signature(signed + MinisignFile.suffix))
        try MinisignFile.verify(signed, signature, by: own.publicKey)
    }

    @Test func keysWithoutPasswordsGoBothWays() throws {
        let folder = try Folder()
        let (key, pub) = (folder.sub("k"), folder.sub("k.pub"))
        #expect(try DebianMinisign.run("-G", "-W", "-s", key, "-p", pub).status == 0)
        let file = try MinisignFile.secretKey(key)
        #expect(!file.isEncrypted)
        #expect(try file.unlock(password: []).publicKey == MinisignFile.publicKey(pub))
        let own = MinisignSecretKey.generate()
        try folder.write("own", Array(try MinisignSecretKeyFile.text(of: own, password: nil).utf8))
        let signed = try folder.write("f", noise(5000))
        #expect(try run(["-S", "-W", "-s", folder.sub("own"), "-m", signed]).status == 0)
        let signature = try #require(try MinisignFile.signature(signed + MinisignFile.suffix))
        try MinisignFile.verify(signed, signature, by: own.publicKey)
        // minisign makes the public key from the secret one: the file is whole in its eyes.
        #expect(try run(["-R", "-s", folder.sub("own"), "-p", folder.sub("own.pub")]).status == 0)
        #expect(try MinisignFile.publicKey(folder.sub("own.pub")) == own.publicKey)
    }

    private func run(_ arguments: [String]) throws -> (status: Int32, text: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: DebianMinisign.path)
        process.arguments = arguments
        let shown = Pipe()
        (process.standardInput, process.standardOutput, process.standardError) = (FileHandle.nullDevice, shown, shown)
        try process.run()
        let text = String(decoding: shown.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }
}
