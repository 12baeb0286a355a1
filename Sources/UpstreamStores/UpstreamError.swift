/// Why an upstream gave no chunk.
public enum UpstreamError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The upstream answered, and it does not have the chunk in either layout: ask the next source.
    case missing
    /// The upstream did not answer as it should; the chunk may exist there. `retryable` when a later attempt may go better.
    case failed(retryable: Bool, line: String)
    /// The upstream can never be asked: its scheme is not supported, its URL is none, or no route covers the chunk.
    case unusable(line: String)
    /// The caller's task was cancelled.
    case cancelled

    public var description: String {
        switch self {
        case .missing: "not found upstream"
        case .failed(_, let line), .unusable(let line): line
        case .cancelled: "cancelled"
        }
    }

    /// Whether asking again later may help.
    public var isRetryable: Bool {
        if case .failed(let retryable, _) = self { return retryable }
        return false
    }
}
