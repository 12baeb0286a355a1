import ArgumentParser
import ControlClient
import Flist
import Glibc
import Minisign

extension FlistCommand {
    struct Sign: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Signs an flist, as minisign does: FLIST.minisig beside it.",
            discussion: """
                The key comes from "chunkmesh key generate --signing" or from minisign -G; minisign -V verifies what this command signs. Put the \
                signature beside the flist on the hub. \(Password.help)
                """)

        @Argument(help: "Local file.") var flist: String
        @Option(name: .customShort("s"), help: ArgumentHelp("File with the secret key.", valueName: "SECRETKEY")) var secretKey: String
        @Option(name: .shortAndLong, help: ArgumentHelp("Where the signature goes.", valueName: "FLIST.minisig")) var output: String?
        @Option(name: .shortAndLong, help: "Comment that is not signed.") var comment = "signature from chunkmesh"
        @Option(
            name: .shortAndLong,
            help: ArgumentHelp("Comment that is signed too. Default: time and name of the file.", valueName: "TRUSTED"))
        var trusted: String?

        func run() throws {
            guard let path = FlistName.localFile(flist) else { throw ControlError.broken("\(flist): no such file") }
            let file = try MinisignFile.secretKey(secretKey)
            // Asked for before the time that hashing takes.
            let password = file.isEncrypted ? try Password.known() : []
            if file.isEncrypted, isatty(2) == 1 { Terminal.error("opening the secret key…") }
            let key: MinisignSecretKey
            do throws(MinisignError) { key = try file.unlock(password: password) } catch { throw error.at(secretKey) }
            let name = flist.split(separator: "/").last.map(String.init) ?? flist
            // Control characters of a name would not be taken.
            let shown = String(String.UnicodeScalarView(name.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? "_" : $0 }))
            let signature = try key.sign(
                digest: try MinisignFile.digest(of: path), untrustedComment: comment,
                trustedComment: trusted ?? "timestamp:\(time(nil))\tfile:\(shown)\thashed")
            let target = output ?? flist + MinisignFile.suffix
            try NewFile.write(signature.fileBytes, to: target, mode: 0o644)
            Terminal.error("\(target): signed with the key \(key.publicKey.id)")
        }
    }
}
