internal import BlockingThreads
internal import Flist
internal import Glibc
internal import ReadProtocol

/// A program's way to the daemon on this machine: flists by name, content of their files as descriptors of decoded bytes.
///
/// One connection and one thread, for all flists. When the daemon goes, requests wait until it is back, or until their deadline. Use it from any
/// thread; it closes when the last reference goes and all its flists have gone.
public final class ReadClient: Sendable {
    /// How long a request waits for its answer when nothing else is said.
    public static let defaultDeadline: Duration = .seconds(60)

    let link: ReadLink
    /// For reading what is ready: a page that is not in memory takes as long as the disk.
    let threads = BlockingThreads(count: max(2, BlockingThreads.machineThreads))

    /// Connects when something is asked.
    ///
    /// - Parameters:
    ///   - socket: of the daemon, as `ReadClient.socket(ofAPI:)` has it.
    ///   - deadline: of each request; a daemon that is away is waited for as long.
    /// - Throws: `ReadClientError` when this process has no descriptor or thread left.
    public init(socket: String, deadline: Duration = ReadClient.defaultDeadline) throws(ReadClientError) {
        link = try ReadLink(socket: socket, deadline: deadline)
    }

    deinit { link.shut() }

    /// Where reads are answered by the daemon whose `api.socket` this is.
    public static func socket(ofAPI path: String) -> String { path + ".read" }

    /// Whether somebody listens there now. Returns at once.
    public static func answers(_ socket: String) -> Bool {
        let descriptor = ReadLinkThread.connected(socket)
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }

    /// Opens an flist by its name, digest, path on the daemon's machine, or URL, and its metadata in this process.
    public func open(_ name: String) async throws(ReadClientError) -> RemoteFlist {
        let number = link.addFlist(name)
        do {
            let reply = try await link.reply(to: .open(flist: number, name: name))
            return try await threads.result { () throws(ReadClientError) in try RemoteFlist(number, reply, self) }
        } catch {
            link.removeFlist(number)
            throw error
        }
    }

    /// The same for a thread that may block.
    public func openNow(_ name: String) throws(ReadClientError) -> RemoteFlist {
        let number = link.addFlist(name)
        do {
            return try RemoteFlist(number, try link.replyNow(to: .open(flist: number, name: name)), self)
        } catch {
            link.removeFlist(number)
            throw error
        }
    }
}

extension BlockingThreads {
    /// `run` with the body's own error.
    func result<R: Sendable, E: Error>(_ body: @escaping @Sendable () throws(E) -> R) async throws(E) -> R {
        let result: Result<R, E> = await run { Result { () throws(E) in try body() } }
        return try result.get()
    }
}
