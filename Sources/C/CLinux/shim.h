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
