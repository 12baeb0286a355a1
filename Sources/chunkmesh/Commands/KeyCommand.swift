import ArgumentParser
import ControlClient
import Glibc
import Minisign

struct Key: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Makes keys, of a mesh and to sign with; changes the key of a running mesh, and shuts nodes out.",
        subcommands: [Generate.self, ListKeys.self, Rotate.self, Revoke.self])

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "A new mesh key on stdout, or with --signing a key pair for flist sign.",
            discussion: """
                All nodes of a mesh hold the same mesh key, in the file that mesh.keyFile names (mode 0600).

                A pair to sign with goes into two files as minisign has them: the secret key into OUT, encrypted with a password, the public \
                key into OUT.pub and on stdout. \(Password.help)
                """)

        @Option(help: ArgumentHelp("Make a key pair of minisign instead.", valueName: "OUT")) var signing: String?
        @Flag(help: "With --signing: no password. Who reads the file can sign.") var noPassword = false
        @Flag(help: "With --signing: replace what is there.") var force = false

        func validate() throws {
            if signing == nil, noPassword || force { throw ValidationError("--no-password and --force go with --signing") }
        }

        func run() throws {
            guard let signing else { return Terminal.out(MeshKeyText.generate()) }
            let publicFile = signing + ".pub"
            for path in [signing, publicFile] where !force && access(path, F_OK) == 0 {
                throw ControlError.broken("\(path) is there already; --force replaces it")
            }
            let password = noPassword ? nil : try Password.new()
            let key = MinisignSecretKey.generate()
            let secret = try MinisignSecretKeyFile.text(of: key, password: password)
            try NewFile.write(Array(secret.utf8), to: signing, mode: 0o600)
            try NewFile.write(Array(key.publicKey.fileText.utf8), to: publicFile, mode: 0o644)
            Terminal.out("\(key.publicKey)")
            Terminal.error("secret key in \(signing): keep it to yourself; public key in \(publicFile), for trust.keys of the nodes")
        }
    }
}
