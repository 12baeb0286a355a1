internal import Flist
internal import ReadClient
internal import UpstreamStores

/// Why something of an flist was not had. `description` is one clear line.
public struct FlistReadError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: Hashable, Sendable {
        /// No such flist, path, or chunk anywhere.
        case notFound
        /// No source answers at the moment.
        case unavailable
        /// A directory was to be read, a file to be listed, a range makes no sense.
        case badRequest
        /// The flist, or what it says of the file, cannot be used.
        case damaged
        /// No answer within the deadline.
        case timedOut
        /// No daemon answers.
        case noDaemon
        /// The task was cancelled.
        case cancelled
        /// This machine lacks something: a descriptor, a thread, room for a temporary file.
        case system
    }

    public let code: Code
    public let description: String

    public init(_ code: Code, _ description: String) { (self.code, self.description) = (code, description) }

    /// What the parts of this library throw, in its own words.
    init(_ error: any Error) {
        switch error {
        case let error as FlistReadError: self = error
        case let error as ReadClientError:
            let code: Code =
                switch error.code {
                case .notFound: .notFound
                case .unavailable: .unavailable
                case .badRequest: .badRequest
                case .damaged: .damaged
                case .timedOut: .timedOut
                case .noDaemon: .noDaemon
                case .cancelled: .cancelled
                case .notKept, .broken: .system
                }
            self.init(code, error.description)
        case let error as FlistError:
            let code: Code =
                switch error.code {
                case .notFound: .notFound
                case .notDirectory, .linkLoop: .badRequest
                case .notFlist, .damaged, .badEntry, .badBlocks: .damaged
                case .unreadable: .system
                }
            self.init(code, error.message)
        case let error as UpstreamError:
            if case .missing = error { self.init(.notFound, "\(error)") } else { self.init(.unavailable, "\(error)") }
        case is CancellationError: self.init(.cancelled, "cancelled")
        default: self.init(.unavailable, "\(error)")
        }
    }
}
