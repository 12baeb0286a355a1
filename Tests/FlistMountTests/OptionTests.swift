import Testing

@testable import FlistMount

@Suite struct OptionTests {
    @Test func whatMountPassesOnIsTakenOrIgnored() throws {
        let options = try MountOptions([
            "rw,noatime,allow_other,_netdev,nofail,x-systemd.automount,x-systemd.requires=a b,user=me,defaults",
            "uid=1000,gid=0,timeout=5,store=http://a/b,store=dir:///c,api=/run/x.sock,nosuid,prefetch",
        ])
        #expect(options.allowOther && options.uid == 1000 && options.gid == 0 && options.timeout == 5 && options.prefetch)
        #expect(options.stores == ["http://a/b", "dir:///c"] && options.api == "/run/x.sock" && options.noSetID)
        #expect(options.overlay == nil && options.isWritable, "mount(8) says rw to everything")
    }

    @Test func overlaysAreAskedForByName() throws {
        #expect(try MountOptions(["rw,overlay"]).overlay == MountOptions.Overlay())
        #expect(try MountOptions(["upperdir=/u\\,v,workdir=/w"]).overlay == MountOptions.Overlay(upper: "/u,v", work: "/w"))
        #expect(throws: MountError.self) { try MountOptions(["upperdir=/u"]) }
    }

    @Test(arguments: [
        "uid=x", "uid=-1", "uid=4294967295", "timeout=0", "timeout=1e9", "foo", "foo=bar", "store=", "ro=1", "allow_other=yes", "nofail=1",
    ])
    func whatIsWrongIsNamed(option: String) {
        let error = #expect(throws: MountError.self) { try MountOptions([option]) }
        #expect(error?.code == .usage)
    }

    @Test func argumentsComeAsMountGivesThem() throws {
        let arguments = try MountArguments(["a.fl", "/mnt", "-v", "-o", "ro", "-t", "flist", "-N", "1", "-sn"])
        #expect(arguments.source == "a.fl" && arguments.directory == "/mnt" && arguments.isVerbose && !arguments.isFake)
        #expect(try MountArguments(["-f", "a", "b", "-oro,uid=3"]).options.uid == 3)
        #expect(try MountArguments(["-o", "ro", "--", "-a", "-b"]).source == "-a")
        for words in [["a"], ["a", "b", "c"], ["a", "b", "-o"], ["a", "b", "-x"], []] {
            #expect(throws: MountError.self) { try MountArguments(words) }
        }
    }

    @Test func mountinfoIsRead() {
        let text = """
            36 35 98:0 / /mnt\\040a rw,noatime master:1 - ext3 /dev/root rw,errors=continue
            43 289 0:39 / /mnt/b ro,relatime - fuse.flist a\\134b ro,user_id=0
            46 43 0:40 / /mnt/b rw - overlay flist rw,lowerdir=/mnt/b,upperdir=/u
            nonsense
            1 2 3 - x
            """
        let table = MountTable(parsing: Array(text.utf8))
        #expect(table.mounts.map(\.id) == [36, 43, 46])
        #expect(table.top(at: "/mnt a")?.type == "ext3" && table.top(at: "/mnt/b")?.device == "0:40")
        #expect(table.mounts[1].source == Array("a\\b".utf8))
    }
}
