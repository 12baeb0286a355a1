internal import Minisign

extension Setting {
    /// Public keys of minisign, each as its base64 or as the path of a `.pub` file, which is read.
    func signingKeys() throws -> [MinisignPublicKey] {
        let keys = try list { try $0.signingKey() }
        guard keys.count <= Configuration.Trust.maxKeys else {
            throw ValueError(reason: "takes at most \(Configuration.Trust.maxKeys) keys")
        }
        return keys
    }

    private func signingKey() throws(ValueError) -> MinisignPublicKey {
        let path = try path()
        if let key = try? MinisignPublicKey(base64: path) { return key }
        do throws(MinisignError) {
            return try MinisignFile.publicKey(path)
        } catch {
            throw ValueError(reason: "takes public keys of minisign (RW…) or paths of their .pub files; \(error)")
        }
    }
}
