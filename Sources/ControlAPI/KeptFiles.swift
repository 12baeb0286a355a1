internal import ControlModel
internal import Glibc
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import NIOHTTPTypes

/// Answers requests for files that lie decoded in memory, on the connection's own thread: without a task, and in one go with the head.
///
/// It stands before the router and takes from it only what can be answered without waiting; everything else passes. Answers keep the order of
/// their requests: while the router has one, or the client does not take what was sent, everything passes.
final class KeptFiles: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let node: any NodeControl
    /// Requests that the router has and has not answered.
    private var passed = 0
    /// The rest of a request that was answered is still to come.
    private var isAnswered = false
    /// Answers that the socket has not taken yet, and what ends the connection after them.
    private var sending = 0
    private var ending: ChannelShouldQuiesceEvent?
    private var date = (second: 0, text: "")
    /// What was asked for last: clients ask for one file in many ranges.
    private var last: (path: String, place: FilesPath, type: String)?

    init(_ node: any NodeControl) { self.node = node }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            if passed == 0, ending == nil, context.channel.isWritable, let (response, bytes) = answer(head) {
                isAnswered = true
                return send(response, bytes, context)
            }
            passed += 1
        case .body where isAnswered: return
        case .end where isAnswered:
            isAnswered = false
            return
        default: break
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else { return context.write(data, promise: promise) }
        passed = max(0, passed - 1)
        context.write(data, promise: sent(context, promise))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // The server closes a connection as soon as its answers are written, whether the socket has taken them or not.
        if sending > 0 || passed > 0, let event = event as? ChannelShouldQuiesceEvent {
            ending = event
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    private func send(_ response: HTTPResponse, _ bytes: StoredBytes, _ context: ChannelHandlerContext) {
        context.write(wrapOutboundOut(.head(response)), promise: nil)
        context.write(wrapOutboundOut(.body(StoredParts.buffer(bytes))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: sent(context, nil))
    }

    /// Counts an answer until its end is on its way.
    private func sent(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) -> EventLoopPromise<Void> {
        sending += 1
        let promise = promise ?? context.eventLoop.makePromise()
        promise.futureResult.assumeIsolated().whenComplete { _ in
            self.sending -= 1
            guard self.sending == 0, self.passed == 0, let ending = self.ending else { return }
            self.ending = nil
            context.fireUserInboundEventTriggered(ending)
        }
        return promise
    }

    /// - Returns: `nil` for what the router is to answer.
    private func answer(_ head: HTTPRequest) -> (HTTPResponse, StoredBytes)? {
        guard head.method == .get, let path = head.path, path.hasPrefix("/v1/flists/"), Self.isPlain(head.headerFields) else { return nil }
        if last?.path != path {
            guard let place = try? FilesPath(Request(head: head, body: RequestBody(buffer: ByteBuffer()))), place.kind == "files" else {
                return nil
            }
            last = (path, place, ContentType.of(place.path))
        }
        guard let (_, place, type) = last, LocalOnly<BasicRequestContext>.refusal(head) == nil,
            let file = node.kept(place.flist, path: place.path)
        else { return nil }
        let answer = FileAnswer(file, type: type, to: head)
        guard let bytes = answer.body?.stored else { return nil }
        var headers = answer.headers
        LocalOnly<BasicRequestContext>.guardContent(&headers)
        let now = time(nil)
        if now != date.second { date = (now, HTTPDate.format(Int64(now))) }
        headers[.date] = date.text
        return (HTTPResponse(status: answer.status, headerFields: headers), bytes)
    }

    /// Whether the request has no body, and says nothing of the connection.
    private static func isPlain(_ headers: HTTPFields) -> Bool {
        guard headers[.contentLength] == nil, headers[.transferEncoding] == nil, headers[.upgrade] == nil else { return false }
        guard let connection = headers[.connection] else { return true }
        return connection.lowercased() == "keep-alive"
    }
}
