internal import Flist
internal import Glibc

extension MountPoint {
    /// Takes an flist's mount away, with its overlay: also when its helper is gone, and when readers hang.
    ///
    /// - Parameter patience: how long what is busy is tried for; then it is detached.
    /// - Returns: whether it had to be detached.
    /// - Throws: when no flist is mounted there, or it is not allowed.
    public static func unmountFlist(_ name: String, patience: Duration) throws(MountError) -> Bool {
        let directory = try place(name)
        let table = MountTable.current()
        let bytes = Array(directory.utf8)
        guard let top = table.top(at: directory), let lower = table.mounts.last(where: { $0.directory == bytes && $0.type == type }),
            top == lower || isOverlay(top, over: directory)
        else { throw MountError(.failed, "\(FlistPath.quoted(bytes)): no flist is mounted there") }
        let end = ContinuousClock.now + patience
        var wasDetached = false
        if top != lower { wasDetached = try unmount(directory, device: top.device, patience: patience) }
        // The helper does the same when the overlay is gone: whoever comes first.
        let left = max(.zero, end - .now)
        do throws(MountError) {
            return try unmount(directory, device: lower.device, patience: left) || wasDetached
        } catch {
            if MountTable.current().mounts.contains(where: { $0.directory == bytes && $0.device == lower.device }) { throw error }
            return wasDetached
        }
    }

    private static func isOverlay(_ mount: MountTable.Mount, over directory: String) -> Bool {
        mount.type == "overlay" && String(decoding: mount.options, as: UTF8.self).contains("lowerdir=\(escaped(directory)),")
    }

    /// The whole path of `name`; its last component is not looked at, since a mount without a helper answers nobody.
    private static func place(_ name: String) throws(MountError) -> String {
        if let resolved = realpath(name, nil) {
            defer { free(resolved) }
            return String(cString: resolved)
        }
        let parts = name.split(separator: "/", omittingEmptySubsequences: true)
        guard let last = parts.last, last != ".", last != ".." else {
            throw MountError(.failed, "\(FlistPath.quoted(Array(name.utf8))): \(String(cString: strerror(errno)))")
        }
        let above = (name.hasPrefix("/") ? "/" : "./") + parts.dropLast().joined(separator: "/")
        guard let resolved = realpath(above, nil) else {
            throw MountError(.failed, "\(FlistPath.quoted(Array(name.utf8))): \(String(cString: strerror(errno)))")
        }
        defer { free(resolved) }
        let folder = String(cString: resolved)
        return folder == "/" ? "/\(last)" : "\(folder)/\(last)"
    }
}
