import Foundation
import Testing

@testable import Minisign

@Suite struct MinisignTests {
    /// The same bytes, whatever the pieces.
    @Test(arguments: [0, 1, 127, 128, 129, 100_000]) func piecesDoNotMatter(size: Int) throws {
        let folder = try Folder()
        let bytes = noise(size)
        let key = MinisignSecretKey.generate()
        let signature = try sign(key, try folder.write("f", bytes))
        for pieces in [1 << 20, 4096, 127] { #expect(try verifies(bytes, signature, key.publicKey, pieces: pieces)) }
        #expect(try !verifies(bytes + [0], signature, key.publicKey))
        #expect(try MinisignSignature(signature.fileBytes) == signature)
    }

    @Test func anotherKeyIsNamedAndTrustedCommentsAreSigned() throws {
        let folder = try Folder()
        let path = try folder.write("f", noise(1000))
        let (key, other) = (MinisignSecretKey.generate(), MinisignSecretKey.generate())
        let signature = try sign(key, path, trusted: "version 7")
        #expect(throws: MinisignError(.otherKey, "signed with the key \(key.publicKey.id), not with \(other.publicKey.id)")) {
            try MinisignFile.verify(path, signature, by: other.publicKey)
        }
        // Somebody who took the id of another's key.
        let disguised = MinisignPublicKey(id: key.publicKey.id, key: other.publicKey.key)
        #expect(code { try MinisignFile.verify(path, signature, by: disguised) } == .wrong)
        let text = String(decoding: signature.fileBytes, as: UTF8.self)
        let changed = try MinisignSignature(Array(text.replacingOccurrences(of: "version 7", with: "version 8").utf8))
        #expect(code { try MinisignFile.verify(path, changed, by: key.publicKey) } == .wrong)
        // What is not signed may change.
        let renamed = try MinisignSignature(Array(text.replacingOccurrences(of: "comment: u\n", with: "comment: v\n").utf8))
        try MinisignFile.verify(path, renamed, by: key.publicKey)
    }

    /// Legacy signatures over pieces: one bit of the signature, of the message or an unreduced S, and it is wrong. The good ones are made
    /// by minisign in CompatibilityTests.
    @Test func streamedEd25519IsStrict() throws {
        let key = MinisignSecretKey.generate()
        let message = noise(777)
        let signature = try key.sign(digest: message, untrustedComment: "", trustedComment: "").signature
        func isRight(_ signature: [UInt8], _ message: [UInt8]) -> Bool {
            let stream = Ed25519Stream(signature: signature, key: key.publicKey.key)
            for byte in message { withUnsafeBytes(of: byte) { stream.update($0) } }
            return stream.finish()
        }
        #expect(isRight(signature, message))
        for bit in stride(from: 0, to: 512, by: 7) {
            var changed = signature
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(!isRight(changed, message), "bit \(bit)")
        }
        #expect(!isRight(signature, message.dropLast()) && !isRight(signature, message + [0]))
        // S + L is the same number, written otherwise.
        let order: [UInt8] =
            [0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14]
            + [UInt8](repeating: 0, count: 15) + [0x10]
        var (malleable, carry) = (signature, 0)
        for index in 0..<32 {
            let sum = Int(signature[32 + index]) + Int(order[index]) + carry
            malleable[32 + index] = UInt8(truncatingIfNeeded: sum)
            carry = sum >> 8
        }
        #expect(!isRight(malleable, message))
    }

    @Test func publicKeysComeAsFilesAndAlone() throws {
        let key = MinisignSecretKey.generate().publicKey
        #expect("\(key)".count == MinisignPublicKey.base64Count)
        #expect(try MinisignPublicKey(base64: "\(key)") == key)
        for text in [key.fileText, "\(key)\n", "untrusted comment: x\r\n\(key)\r\n", key.fileText + "\n\n"] {
            #expect(try MinisignPublicKey(Array(text.utf8)) == key, "\(text)")
        }
        // The id as minisign shows it (its own key file says so).
        let known = try MinisignPublicKey(base64: "RWS76sjoGBYrYn2rTuWDM2g2W11sC7rglTTeCloewzfnrEiTZluT6gvy")
        #expect("\(known.id)" == "622B1618E8C8EABB")
    }

