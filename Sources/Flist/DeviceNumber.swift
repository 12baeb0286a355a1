/// glibc's dev_t, as `.fl` records it in `rdev` (FORMATS.md §1.2).
public enum DeviceNumber {
    public static func encoded(major: UInt32, minor: UInt32) -> UInt64 {
        let (major, minor) = (UInt64(major), UInt64(minor))
        return (major & ~0xfff) << 32 | (major & 0xfff) << 8 | (minor & ~0xff) << 12 | (minor & 0xff)
    }

    static func decoded(_ device: UInt64) -> (major: UInt32, minor: UInt32) {
        (
            UInt32(truncatingIfNeeded: ((device >> 8) & 0xfff) | ((device >> 32) & ~0xfff)),
            UInt32(truncatingIfNeeded: (device & 0xff) | ((device >> 12) & ~0xff))
        )
    }
}
