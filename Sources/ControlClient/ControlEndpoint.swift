/// Where a daemon's API answers: `http://host:port` or `unix:/path`.
public enum ControlEndpoint: Sendable, Equatable, CustomStringConvertible {
    case unix(String)
    case http(String)

    /// - Throws: `ControlError.usage` when `text` is neither form.
    public init(_ text: String) throws(ControlError) {
        if text.hasPrefix("unix:"), text.count > 5 {
            self = .unix(String(text.dropFirst(text.hasPrefix("unix://") ? 7 : 5)))
        } else if text.hasPrefix("/") {
            self = .unix(text)
        } else if text.hasPrefix("http://") || text.hasPrefix("https://") {
            self = .http(text.hasSuffix("/") ? String(text.dropLast()) : text)
        } else {
            throw .usage("--api takes http://host:port or unix:/path, not \(text)")
        }
    }

    public var description: String {
        switch self {
        case .unix(let path): "unix:\(path)"
        case .http(let url): url
        }
    }
}

/// Why a command got no answer from the daemon that it can use.
public enum ControlError: Error, Sendable, Equatable, CustomStringConvertible {
    case usage(String)
    /// Nothing listens there.
    case noDaemon(ControlEndpoint, String)
    /// The daemon answered with an error.
    case refused(status: Int, String)
    /// The connection broke, or the answer makes no sense.
    case broken(String)
    /// The receiver of the bytes asked to stop.
    case stopped

    public var description: String {
        switch self {
        case .usage(let line): line
        case .noDaemon(let endpoint, let reason):
            "no daemon answers at \(endpoint) (\(reason)); start chunkmeshd, or say where it is with --api"
        case .refused(_, let line): line
        case .broken(let line): line
        case .stopped: "interrupted"
        }
    }
}