    @Test(arguments: [
        "", "\n", "hello", "RWQ", "untrusted comment: x", "untrusted comment: x\nRWQ=", "untrusted comment: x\n\n\n",
        String(repeating: "A", count: 56), String(repeating: "/", count: 56), String(repeating: "x", count: 5000),
        // Ed, an id, and the neutral element: any signature would hold for many messages.
        "RWQAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ]) func whatIsNoPublicKeyIsRefused(text: String) { #expect(code { _ = try MinisignPublicKey(Array(text.utf8)) } == .malformed) }

    @Test func damagedSignaturesAreRefusedInOneLine() throws {
        let folder = try Folder()
        let path = try folder.write("f", noise(100))
        let key = MinisignSecretKey.generate()
        let good = try sign(key, path, untrusted: "made here", trusted: "at noon").fileBytes
        let lines = String(decoding: good, as: UTF8.self).split(separator: "\n").map(String.init)
        var bad: [[UInt8]] = [[], Array("\n".utf8), good + Array("more\n".utf8), noise(5000), [UInt8](repeating: 10, count: 4096)]
        for left in 0..<4 { bad.append(Array(lines.enumerated().filter { $0.offset != left }.map(\.element).joined(separator: "\n").utf8)) }
        for line in 0..<4 {
            for replacement in ["", "x", lines[line] + "A", String(lines[line].dropLast(2)), lines[line] + "\u{0}", "\u{1b}" + lines[line]]
            {
                var changed = lines
                changed[line] = replacement
                // A comment may be another text.
                if line % 2 == 0, replacement.hasPrefix("untrusted comment: ") || replacement.hasPrefix("trusted comment: "),
                    !replacement.contains("\u{0}")
                {
                    continue
                }
                bad.append(Array(changed.joined(separator: "\n").utf8))
            }
        }
        bad.append(Array(("untrusted comment: " + String(repeating: "x", count: 4096) + "\n" + lines[1...].joined(separator: "\n")).utf8))
        for bytes in bad {
            do {
                _ = try MinisignSignature(bytes)
                Issue.record("taken: \(String(decoding: bytes, as: UTF8.self))")
            } catch {
                #expect(error.code == .malformed && !error.description.contains("\n"))
            }
        }
        // Any single byte changed: refused, or another signature, or only the untrusted comment; never a trap.
        for index in good.indices {
            var changed = good
            changed[index] ^= 0x21
            guard let signature = try? MinisignSignature(changed) else { continue }
            let isRight = (try? MinisignFile.verify(path, signature, by: key.publicKey)) != nil
            #expect(!isRight || index < lines[0].utf8.count, "byte \(index)")
        }
    }

    @Test func damagedSecretKeysAreRefused() throws {
        let key = MinisignSecretKey.generate()
        for password in [nil, Array("pass".utf8)] as [[UInt8]?] {
            let text = try MinisignSecretKeyFile.text(of: key, password: password, work: .least)
            let again = try MinisignSecretKeyFile(Array(text.utf8))
            #expect(again.isEncrypted == (password != nil))
            #expect(try again.unlock(password: password ?? []).publicKey == key.publicKey)
            #expect(throws: MinisignError.self) { try MinisignSecretKeyFile(Array(text.utf8.dropLast(8))) }
            #expect(throws: MinisignError.self) { try MinisignSecretKeyFile(Array(key.publicKey.fileText.utf8)) }
        }
        var raw = try #require(
            Data(base64Encoded: String(try MinisignSecretKeyFile.text(of: key, password: nil).split(separator: "\n")[1])))
        raw[100] ^= 1
        let damaged = try MinisignSecretKeyFile(Array("untrusted comment: x\n\(raw.base64EncodedString())\n".utf8))
        #expect(throws: MinisignError(.malformed, "the secret key is damaged")) { try damaged.unlock(password: []) }
        // One that asks for a terabyte.
        raw.replaceSubrange(2..<4, with: Array("Sc".utf8))
        raw.replaceSubrange(46..<54, with: [0, 0, 0, 0, 0, 1, 0, 0])
        #expect(code { _ = try MinisignSecretKeyFile(Array("untrusted comment: x\n\(raw.base64EncodedString())\n".utf8)) } == .malformed)
    }

    @Test func filesThatCannotBeReadAreNamed() throws {
        let folder = try Folder()
        #expect(try MinisignFile.signature(folder.sub("none")) == nil)
        for path in [folder.sub("none"), folder.path, "/dev/null"] {
            let error = #expect(throws: MinisignError.self) { try MinisignFile.publicKey(path) }
            #expect(error?.code == .unreadable && error?.description.contains(path) == true)
        }
        mkfifo(folder.sub("pipe"), 0o600)
        #expect(code { _ = try MinisignFile.signature(folder.sub("pipe")) } == .unreadable)
        let large = try folder.write("large", [UInt8](repeating: 65, count: MinisignSignature.maxBytes + 1))
        let error = #expect(throws: MinisignError.self) { try MinisignFile.signature(large) }
        #expect(error?.description.hasPrefix(large) == true)
    }

    @Test func commentsThatWouldBreakTheFileAreRefused() throws {
        let key = MinisignSecretKey.generate()
        let digest = [UInt8](repeating: 1, count: 64)
        for comment in ["a\nb", "a\u{0}", "\u{1b}[2J", String(repeating: "x", count: 1001)] {
            #expect(code { _ = try key.sign(digest: digest, untrustedComment: comment, trustedComment: "") } == .malformed)
            #expect(code { _ = try key.sign(digest: digest, untrustedComment: "", trustedComment: comment) } == .malformed)
        }
        let longest = String(repeating: "x", count: MinisignSignature.maxCommentBytes)
        let signature = try key.sign(digest: digest, untrustedComment: longest, trustedComment: longest)
        #expect(signature.fileBytes.count <= MinisignSignature.maxBytes)
    }

    private func code(_ body: () throws -> Void) -> MinisignError.Code? {
        do { try body() } catch { return (error as? MinisignError)?.code }
        return nil
    }
}
