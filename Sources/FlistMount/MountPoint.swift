internal import CLinux
internal import Flist
internal import Glibc

/// Makes and removes mounts.
public enum MountPoint {
    private static let readOnly: UInt = 1
    private static let noSetID: UInt = 2
    private static let noDevices: UInt = 4
    private static let noExec: UInt = 8
    private static let detach: Int32 = 2
    private static let noFollow: Int32 = 8
    /// Bytes of options that mount(2) takes.
    private static let maxOptions = 4095
    /// KiB that the kernel reads ahead in one file: the largest READ.
    private static let readAhead = 1024
    /// Between two tries to unmount what is busy.
    private static let retryStep: UInt32 = 50_000

    /// What mountinfo shows as the type.
    public static let type = "fuse.flist"

    /// The whole path of a directory that may be mounted on.
    public static func directory(_ name: String) throws(MountError) -> String {
        let shown = FlistPath.quoted(Array(name.utf8))
        guard let resolved = realpath(name, nil) else {
            if errno == ENOTCONN {
                throw MountError(.failed, "\(shown): a mount whose helper is gone stands there; `chunkmesh umount` removes it")
            }
            throw MountError(.failed, "\(shown): \(String(cString: strerror(errno)))")
        }
        defer { free(resolved) }
        var status = stat()
        guard stat(resolved, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw MountError(.failed, "\(shown): not a directory")
        }
        return String(cString: resolved)
    }

    /// Mounts the flist that `source` names at `directory`, read-only: by mount(2) as root, else by fusermount3.
    ///
    /// - Parameter held: a connection that stands already, by root.
    /// - Returns: the descriptor of the connection, for `MountSession`.
    public static func mount(
        source: String, at directory: String, _ options: MountOptions, held: HeldConnection? = nil
    ) throws(MountError) -> Int32 {
        if let held { return try mountAsRoot(source, directory, options, FuseDevice(owning: held.descriptor())) }
        guard geteuid() == 0 else { return try Fusermount.mount(source: source, at: directory, options) }
        return try mountAsRoot(source, directory, options, FuseDevice.open())
    }

    private static func mountAsRoot(
        _ source: String, _ directory: String, _ options: MountOptions, _ device: FuseDevice
    ) throws(MountError) -> Int32 {
        var flags = readOnly
        if options.noSetID { flags |= noSetID }
        if options.noDevices { flags |= noDevices }
        if options.noExec { flags |= noExec }
        // A directory as the root, its owner's permissions judged by the kernel. Another user is let in only where that is wanted.
        var data = "fd=\(device.descriptor),rootmode=40755,user_id=0,group_id=0,default_permissions"
        if options.allowOther { data += ",allow_other" }
        guard CLinux.mount(source, directory, type, flags, data) == 0 else {
            throw failure(of: directory)
        }
        let descriptor = dup(device.descriptor)
        guard descriptor >= 0, fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0 else {
            let error = failure(of: directory)
            _ = umount2(directory, detach)
            throw error
        }
        return descriptor
    }

    /// Puts an overlay over what is mounted at `directory`: everything that is written goes to `upper`.
    public static func overlay(_ directory: String, upper: String, work: String, _ options: MountOptions) throws(MountError) {
        guard geteuid() == 0 else { throw MountError(.usage, "an overlay (rw) needs root") }
        let data = "lowerdir=\(escaped(directory)),upperdir=\(escaped(upper)),workdir=\(escaped(work))"
        guard data.utf8.count <= maxOptions else { throw MountError(.usage, "the paths of upperdir= and workdir= are too long") }
        var flags: UInt = 0
        if options.noSetID { flags |= noSetID }
        if options.noDevices { flags |= noDevices }
        if options.noExec { flags |= noExec }
        guard CLinux.mount("flist", directory, "overlay", flags, data) == 0 else {
            let reason = String(cString: strerror(errno))
            throw MountError(
                .failed,
                "no overlay over \(FlistPath.quoted(Array(directory.utf8))): \(reason); upperdir and workdir must be empty or from the same "
                    + "overlay, on one file system that is no overlay itself")
        }
    }

    /// overlayfs splits at commas, and lower directories at colons.
    static func escaped(_ path: String) -> String {
        path.reduce(into: "") { out, character in
            if character == "," || character == ":" || character == "\\" { out.append("\\") }
            out.append(character)
        }
    }

    private static func failure(of directory: String) -> MountError {
        let code: MountError.Code = errno == EPERM ? .usage : .failed
        return MountError(code, "\(FlistPath.quoted(Array(directory.utf8))) cannot be mounted: \(String(cString: strerror(errno)))")
    }

    /// Lets the kernel read ahead as much as one request holds. Where that is not allowed, it reads 128 KiB ahead.
    public static func raiseReadAhead(at directory: String) {
        guard let mount = MountTable.current().top(at: directory), mount.type == type else { return }
        let file = open("/sys/class/bdi/\(mount.device)/read_ahead_kb", O_WRONLY | O_CLOEXEC)
        guard file >= 0 else { return }
        let text = Array("\(readAhead)\n".utf8)
        _ = write(file, text, text.count)
        close(file)
    }

    /// Takes away the mount on top at `directory`, in a moment or lazily.
    ///
    /// - Parameters:
    ///   - device: `major:minor` of the only mount that may be taken away; `nil`: whichever is there.
    ///   - patience: how long a busy mount is tried for; then it is detached, and ends when its last user goes.
    /// - Returns: whether it had to be detached.
    /// - Throws: when nothing is mounted there, or it is not allowed.
    @discardableResult
    public static func unmount(_ directory: String, device: String? = nil, patience: Duration) throws(MountError) -> Bool {
        let end = ContinuousClock.now + patience
        while true {
            if let device, MountTable.current().top(at: directory)?.device != device { return false }
            if umount2(directory, noFollow) == 0 { return false }
            let code = errno
            if code == EPERM { return try Fusermount.unmount(directory, isLazy: false, until: end) }
            guard code == EBUSY else {
                let reason = code == EINVAL ? "not mounted" : String(cString: strerror(code))
                throw MountError(.failed, "\(FlistPath.quoted(Array(directory.utf8))): \(reason)")
            }
            guard ContinuousClock.now < end else { break }
            usleep(retryStep)
        }
        guard umount2(directory, noFollow | detach) == 0 else {
            throw MountError(.failed, "\(FlistPath.quoted(Array(directory.utf8))): \(String(cString: strerror(errno)))")
        }
        return true
    }
}
