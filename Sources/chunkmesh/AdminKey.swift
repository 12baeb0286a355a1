import ControlClient
import Glibc
import Minisign

/// The secret key of the mesh's admin (`mesh.admin`), for a command that signs.
struct AdminKey {
    private let key: MinisignSecretKey

    /// - Throws: one line that names the file.
    init(file path: String) throws {
        let file = try MinisignFile.secretKey(path)
        let password = file.isEncrypted ? try Password.known() : []
        if file.isEncrypted, isatty(2) == 1 { Terminal.error("opening the secret key…") }
        do throws(MinisignError) { key = try file.unlock(password: password) } catch { throw error.at(path) }
    }

    /// The text of a signature file with comments as short as they may be.
    func sign(_ text: [UInt8]) throws -> String {
        let signature = try key.sign(message: text, untrustedComment: "chunkmesh", trustedComment: "timestamp:\(time(nil))")
        return String(decoding: signature.fileBytes, as: UTF8.self)
    }
}
