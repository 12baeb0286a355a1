public import ControlModel
internal import LineBudget

/// The node as its API sees it: the line.
extension MeshNode {
    /// The longest pause that ends by itself: a year.
    static let longestPause: Int64 = 366 * 86_400

    public func line() async -> Line { parts.line.shown(name: configuration.node.name) }

    public func setLine(_ request: LineRequest) async throws(NodeError) -> Line {
        switch request.action {
        case .pause:
            if let seconds = request.seconds, !(1...Self.longestPause).contains(seconds) {
                throw .badRequest("seconds is a number from 1 to \(Self.longestPause)")
            }
            parts.line.pause(request.all == true ? .all : .background, seconds: request.seconds)
        case .resume:
            guard request.seconds == nil, request.all == nil else { throw .badRequest("all and seconds go with pause only") }
            parts.line.pause(.none, seconds: nil)
        }
        // What a restart must find is on disk before it is answered.
        await parts.threads.run { [parts] in parts.line.saveNow() }
        return await line()
    }
}
