// Linux calls that the Glibc module does not export.
#include <errno.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

extern int pipe2(int[2], int);
extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int syncfs(int);
extern int renameat2(int, const char *, int, const char *, unsigned int);

// <sys/mount.h> and <linux/fs.h> each declare the flags; these calls are all that is needed of them.
extern int mount(const char *, const char *, const char *, unsigned long, const void *);
extern int umount2(const char *, int);
extern int unshare(int);

// ioctl is variadic.
static inline int chunkmesh_ioctl(int descriptor, unsigned long request, void *argument) { return ioctl(descriptor, request, argument); }

// cachestat(2), Linux 6.5 and later, which has one number on all machines; the C library knows neither it nor, at times, its structures.
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
// Pages of the range that are in memory, or -1 with errno.
static inline int64_t chunkmesh_cached_pages(int descriptor, uint64_t offset, uint64_t length) {
    struct { uint64_t offset, length; } range = {offset, length};
    struct { uint64_t cached, dirty, writeback, evicted, recently_evicted; } found = {0, 0, 0, 0, 0};
    return syscall(451, descriptor, &range, &found, 0u) == 0 ? (int64_t)found.cached : -1;
}
