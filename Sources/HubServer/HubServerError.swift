/// Why the hub could not serve.
public struct HubServerError: Error, Sendable, CustomStringConvertible {
    public let description: String

    init(_ line: String) { description = line }
}
