internal import ControlModel
internal import HummingbirdCore
internal import Logging
internal import NIOCore
internal import Synchronization

/// Sends `StoredParts` by `sendfile`: stands between the encoder of HTTP and the socket.
///
/// A file that cannot be read any more ends the connection amid the answer, whose length was announced: the client sees that it is short.
final class FileSender: ChannelOutboundHandler {
    /// Parts of all connections that are being sent.
    static let sending = Atomic(0)

    typealias OutboundIn = IOData
    typealias OutboundOut = IOData

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .byteBuffer(let buffer) = unwrapOutboundIn(data), let part = StoredParts.part(of: buffer) else {
            return context.write(data, promise: promise)
        }
        switch part {
        case .stored(let bytes): send(bytes, context, promise)
        case .buffers(let buffers):
            for buffer in buffers.dropLast() { write(context: context, data: wrapOutboundOut(.byteBuffer(buffer)), promise: nil) }
            write(context: context, data: wrapOutboundOut(.byteBuffer(buffers.last ?? ByteBuffer())), promise: promise)
        }
    }

    private func send(_ bytes: StoredBytes, _ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>?) {
        // The descriptor stays its owner's, who lives until the last byte is on its way.
        let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: bytes.descriptor)
        let region = FileRegion(
            fileHandle: handle, readerIndex: Int(clamping: bytes.range.lowerBound), endIndex: Int(clamping: bytes.range.upperBound))
        let sent = promise ?? context.eventLoop.makePromise()
        Self.sending.add(1, ordering: .relaxed)
        sent.futureResult.whenComplete { _ in
            withExtendedLifetime(bytes) { _ = try? handle.takeDescriptorOwnership() }
            Self.sending.subtract(1, ordering: .relaxed)
        }
        context.write(wrapOutboundOut(.fileRegion(region)), promise: sent)
    }
}

/// HTTP/1.1 whose answers may be of files: with `KeptFiles` before the router, and a `FileSender`.
struct FileSendingChannel: ServerChildChannel {
    typealias Value = HTTP1Channel.Value
    private let http: HTTP1Channel

    init(_ responder: @escaping HTTPChannelHandler.Responder, node: any NodeControl) {
        http = HTTP1Channel(responder: responder, configuration: .init(additionalChannelHandlers: [KeptFiles(node)]))
    }

    func setup(channel: any Channel, logger: Logger) -> EventLoopFuture<Value> {
        channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(FileSender(), position: .first) }
            .flatMap { http.setup(channel: channel, logger: logger) }
    }

    func handle(value: Value, logger: Logger) async { await http.handle(value: value, logger: logger) }
}
