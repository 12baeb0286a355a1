// Linux calls that the Glibc module does not export.
#include <errno.h>
#include <malloc.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int syncfs(int);
extern int renameat2(int, const char *, int, const char *, unsigned int);
