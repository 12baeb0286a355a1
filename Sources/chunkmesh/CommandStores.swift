import FlistTools
import Glibc
import UpstreamStores

extension StoreOpener {
    /// The variable that names the file with credentials, for the command as for the daemon.
    static let credentialsVariable = "CHUNKMESH_UPSTREAM_CREDENTIALS_FILE"

    /// Nothing else can be asked meanwhile: a store that was well half a minute ago is waited for.
    static let patience: Duration = .seconds(30)

    /// For a command that works without a daemon, with the user's credentials.
    ///
    /// - Parameter named: store URLs of the command line.
    static func forCommand(named: [String]) throws -> StoreOpener {
        let file = getenv(credentialsVariable).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
        return StoreOpener(
            curl: CurlMulti(), credentials: try UpstreamCredentials.load(file: file), named: named,
            limits: UpstreamLimits(patience: patience))
    }
}

extension PackStore {
    /// The stores of a command line, `[XX-YY=]URL` each, opened for writing with the user's credentials.
    ///
    /// - Throws: with one line when nothing can be written to one of them.
    static func all(_ arguments: [String]) throws -> [PackStore] {
        let opener = try StoreOpener.forCommand(named: arguments.map { try split($0).rest })
        return try arguments.map { try PackStore(argument: $0) { try opener.openSink($0) } }
    }
}
