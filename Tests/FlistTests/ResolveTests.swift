import Flist
import Testing

@Suite struct ResolveTests {
    let made: MadeFlist
    let flist: FlistFile

    init() throws {
        var chain = MadeFlist.row(200, 1, "end")
        for n in 1...45 { chain += MadeFlist.link(Int64(200 + n), 1, "c\(n)", n == 1 ? "end" : "c\(n - 1)") }
        made = try MadeFlist(
            MadeFlist.directory(2, 1, "d"), MadeFlist.directory(3, 2, "e"), MadeFlist.row(4, 3, "f"), MadeFlist.link(5, 3, "up", "../.."),
            MadeFlist.link(6, 1, "abs", "/d/e/f"), MadeFlist.link(7, 1, "loop", "loop"), MadeFlist.link(8, 1, "dir", "d/e/"),
            MadeFlist.link(9, 1, "escape", "../../../../d"), MadeFlist.link(10, 1, "gone", "nowhere"),
            MadeFlist.link(11, 1, "fslash", "d/e/f/"), chain)
        flist = try made.open()
    }

    @Test(
        arguments: [
            ("/", 1), ("", 1), ("d", 2), ("/d//e/./f", 4), ("d/e/up/d", 2), ("abs", 4), ("dir", 3), ("dir/f", 4), ("escape/e", 3),
            ("..", 1),
            ("/../../d/../d", 2), ("c40", 200), ("d/e/", 3), ("dir/", 3),
        ] as [(String, Int64)])
    func pathsLeadSomewhere(path: String, ino: Int64) throws {
        #expect(try flist.resolve(bytes(path)).ino == ino)
    }

    @Test(arguments: [
        ("nothing", FlistError.Code.notFound), ("abs/x", .notDirectory), ("d/e/f/..", .notDirectory), ("loop", .linkLoop),
        ("c41", .linkLoop),
        ("gone", .notFound), ("abs/", .notDirectory), ("fslash", .notDirectory), ("d/e/f/", .notDirectory), ("a\0b", .notFound),
    ])
    func pathsFailClearly(path: String, code: FlistError.Code) {
        let error = #expect(throws: FlistError.self) { try flist.resolve(bytes(path)) }
        #expect(error?.code == code, "\(error?.message ?? "")")
    }

    @Test func theLastLinkIsFollowedOnlyWhenWanted() throws {
        #expect(try flist.resolve(bytes("abs"), followLinks: false).ino == 6)
        #expect(try flist.resolve(bytes("dir/up"), followLinks: false).ino == 5)
        #expect(try flist.resolve(bytes("dir/"), followLinks: false).ino == 3)
        #expect(try flist.resolve(bytes("gone"), followLinks: false).kind == .symlink(target: bytes("nowhere")))
    }

    @Test func whatIsShownIsQuoted() {
        #expect(FlistPath.quoted(bytes("/usr/lib/ä b-c")) == "/usr/lib/ä b-c")
        #expect(FlistPath.quoted(bytes("a\nb\u{1b}[31m")) == "\"a\\nb\\x1b[31m\"")
        #expect(FlistPath.quoted([0x61, 0xff, 0xc3, 0x28]) == "\"a\\xff\\xc3(\"")
        #expect(FlistPath.quoted([0xe2, 0x82]) == "\"\\xe2\\x82\"")
        #expect(FlistPath.quoted(bytes("x\u{202e}y\u{9b}")) == "\"x\\u{202e}y\\u{9b}\"")
        #expect(FlistPath.quoted(bytes("say \"hi\" \\")) == "\"say \\\"hi\\\" \\\\\"")
        #expect(FlistPath.quoted([]) == "\"\"")
        #expect(FlistPath.quoted([UInt8](repeating: 0x61, count: 1 << 20)).utf8.count < 5000)
    }
}
