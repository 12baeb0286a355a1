import ChunkModel
import Flist
import FlistMount
import Glibc

/// Where the writes of an overlay go.
struct OverlayPlace {
    /// Below it stand the directories of overlays that name none.
    private static let state = "/var/lib/chunkmesh/mounts"

    let upper: String
    let work: String

    /// - Throws: when they cannot be made.
    init(_ overlay: MountOptions.Overlay, _ opened: OpenedFlist, _ directory: String) throws(MountError) {
        guard geteuid() == 0 else { throw MountError(.usage, "an overlay (rw) needs root") }
        if let upper = overlay.upper, let work = overlay.work {
            (self.upper, self.work) = (try MountPoint.directory(upper), try MountPoint.directory(work))
            return
        }
        // By place and image: what was written over one image is not shown over another.
        let name = Self.name(opened.identity, directory)
        (upper, work) = ("\(Self.state)/\(name)/upper", "\(Self.state)/\(name)/work")
        for path in ["/var/lib/chunkmesh", Self.state, "\(Self.state)/\(name)", upper, work] {
            guard mkdir(path, path == upper ? 0o755 : 0o700) == 0 || errno == EEXIST else {
                throw MountError(.failed, "\(path): \(String(cString: strerror(errno)))")
            }
        }
        // An overlay's root looks as its upper directory does.
        let root = opened.flist.root()
        guard chown(upper, root.uid, root.gid) == 0, chmod(upper, mode_t(root.permissions)) == 0 else {
            throw MountError(.failed, "\(upper): \(String(cString: strerror(errno)))")
        }
    }

    private static func name(_ identity: String, _ directory: String) -> String {
        let hash = Blake2bStream()
        Array((directory + "\0" + identity).utf8).withUnsafeBytes { hash.update($0) }
        return String(hash.finish().hex.prefix(32))
    }
}
